use std::fs;

use super::*;
use crate::core::CoreConfig;
use crate::filter::Filters;
use crate::layers::archive::Archive;
use crate::snapshots::OVERLAYFS;

fn core() -> (tempfile::TempDir, Core, Namespace) {
    let dir = tempfile::tempdir().unwrap();
    let config = CoreConfig {
        root: dir.path().join("root"),
        state: dir.path().join("state"),
        address: dir.path().join("sock"),
        shim_dirs: Vec::new(),
        shim_debug: false,
        registry: registry::Config::default(),
    };
    let core = Core::open(config).unwrap();
    (dir, core, Namespace::default())
}

fn put(core: &Core, ns: &Namespace, bytes: &[u8]) -> Descriptor {
    let mut ingest = core.content.ingest(ns, None, &unique(), None).unwrap();
    ingest.write(bytes).unwrap();
    ingest.commit(None, None, &Labels::new()).unwrap();
    Descriptor::of("application/vnd.oci.image.layer.v1.tar", bytes)
}

fn image(core: &Core, ns: &Namespace, layers: &[Vec<u8>]) -> ResolvedImage {
    let config = put(core, ns, b"{}");
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    ResolvedImage {
        manifest: config.clone(),
        config,
        image_config: oci_spec::image::ImageConfiguration::default(),
        layers: layers.iter().map(|layer| put(core, ns, layer)).collect(),
        chain_id: chain_ids(&diff_ids).pop(),
        diff_ids,
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    let lower = Archive::default()
        .dir("etc", 0o711)
        .file("etc/a", b"a")
        .file("etc/b", b"b");
    let upper = Archive::default()
        .file("etc/.wh.a", b"")
        .file("etc/c", b"c");
    [lower.finish(), upper.finish()]
}

fn names(core: &Core, ns: &Namespace) -> Vec<String> {
    core.snapshots
        .list(ns, OVERLAYFS, &Filters::default())
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect()
}

#[test]
fn layers_become_a_chain_that_collection_keeps() {
    let (_dir, core, ns) = core();
    let image = image(&core, &ns, &two_layers());
    let mut seen = Vec::new();
    let top = unpack(&core, &ns, OVERLAYFS, &image, &mut |progress| {
        seen.push(progress)
    })
    .unwrap();
    let chain = chain_ids(&image.diff_ids);
    assert_eq!((Some(&top), seen.len()), (chain.last(), 4));
    assert_eq!(
        core.snapshots
            .stat(&ns, OVERLAYFS, top.as_str())
            .unwrap()
            .parent,
        chain[0].as_str()
    );
    let dirs = core
        .snapshots
        .layer_dirs(&ns, OVERLAYFS, top.as_str())
        .unwrap();
    let etc = fs::metadata(dirs[0].join("etc")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&etc) & 0o777, 0o711);
    seen.clear();
    unpack(&core, &ns, OVERLAYFS, &image, &mut |progress| {
        seen.push(progress)
    })
    .unwrap();
    assert!(
        seen.iter()
            .all(|progress| matches!(progress, UnpackProgress::Exists { .. }))
    );
    assert_eq!(core.leases.list(&ns, &Filters::default()).unwrap(), []);
    let root = crate::images::Image::new("i", image.config.clone());
    core.images.create(&ns, root).unwrap();
    gc::collect(&core).unwrap();
    assert_eq!(names(&core, &ns).len(), 2);
}

#[test]
fn many_at_once_agree() {
    let (_dir, core, ns) = core();
    let image = image(&core, &ns, &two_layers());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| unpack(&core, &ns, OVERLAYFS, &image, &mut |_| {}).unwrap());
        }
    });
    let mut expected: Vec<_> = chain_ids(&image.diff_ids)
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.sort();
    assert_eq!(names(&core, &ns), expected);
    assert_eq!(
        fs::read_dir(core.config.root.join("snapshots"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn a_corrupt_layer_is_named_and_leaves_nothing() {
    let (_dir, core, ns) = core();
    let mut image = image(&core, &ns, &two_layers());
    let blob = core
        .config
        .root
        .join("content/blobs/sha256")
        .join(image.layers[1].digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[600] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let err = unpack(&core, &ns, OVERLAYFS, &image, &mut |_| {}).unwrap_err();
    assert_eq!(err.kind(), Kind::DataLoss);
    assert!(
        crate::error::chain(&err).contains(image.layers[1].digest.as_str()),
        "{}",
        crate::error::chain(&err)
    );
    assert_eq!(names(&core, &ns).len(), 1);
    assert_eq!(
        fs::read_dir(core.config.root.join("snapshots"))
            .unwrap()
            .count(),
        1
    );

    image.diff_ids[0] = Digest::of(b"other");
    let err = unpack(&core, &ns, OVERLAYFS, &image, &mut |_| {}).unwrap_err();
    assert_eq!(err.kind(), Kind::DataLoss);
    assert!(err.to_string().contains(image.layers[0].digest.as_str()));
}

#[test]
fn an_unpack_that_was_killed_leaves_nothing_after_the_next_start() {
    let (_dir, core, ns) = core();
    let labels = Labels::from([(gc::OF_PROCESS.to_owned(), "unpack".to_owned())]);
    core.leases.create(&ns, "unpack-killed", &labels).unwrap();
    core.leases.create(&ns, "clients", &Labels::new()).unwrap();
    let leased = core.snapshots.leased(Some("unpack-killed"));
    leased
        .prepare(&ns, OVERLAYFS, "extract-1 x", "", &Labels::new())
        .unwrap();
    gc::collect(&core).unwrap();
    assert_eq!(names(&core, &ns).len(), 1);
    let config = core.config.clone();
    drop((core, leased));
    let core = Core::open(config).unwrap();
    gc::collect(&core).unwrap();
    assert_eq!(names(&core, &ns), Vec::<String>::new());
    assert_eq!(core.leases.list(&ns, &Filters::default()).unwrap().len(), 1);
}
