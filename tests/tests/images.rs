//! Images: pulled from a real registry, loaded from archives, listed, removed.

use std::fs;
use std::process::Command;

use serde_json::json;
use tests::command;
use tests::image::{self, Image};
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::stack::{BUSYBOX, Stack};
use tests::tar::Tar;

/// An image whose top layer says `word`.
fn saying(word: &str) -> Image {
    let top = Tar::new().file("word", 0o644, word.as_bytes());
    Image::busybox()
        .layer(top)
        .with("Cmd", json!(["cat", "/word"]))
}

/// Blobs, half-written blobs and snapshots that the daemon holds.
#[track_caller]
fn stored(stack: &Stack) -> Vec<String> {
    let lists: [&[&str]; 3] = [
        &["content", "ls", "-q"],
        &["content", "active"],
        &["snapshots", "ls"],
    ];
    let said = lists.map(|list| stack.ctr(list).ok());
    let lines = said.iter().flat_map(|text| text.lines());
    let headings = ["REF", "KEY"];
    lines
        .filter(|line| !headings.iter().any(|word| line.starts_with(word)))
        .map(str::to_owned)
        .collect()
}

/// Collection may take a moment.
#[track_caller]
fn nothing_stored(stack: &Stack) {
    for _ in 0..100 {
        if stored(stack).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("still stored:\n{}", stored(stack).join("\n"));
}

#[test]
fn a_tag_is_pulled_and_run() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let digest = registry.put(stack.scratch(), &saying("one"), "demo:1", &[]);
    let reference = registry.reference("demo:1");
    let said = stack.ctl(&["pull", &reference]).ok();
    assert!(
        said.contains(&digest),
        "pull names the digest {digest}:\n{said}"
    );
    assert!(
        said.contains(&reference),
        "pull ends with the reference:\n{said}"
    );
    assert_eq!(stack.ctl(&["run", "--rm", &reference]).ok(), "one");
    let again = stack.ctl(&["pull", &reference]).ok();
    assert!(again.contains("up to date"), "{again}");
}

#[test]
fn a_digest_is_pulled_and_run() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let digest = registry.put(stack.scratch(), &saying("old"), "demo:1", &[]);
    registry.put(stack.scratch(), &saying("new"), "demo:1", &[]);
    let reference = registry.reference(&format!("demo@{digest}"));
    stack.ctl(&["pull", &reference]).ok();
    assert_eq!(stack.ctl(&["run", "--rm", &reference]).ok(), "old");
}

#[test]
fn no_tag_means_latest() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    registry.put(stack.scratch(), &saying("other"), "demo:1", &[]);
    registry.put(stack.scratch(), &saying("latest"), "demo:latest", &[]);
    stack.ctl(&["pull", "-q", &registry.reference("demo")]).ok();
    assert_eq!(
        stack
            .ctl(&["run", "--rm", &registry.reference("demo:latest")])
            .ok(),
        "latest"
    );
}

#[test]
fn run_pulls_what_is_missing() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    registry.put(stack.scratch(), &saying("fetched"), "demo:1", &[]);
    assert_eq!(
        stack
            .ctl(&["run", "--rm", &registry.reference("demo:1")])
            .ok(),
        "fetched"
    );
}

#[test]
fn every_manifest_format_and_compression_is_pulled() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let kinds: [(&str, &[&str]); 4] = [
        ("schema2", &["--format", "v2s2"]),
        ("oci", &["--format", "oci"]),
        (
            "zstd",
            &["--format", "oci", "--dest-compress-format", "zstd"],
        ),
        ("plain", &["--format", "oci", "--dest-decompress"]),
    ];
    for (name, args) in kinds {
        let tag = format!("{name}:1");
        registry.put(stack.scratch(), &saying(name), &tag, args);
        stack.ctl(&["pull", &registry.reference(&tag)]).ok();
        assert_eq!(
            stack.ctl(&["run", "--rm", &registry.reference(&tag)]).ok(),
            name
        );
    }
}

#[test]
fn of_an_index_the_machines_own_platform_is_pulled() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let archive = stack.scratch().text("index.tar");
    let images = [("arm64", saying("foreign")), ("amd64", saying("own"))];
    fs::write(&archive, image::oci_layout_of("demo:1", &images)).unwrap();
    let source = format!("oci-archive:{archive}");
    let digest = registry.copy(stack.scratch(), &source, "demo:1", &["--all"]);
    let said = stack.ctl(&["pull", &registry.reference("demo:1")]).ok();
    assert!(
        said.contains(&digest),
        "the digest of the index, {digest}:\n{said}"
    );
    assert_eq!(
        stack
            .ctl(&["run", "--rm", &registry.reference("demo:1")])
            .ok(),
        "own"
    );
}

