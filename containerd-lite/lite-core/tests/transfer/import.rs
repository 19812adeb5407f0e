//! Imports of archives that real tools write, that old tools wrote, and that
//! mean no good.

use std::process::Command;

use lite_core::import::import;
use lite_core::{Digest, Filters, Image, Kind, Result, chain};
use serde_json::{Value, json};

use crate::fixture::image::Entry::{self, File, Symlink};
use crate::fixture::image::{Layout, demo_layers, gzip, tar_of, with};
use crate::stores::Stores;

async fn load(stores: &Stores, archive: &[u8]) -> Result<Vec<Image>> {
    import(&stores.core, &stores.ns, archive).await
}

fn names(images: &[Image]) -> Vec<&str> {
    images.iter().map(|image| image.name.as_str()).collect()
}

/// Imports `archive`, which must fail with `kind` and a line that has `words`
/// in it, and leave nothing behind.
#[track_caller]
fn check_refused(archive: &[u8], kind: Kind, words: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let stores = Stores::new();
    let err = runtime.block_on(load(&stores, archive)).expect_err(words);
    let line = chain(&err);
    assert!(line.contains(words), "{line:?} lacks {words:?}");
    assert_eq!(err.kind(), kind, "{line}");
    stores.assert_nothing_but_litter();
    let ingests = stores
        .core
        .content
        .statuses(&stores.ns, &Filters::default())
        .expect("statuses");
    assert_eq!(ingests, []);
}

