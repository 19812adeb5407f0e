use super::*;
use crate::core::CoreConfig;
use crate::digest::Descriptor;
use crate::images::Image;
use crate::labels::Labels;
use crate::leases::Resource;
use crate::snapshots::OVERLAYFS;
use crate::{Container, Kind, Runtime};

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

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn put(core: &Core, ns: &Namespace, text: &str, labels: &Labels) -> Digest {
    let mut ingest = core.content.ingest(ns, None, text, None).unwrap();
    ingest.write(text.as_bytes()).unwrap();
    ingest.commit(None, None, labels).unwrap().digest
}

fn has(core: &Core, ns: &Namespace, digest: &Digest) -> bool {
    match core.content.read(ns, digest, 1000) {
        Ok(_) => true,
        Err(err) => {
            assert_eq!(err.kind(), Kind::NotFound);
            false
        }
    }
}

#[test]
fn what_an_image_refers_to_stays_until_the_image_goes() {
    let (_dir, core, ns) = core();
    core.snapshots
        .prepare(&ns, OVERLAYFS, "k1", "", &Labels::new())
        .unwrap();
    core.snapshots
        .commit(&ns, OVERLAYFS, "base", "k1", &Labels::new())
        .unwrap();
    core.snapshots
        .prepare(&ns, OVERLAYFS, "k2", "base", &Labels::new())
        .unwrap();
    core.snapshots
        .commit(&ns, OVERLAYFS, "top", "k2", &Labels::new())
        .unwrap();
    core.snapshots
        .prepare(&ns, OVERLAYFS, "lost", "base", &Labels::new())
        .unwrap();
    let config = put(
        &core,
        &ns,
        "config",
        &labels(&[("containerd.io/gc.ref.snapshot.overlayfs", "top")]),
    );
    let manifest = put(
        &core,
        &ns,
        "manifest",
        &labels(&[("containerd.io/gc.ref.content.config", config.as_str())]),
    );
    let stray = put(
        &core,
        &ns,
        "stray",
        &labels(&[("containerd.io/gc.reference", manifest.as_str())]),
    );
    let kept = put(&core, &ns, "kept", &labels(&[(ROOT, "2024")]));
    core.images
        .create(&ns, Image::new("i", Descriptor::of("m", b"manifest")))
        .unwrap();
    let collected = collect(&core).unwrap();
    assert_eq!((collected.blobs, collected.snapshots), (1, 1));
    assert!(
        has(&core, &ns, &config)
            && has(&core, &ns, &manifest)
            && has(&core, &ns, &kept)
            && !has(&core, &ns, &stray)
    );
    core.snapshots.stat(&ns, OVERLAYFS, "base").unwrap();
    core.images.delete(&ns, "i").unwrap();
    let collected = collect(&core).unwrap();
    assert_eq!((collected.blobs, collected.snapshots), (2, 2));
    assert!(collected.bytes > 0);
    assert_eq!(collect(&core).unwrap(), Collected::default());
}

#[test]
fn leases_hold_until_they_end() {
    let (_dir, core, ns) = core();
    let child = put(&core, &ns, "child", &Labels::new());
    let parent = put(
        &core,
        &ns,
        "parent",
        &labels(&[("containerd.io/gc.ref.content", child.as_str())]),
    );
    let resource = Resource {
        kind: "content".to_owned(),
        id: parent.to_string(),
    };
    core.leases.create(&ns, "l", &Labels::new()).unwrap();
    core.leases.add_resource(&ns, "l", &resource).unwrap();
    let mut leased = core.content.ingest(&ns, Some("l"), "leased", None).unwrap();
    leased.write(b"leased").unwrap();
    leased.commit(None, None, &Labels::new()).unwrap();
    core.snapshots
        .leased(Some("l"))
        .prepare(&ns, OVERLAYFS, "k", "", &Labels::new())
        .unwrap();
    assert_eq!(collect(&core).unwrap(), Collected::default());
    core.leases.delete(&ns, "l").unwrap();
    core.leases
        .create(&ns, "flat", &labels(&[(FLAT, "1")]))
        .unwrap();
    core.leases.add_resource(&ns, "flat", &resource).unwrap();
    assert_eq!(collect(&core).unwrap().blobs, 2);
    assert!(has(&core, &ns, &parent) && !has(&core, &ns, &child));
    core.leases
        .create(&ns, "expired", &labels(&[(EXPIRE, "2001-01-01T00:00:00Z")]))
        .unwrap();
    core.leases.add_resource(&ns, "expired", &resource).unwrap();
    core.leases.delete(&ns, "flat").unwrap();
    assert_eq!(collect(&core).unwrap().blobs, 1);
    assert_eq!(
        core.leases.resources(&ns, "expired").unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn containers_keep_their_snapshots_and_tenants_do_not_keep_each_others() {
    let (_dir, core, ns) = core();
    let other = Namespace::parse("other").unwrap();
    core.snapshots
        .prepare(&ns, OVERLAYFS, "c", "", &Labels::new())
        .unwrap();
    core.snapshots
        .prepare(&other, OVERLAYFS, "c", "", &Labels::new())
        .unwrap();
    let runtime = Runtime {
        name: "r".to_owned(),
        options: None,
    };
    let container = Container {
        id: "c".to_owned(),
        runtime,
        snapshotter: OVERLAYFS.to_owned(),
        snapshot_key: "c".to_owned(),
        ..Container::default()
    };
    core.containers.create(&ns, container).unwrap();
    assert_eq!(collect(&core).unwrap().snapshots, 1);
    core.snapshots.stat(&ns, OVERLAYFS, "c").unwrap();
    assert_eq!(
        core.snapshots
            .stat(&other, OVERLAYFS, "c")
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
}

#[test]
fn an_ingest_in_flight_survives() {
    let (_dir, core, ns) = core();
    let mut ingest = core.content.ingest(&ns, None, "r", None).unwrap();
    ingest.write(b"half").unwrap();
    core.db
        .write(|tx| Ok(tx.execute("UPDATE ingests SET started_at = 0", [])?))
        .unwrap();
    collect(&core).unwrap();
    ingest.write(b" and half").unwrap();
    drop(ingest);
    assert_eq!(core.content.status(&ns, "r").unwrap().offset, 13);
    collect(&core).unwrap();
    assert_eq!(
        core.content.status(&ns, "r").unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn an_ingest_without_a_byte_goes_once_nobody_writes_it() {
    let (_dir, core, ns) = core();
    let empty = core.content.ingest(&ns, None, "empty", None).unwrap();
    let mut half = core.content.ingest(&ns, None, "half", None).unwrap();
    half.write(b"half").unwrap();
    drop(half);
    collect(&core).unwrap();
    assert!(core.content.status(&ns, "empty").is_ok());
    drop(empty);
    collect(&core).unwrap();
    assert_eq!(
        core.content.status(&ns, "empty").unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(core.content.status(&ns, "half").unwrap().offset, 4);
}