#[test]
fn images_are_listed_under_both_names() {
    let stack = Stack::start();
    stack.load(&saying("a").docker_archive(&["first:1"]));
    let listed = stack.ctl(&["images"]).ok();
    let heading: Vec<&str> = listed
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        heading,
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    let row: Vec<&str> = listed
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let id = saying("a").id();
    assert_eq!(
        row[..3],
        ["first", "1", &id["sha256:".len()..][..12]],
        "{listed}"
    );
    assert_eq!(stack.ctl(&["image", "ls"]).ok(), listed);
    assert_eq!(stack.ctl(&["images", "-q", "--no-trunc"]).ok().trim(), id);
}

#[test]
fn both_archive_formats_are_loaded() {
    let stack = Stack::start();
    let said = stack.load(&saying("docker").docker_archive(&["docker:1", "docker:2"]));
    assert!(
        said.contains("docker:1") && said.contains("docker:2"),
        "{said}"
    );
    let said = stack.load(&saying("oci").oci_layout("docker.io/library/oci:1"));
    assert!(said.contains("oci:1"), "{said}");
    for (name, word) in [
        ("docker:1", "docker"),
        ("docker:2", "docker"),
        ("oci:1", "oci"),
    ] {
        assert_eq!(stack.ctl(&["run", "--rm", name]).ok(), word);
    }
}

#[test]
fn a_compressed_archive_is_loaded_from_a_file() {
    let stack = Stack::start();
    let path = stack.scratch().path("image.tar");
    fs::write(&path, saying("zipped").docker_archive(&["zipped:1"])).unwrap();
    command::run(Command::new("gzip").arg(&path)).ok();
    stack
        .ctl(&["load", "-i", &format!("{}.gz", path.display())])
        .ok();
    assert_eq!(stack.ctl(&["run", "--rm", "zipped:1"]).ok(), "zipped");
}

#[test]
fn what_skopeo_writes_is_loaded() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let source = stack.scratch().path("source.tar");
    fs::write(&source, saying("skopeo").docker_archive(&["source:1"])).unwrap();
    for (kind, name) in [("docker-archive", "one:1"), ("oci-archive", "two:1")] {
        let target = stack.scratch().path(kind);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet"]);
        skopeo.arg(format!("docker-archive:{}", source.display()));
        skopeo.arg(format!(
            "{kind}:{}:docker.io/library/{name}",
            target.display()
        ));
        command::run(&mut skopeo).ok();
        stack.ctl(&["load", "-i", target.to_str().unwrap()]).ok();
        assert_eq!(stack.ctl(&["run", "--rm", name]).ok(), "skopeo", "{kind}");
    }
}

#[test]
fn a_short_name_is_docker_hubs() {
    let stack = Stack::with_busybox();
    let names = stack.ctr(&["images", "ls", "-q"]).ok();
    assert_eq!(names.trim(), "docker.io/library/busybox:latest");
    for name in [
        "busybox",
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
    ] {
        stack.ctl(&["run", "--rm", name, "true"]).ok();
    }
}

#[test]
fn a_removed_image_leaves_no_blob_and_no_snapshot() {
    let stack = Stack::start();
    stack.load(&saying("gone").docker_archive(&["gone:1"]));
    assert!(!stored(&stack).is_empty());
    let said = stack.ctl(&["rmi", "gone:1"]).ok();
    assert!(said.contains("Untagged: gone:1"), "{said}");
    assert!(said.contains("Deleted: sha256:"), "{said}");
    assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
    nothing_stored(&stack);
}

#[test]
fn removing_one_of_two_names_keeps_the_image() {
    let stack = Stack::start();
    stack.load(&saying("kept").docker_archive(&["kept:1", "kept:2"]));
    stack.ctl(&["rmi", "kept:1"]).ok();
    stack.ctl(&["run", "--rm", "kept:1"]).exits(125);
    assert_eq!(stack.ctl(&["run", "--rm", "kept:2"]).ok(), "kept");
}