/// Writes the demo image with skopeo as `kind:file:suffix`.
fn by_skopeo(kind: &str, suffix: &str) -> Vec<u8> {
    let layout = Layout::demo();
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("image.tar");
    let output = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy"])
        .arg(format!("oci:{}:demo", layout.path().display()))
        .arg(format!("{kind}:{}:{suffix}", file.display()))
        .output()
        .expect("skopeo (Debian package skopeo)");
    assert!(
        output.status.success(),
        "skopeo: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(file).expect("archive")
}

/// `docker save` as before version 25: a directory for each layer, and equal
/// layers linked.
fn old_docker_save(tags: &Value) -> Vec<u8> {
    let [base, changes] = demo_layers();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [
            Digest::of(&base).as_str(), Digest::of(&changes).as_str(), Digest::of(&changes).as_str(),
        ]},
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": tags,
        "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"],
    }])
    .to_string();
    tar_of(&[
        Entry::Dir("one"),
        File("one/VERSION", b"1.0"),
        File("one/json", b"{}"),
        File("one/layer.tar", &base),
        Entry::Dir("two"),
        File("two/layer.tar", &changes),
        Entry::Dir("three"),
        Symlink("three/layer.tar", "../two/layer.tar"),
        File(&config_name, config.as_bytes()),
        File("manifest.json", manifest.as_bytes()),
        File("repositories", b"{}"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_layout_is_loaded_plain_and_compressed() {
    let plain = Layout::demo().archive();
    let zstd = zstd::encode_all(&plain[..], 1).expect("zstd");
    for archive in [gzip(&plain), zstd, plain] {
        let stores = Stores::new();
        let images = load(&stores, &archive).await.expect("load");
        assert_eq!(names(&images), ["docker.io/library/demo:latest"]);
        stores.files_of(&images[0]).assert_demo();
        stores.wait_for_no_lease();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_skopeo_are_loaded() {
    let stores = Stores::new();
    let oci = load(&stores, &by_skopeo("oci-archive", "owner/tool:1"))
        .await
        .expect("oci-archive");
    assert_eq!(names(&oci), ["docker.io/owner/tool:1"]);
    stores.files_of(&oci[0]).assert_demo();
    let docker = load(&stores, &by_skopeo("docker-archive", "tool:2"))
        .await
        .expect("docker-archive");
    assert_eq!(names(&docker), ["docker.io/library/tool:2"]);
    stores.files_of(&docker[0]).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_docker_save_is_loaded_under_each_of_its_tags() {
    let stores = Stores::new();
    let archive = old_docker_save(&json!(["demo:1", "localhost:5000/demo:2"]));
    let images = load(&stores, &archive).await.expect("load");
    assert_eq!(
        names(&images),
        ["docker.io/library/demo:1", "localhost:5000/demo:2"]
    );
    assert_eq!(images[0].target, images[1].target);
    stores.files_of(&images[1]).assert_demo();
    // The same again is the same.
    let again = load(&stores, &archive).await.expect("again");
    assert_eq!(images[0].target, again[0].target);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_name_is_stored_under_its_digest() {
    let stores = Stores::new();
    let images = load(&stores, &old_docker_save(&Value::Null))
        .await
        .expect("load");
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].name, images[0].target.digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_name_of_a_layout_wins_and_several_images_are_loaded() {
    let layout = Layout::new();
    let [base, changes] = demo_layers();
    let image = |layers: &[Vec<u8>], name: &str| {
        with(
            layout.image("amd64", layers),
            "annotations",
            json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": "latest",
            }),
        )
    };
    let both = [base.clone(), changes];
    layout.write_index(&[
        image(&[base], "docker.io/library/one:latest"),
        image(&both, "docker.io/library/two:latest"),
        image(&both, "example.org/three:3"),
    ]);
    let stores = Stores::new();
    let images = load(&stores, &layout.archive()).await.expect("load");
    assert_eq!(
        names(&images),
        [
            "docker.io/library/one:latest",
            "docker.io/library/two:latest",
            "example.org/three:3"
        ]
    );
    stores.files_of(&images[2]).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_goes_away_leaves_nothing() {
    let stores = Stores::new();
    let archive = Layout::demo().archive();
    let (mut sender, receiver) = tokio::io::duplex(1 << 20);
    tokio::select! {
        loaded = import(&stores.core, &stores.ns, receiver) => panic!("the archive has no end: {loaded:?}"),
        () = async {
            use tokio::io::AsyncWriteExt as _;
            sender.write_all(&archive[..archive.len() / 2]).await.expect("send");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        } => {}
    }
    stores.wait_for_no_lease();
    assert_eq!(
        stores
            .core
            .images
            .list(&stores.ns, &Filters::default())
            .expect("images"),
        []
    );
}

#[test]
fn what_is_no_image_archive_is_refused() {
    check_refused(b"", Kind::InvalidArgument, "no index.json");
    check_refused(b"hello", Kind::InvalidArgument, "not a tar archive");
    check_refused(&gzip(b"hello"), Kind::InvalidArgument, "not a tar archive");
    check_refused(
        &tar_of(&[File("file", b"x")]),
        Kind::InvalidArgument,
        "no manifest.json",
    );
    check_refused(
        &tar_of(&[File("manifest.json", b"[]")]),
        Kind::InvalidArgument,
        "no image in it",
    );
    let whole = Layout::demo().archive();
    check_refused(
        &whole[..whole.len() / 2],
        Kind::InvalidArgument,
        "ends within",
    );
}

#[test]
fn malformed_documents_are_named() {
    check_refused(
        &tar_of(&[File("manifest.json", b"{")]),
        Kind::InvalidArgument,
        "\"manifest.json\" is malformed",
    );
    check_refused(
        &tar_of(&[File("index.json", b"[")]),
        Kind::InvalidArgument,
        "\"index.json\" is malformed",
    );
    let huge = vec![b' '; (4 << 20) + 1];
    check_refused(
        &tar_of(&[File("index.json", &huge)]),
        Kind::ResourceExhausted,
        "entry \"index.json\" is larger",
    );
    check_refused(
        &old_docker_save(&json!(["Bad Name"])),
        Kind::InvalidArgument,
        "invalid reference \"Bad Name\"",
    );
}

#[test]
fn entries_that_leave_the_archive_are_named() {
    // The tar library of the fixture refuses such names, so the headers are
    // changed afterwards.
    let mut archive = tar_of(&[File("xx/evil", b"x")]);
    rename(&mut archive, b"../evil");
    check_refused(
        &archive,
        Kind::InvalidArgument,
        "entry \"../evil\" leaves the archive",
    );
    rename(&mut archive, b"/x/evil");
    check_refused(
        &archive,
        Kind::InvalidArgument,
        "entry \"/x/evil\" has an absolute path",
    );
    for target in ["../../etc/passwd", "/etc/passwd"] {
        let words = format!("entry \"a/layer.tar\" links to {target:?}, outside the archive");
        check_refused(
            &tar_of(&[Symlink("a/layer.tar", target)]),
            Kind::InvalidArgument,
            &words,
        );
    }
    let twice = tar_of(&[File("index.json", b"{}"), File("./index.json", b"[]")]);
    check_refused(
        &twice,
        Kind::InvalidArgument,
        "entry \"index.json\" occurs twice",
    );
}

#[test]
fn missing_blobs_are_named() {
    let layout = Layout::single(&tar_of(&[File("file", b"x")]));
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.path().join("index.json")).expect("index"))
            .expect("json");
    let blob = |descriptor: &Value| {
        let digest = Digest::parse(descriptor["digest"].as_str().expect("digest")).expect("digest");
        format!("blobs/sha256/{}", digest.hex())
    };
    let manifest_name = blob(&index["manifests"][0]);
    let manifest: Value = serde_json::from_slice(
        &std::fs::read(layout.path().join(&manifest_name)).expect("manifest"),
    )
    .expect("json");
    let layer_name = blob(&manifest["layers"][0]);
    std::fs::remove_file(layout.path().join(&layer_name)).expect("remove");
    let words = format!("entry {layer_name:?} is missing, which entry {manifest_name:?} refers to");
    check_refused(&layout.archive(), Kind::InvalidArgument, &words);
    std::fs::remove_file(layout.path().join(&manifest_name)).expect("remove");
    let words = format!("entry {manifest_name:?} is missing, which entry \"index.json\" refers to");
    check_refused(&layout.archive(), Kind::InvalidArgument, &words);

    let manifest = br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":[]}]"#;
    check_refused(
        &tar_of(&[File("manifest.json", manifest)]),
        Kind::InvalidArgument,
        "entry \"c.json\" is missing",
    );
}

#[test]
fn bytes_with_another_digest_are_named() {
    let layout = Layout::demo();
    let name = format!("blobs/sha256/{}", Digest::of(b"promised").hex());
    std::fs::write(layout.path().join(&name), b"delivered").expect("write");
    check_refused(
        &layout.archive(),
        Kind::DataLoss,
        &format!("entry {name:?} is corrupt"),
    );

    let config = json!({"rootfs": {"diff_ids": [Digest::of(b"promised").as_str()]}}).to_string();
    let manifest = br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l/layer.tar"]}]"#;
    let archive = tar_of(&[
        File("c.json", config.as_bytes()),
        File("l/layer.tar", b"delivered"),
        File("manifest.json", manifest),
    ]);
    check_refused(&archive, Kind::DataLoss, "entry \"l/layer.tar\" is corrupt");
}

/// Replaces the name in the first header, which has to have as many bytes.
fn rename(archive: &mut [u8], name: &[u8]) {
    archive[..name.len()].copy_from_slice(name);
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