#[test]
fn an_image_in_use_is_not_removed() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["create", "--name", "user", BUSYBOX, "true"])
        .ok();
    stack.ctl(&["rmi", BUSYBOX]).fails_naming(&["busybox"]);
    stack.ctl(&["rm", "user"]).ok();
    stack.ctl(&["rmi", BUSYBOX]).ok();
}

#[test]
fn a_corrupt_blob_is_named_and_nothing_is_stored() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let image = saying("x").layer(Tar::new().file("more", 0o644, &[3; 100_000]));
    let manifest_digest = registry.put(stack.scratch(), &image, "demo:1", &[]);
    let manifest = registry.manifest(&manifest_digest);
    let digest_at = |pointer: &str| {
        manifest
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    for digest in [
        digest_at("/layers/0/digest"),
        digest_at("/layers/2/digest"),
        digest_at("/config/digest"),
    ] {
        let blob = registry.blob(&digest);
        let good = fs::read(&blob).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0x20;
        fs::write(&blob, bad).unwrap();
        stack
            .ctl(&["pull", "-q", &registry.reference("demo:1")])
            .fails_naming(&[&digest]);
        fs::write(&blob, good).unwrap();
        assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
        nothing_stored(&stack);
    }
    // With the good bytes back, the same pull succeeds.
    stack
        .ctl(&["pull", "-q", &registry.reference("demo:1")])
        .ok();
}

#[test]
fn an_archive_with_a_corrupt_layer_is_refused() {
    let stack = Stack::start();
    let image = saying("honest");
    let digest = image::digest(&image.layers[1]);
    for archive in [
        image.docker_archive(&["bad:1"]),
        image.oci_layout("docker.io/library/bad:1"),
    ] {
        let at = archive
            .windows(6)
            .position(|window| window == b"honest")
            .unwrap();
        let mut bad = archive;
        bad[at] = b'H';
        stack
            .ctl_with_input(&["load"], &bad)
            .fails_naming(&[&digest]);
        assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
    }
}

#[test]
fn whiteouts_hide_what_lies_below() {
    let stack = Stack::start();
    let lower = Tar::new()
        .dir("data", 0o755)
        .file("data/kept", 0o644, b"1")
        .file("data/removed", 0o644, b"1")
        .dir("data/emptied", 0o755)
        .file("data/emptied/old", 0o644, b"1")
        .dir("data/gone", 0o755)
        .file("data/gone/old", 0o644, b"1");
    let upper = Tar::new()
        .dir("data", 0o755)
        .file("data/.wh.removed", 0o644, b"")
        .dir("data/emptied", 0o755)
        .file("data/emptied/.wh..wh..opq", 0o644, b"")
        .file("data/emptied/new", 0o644, b"2")
        .file("data/.wh.gone", 0o644, b"");
    let image = Image::busybox().layer(lower).layer(upper);
    stack.load(&image.docker_archive(&["layers:1"]));
    let found = stack
        .ctl(&["run", "--rm", "layers:1", "find", "/data", "-type", "f"])
        .ok();
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["/data/emptied/new", "/data/kept"]);
}

#[test]
fn no_layer_writes_outside_itself() {
    let stack = Stack::start();
    let outside = stack.scratch().path("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let up = format!("{}{target}", "../".repeat(20));
    let layers = [
        Tar::new().file(&format!("{up}/dots"), 0o644, b"x"),
        Tar::new().file(&format!("{target}/absolute"), 0o644, b"x"),
        Tar::new()
            .symlink("link", target)
            .file("link/through", 0o644, b"x"),
        Tar::new().symlink("link", target).dir("link/dir", 0o755),
        Tar::new().file(&format!("{}/.wh.victim", up), 0o644, b""),
        Tar::new().hardlink("passwd", &format!("{}etc/hostname", "../".repeat(20))),
    ];
    fs::write(outside.join("victim"), b"alive").unwrap();
    for (at, layer) in layers.into_iter().enumerate() {
        let name = format!("evil:{at}");
        let archive = Image::busybox().layer(layer).docker_archive(&[&name]);
        // Refused or confined to the layer: both are fine.
        stack.ctl_with_input(&["load"], &archive);
        let found: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(found, ["victim"], "layer {at}");
    }
    let said = stack.ctl(&["run", "--rm", "evil:5", "cat", "/passwd"]);
    let hostname = fs::read_to_string("/etc/hostname").unwrap_or_default();
    assert!(
        said.code != 0 || said.out.trim() != hostname.trim(),
        "a hard link reached the host: {said}"
    );
}
