use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::process::Command;

use super::archive::Archive;
use super::*;

struct Layer {
    dir: tempfile::TempDir,
}

impl Layer {
    /// `outside` beside the layer is what hostile archives aim at.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("upper")).unwrap();
        fs::create_dir(dir.path().join("lower")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("upper").join(path)
    }

    fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    fn apply(&self, archive: Archive) -> Result<Applied> {
        let below = [self.lower()];
        apply(
            Cursor::new(archive.finish()),
            Target {
                dir: &self.path(""),
                below: &below,
            },
            Limits::default(),
        )
    }

    fn outside_is_untouched(&self) -> bool {
        let outside = self.dir.path().join("outside");
        fs::read_dir(&outside).unwrap().count() == 1
            && fs::read_to_string(outside.join("secret")).unwrap() == "secret"
            && fs::metadata(outside.join("secret")).unwrap().nlink() == 1
            && fs::read_dir(self.dir.path()).unwrap().count() == 3
    }
}

fn is_whiteout(path: &Path) -> bool {
    let found = fs::symlink_metadata(path).unwrap();
    found.file_type().is_char_device() && found.rdev() == 0
}

fn opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", value.as_mut_slice()).is_ok()
}

#[test]
fn files_keep_their_attributes() {
    let layer = Layer::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Archive::default()
        .dir("./", 0o755)
        .pax(&[("uid", b"1000"), ("gid", b"1001"), ("mtime", b"1000.25")])
        .dir("d", 0o1777)
        .pax(&[
            ("uid", b"1000"),
            ("SCHILY.xattr.security.capability", &capability),
        ])
        .entry(b'0', "d/ping", "", 0o4755, b"bin")
        .hard_link("d/pong", "d/ping")
        .symlink("d/link", "/etc/passwd")
        .entry(b'6', "d/fifo", "", 0o600, b"")
        .raw(b'3', "d/null", "", 0o666, b"", |block| {
            block[329..336].copy_from_slice(b"0000001");
            block[337..344].copy_from_slice(b"0000003");
        });
    layer.apply(archive).unwrap();
    let ping = fs::symlink_metadata(layer.path("d/ping")).unwrap();
    assert_eq!(
        (ping.mode() & 0o7777, ping.uid(), ping.nlink(), ping.mtime()),
        (0o4755, 1000, 2, 1000)
    );
    let mut value = [0; 64];
    let len = rustix::fs::lgetxattr(
        layer.path("d/ping"),
        "security.capability",
        value.as_mut_slice(),
    )
    .unwrap();
    assert_eq!(len, capability.len());
    let dir = fs::metadata(layer.path("d")).unwrap();
    assert_eq!(
        (
            dir.mode() & 0o7777,
            dir.uid(),
            dir.gid(),
            dir.mtime(),
            dir.mtime_nsec()
        ),
        (0o1777, 1000, 1001, 1000, 250_000_000)
    );
    assert_eq!(
        fs::read_link(layer.path("d/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert!(
        fs::symlink_metadata(layer.path("d/fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let null = fs::symlink_metadata(layer.path("d/null")).unwrap();
    assert_eq!(
        (null.rdev(), null.mode() & 0o777),
        (rustix::fs::makedev(1, 3), 0o666)
    );
}

#[test]
fn nothing_leaves_the_layer() {
    let outside = |layer: &Layer| {
        layer
            .dir
            .path()
            .join("outside")
            .to_str()
            .unwrap()
            .to_owned()
    };
    type Hostile = fn(String) -> Archive;
    let hostile: &[Hostile] = &[
        |_| Archive::default().file("../outside/new", b"x"),
        |_| Archive::default().file("a/../../outside/new", b"x"),
        |_| Archive::default().dir("..", 0o777),
        |_| {
            Archive::default()
                .symlink("l", "../outside")
                .file("l/new", b"x")
        },
        |out| Archive::default().symlink("l", &out).file("l/new", b"x"),
        |out| Archive::default().symlink("l", &out).file("l/secret", b"x"),
        |out| {
            Archive::default()
                .symlink("l", &out)
                .entry(b'0', "l/.wh.secret", "", 0, b"")
        },
        |out| {
            Archive::default()
                .symlink("l", &out)
                .dir("l", 0o777)
                .file("l/new", b"x")
        },
        |out| {
            Archive::default()
                .symlink("s", &format!("{out}/secret"))
                .file("s", b"x")
        },
        |_| Archive::default().hard_link("h", "../outside/secret"),
        |out| Archive::default().hard_link("h", &format!("{out}/secret")),
        |out| {
            Archive::default()
                .symlink("l", &out)
                .hard_link("h", "l/secret")
        },
        |_| {
            Archive::default()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b"x")
        },
        |_| Archive::default().entry(b'0', ".wh...", "", 0, b""),
        |_| Archive::default().entry(b'0', ".wh..", "", 0, b""),
        |_| {
            Archive::default()
                .symlink("l", "/proc/self/root")
                .file("l/new", b"x")
        },
    ];
    for (number, archive) in hostile.iter().enumerate() {
        let layer = Layer::new();
        let _ = layer.apply(archive(outside(&layer)));
        assert!(layer.outside_is_untouched(), "archive {number}");
    }
    let layer = Layer::new();
    let err = layer
        .apply(Archive::default().file("../outside/new", b"x"))
        .unwrap_err();
    assert_eq!(err.kind(), Kind::InvalidArgument);
    assert!(crate::error::chain(&err).contains("leaves the layer"));
    // A symbolic link to a directory of the layer is followed, within it.
    layer
        .apply(
            Archive::default()
                .dir("usr/lib", 0o755)
                .symlink("lib", "/usr/lib")
                .file("lib/x", b"x"),
        )
        .unwrap();
    assert!(layer.path("usr/lib/x").is_file());
    layer
        .apply(Archive::default().file("/abs/file", b"x"))
        .unwrap();
    assert!(layer.path("abs/file").is_file());
}

#[test]
fn whiteouts_are_overlays() {
    let layer = Layer::new();
    for path in ["gone", "kept", "replaced", "opaque"] {
        fs::create_dir(layer.lower().join(path)).unwrap();
        fs::write(layer.lower().join(path).join("old"), "old").unwrap();
    }
    let archive = Archive::default()
        .entry(b'0', ".wh.gone", "", 0, b"")
        .dir("opaque", 0o755)
        .entry(b'0', "opaque/.wh..wh..opq", "", 0, b"")
        .file("opaque/new", b"new")
        .entry(b'0', ".wh.replaced", "", 0, b"")
        .dir("replaced", 0o755)
        .file("kept/new", b"new")
        .entry(b'0', ".wh..wh.plnk", "", 0, b"");
    layer.apply(archive).unwrap();
    assert!(
        is_whiteout(&layer.path("gone"))
            && opaque(&layer.path("opaque"))
            && opaque(&layer.path("replaced"))
    );

    let (work, merged) = (
        layer.dir.path().join("work"),
        layer.dir.path().join("merged"),
    );
    fs::create_dir(&work).unwrap();
    fs::create_dir(&merged).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layer.lower().display(),
        layer.path("").display(),
        work.display()
    );
    nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
    let list = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(merged.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let seen = (list(""), list("kept"), list("opaque"), list("replaced"));
    nix::mount::umount(&merged).unwrap();
    assert_eq!(seen.0, ["kept", "opaque", "replaced"]);
    assert_eq!(
        (seen.1, seen.2, seen.3.len()),
        (
            vec!["new".to_owned(), "old".to_owned()],
            vec!["new".to_owned()],
            0
        )
    );
}

#[test]
fn what_is_in_the_way_is_replaced() {
    let layer = Layer::new();
    let archive = Archive::default()
        .dir("d", 0o755)
        .file("d/deep/file", b"1")
        .file("d", b"now a file")
        .file("f", b"1")
        .dir("f", 0o700)
        .file("f/x", b"2")
        .file("g", b"1")
        .hard_link("h", "g")
        .file("g", b"2")
        .hard_link("h", "h");
    layer.apply(archive).unwrap();
    assert_eq!(fs::read_to_string(layer.path("d")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(layer.path("f/x")).unwrap(), "2");
    assert_eq!(
        (
            fs::read_to_string(layer.path("h")).unwrap(),
            fs::read_to_string(layer.path("g")).unwrap()
        ),
        ("1".into(), "2".into())
    );
}

#[test]
fn missing_parents_are_those_of_the_layers_below() {
    let layer = Layer::new();
    fs::create_dir(layer.lower().join("home")).unwrap();
    std::os::unix::fs::chown(layer.lower().join("home"), Some(7), Some(8)).unwrap();
    fs::set_permissions(
        layer.lower().join("home"),
        std::os::unix::fs::PermissionsExt::from_mode(0o2711),
    )
    .unwrap();
    layer
        .apply(Archive::default().file("home/new/f", b""))
        .unwrap();
    let home = fs::metadata(layer.path("home")).unwrap();
    assert_eq!(
        (home.uid(), home.gid(), home.mode() & 0o7777),
        (7, 8, 0o2711)
    );
    assert_eq!(
        fs::metadata(layer.path("home/new")).unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn an_archive_cannot_set_overlays_attributes() {
    let layer = Layer::new();
    layer
        .apply(
            Archive::default()
                .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
                .dir("d", 0o755),
        )
        .unwrap();
    let mut value = [0; 16];
    assert!(
        rustix::fs::lgetxattr(
            layer.path("d"),
            "trusted.overlay.redirect",
            value.as_mut_slice()
        )
        .is_err()
    );
}

#[test]
fn limits_hold() {
    let archive = |files: usize| {
        (0..files)
            .fold(Archive::default(), |archive, n| {
                archive.file(&format!("f{n}"), &[0; 1000])
            })
            .finish()
    };
    let layer = Layer::new();
    for limits in [
        Limits {
            entries: 3,
            bytes: 1 << 20,
        },
        Limits {
            entries: 100,
            bytes: 3000,
        },
    ] {
        let err = apply(
            Cursor::new(archive(4)),
            Target {
                dir: &layer.path(""),
                below: &[],
            },
            limits,
        )
        .unwrap_err();
        assert_eq!(err.kind(), Kind::ResourceExhausted);
    }
}

/// The same tree, compressed each way, is the same layer.
#[test]
fn every_compression_gives_the_same_diff_id() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("usr/bin")).unwrap();
    fs::write(tree.path().join("usr/bin/tool"), vec![42; 700_000]).unwrap();
    symlink("usr/bin", tree.path().join("bin")).unwrap();
    let tar = Command::new("tar")
        .args(["-C", tree.path().to_str().unwrap(), "-c", "."])
        .output()
        .unwrap()
        .stdout;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    for stored in [&tar, &gzip, &zstd] {
        let layer = Layer::new();
        let applied = apply(
            stored.as_slice(),
            Target {
                dir: &layer.path(""),
                below: &[],
            },
            Limits::default(),
        )
        .unwrap();
        assert_eq!(
            (applied.diff_id, applied.digest, applied.size),
            (Digest::of(&tar), Digest::of(stored), tar.len() as u64)
        );
        let same = Command::new("diff")
            .arg("-r")
            .arg("--no-dereference")
            .arg(tree.path())
            .arg(layer.path(""))
            .status()
            .unwrap();
        assert!(same.success());
    }
    for cut in [
        &gzip[..gzip.len() / 2],
        &zstd[..zstd.len() / 2],
        &tar[..tar.len() / 2],
        b"not a tar archive at all".repeat(50).as_slice(),
    ] {
        let layer = Layer::new();
        let err = apply(
            cut,
            Target {
                dir: &layer.path(""),
                below: &[],
            },
            Limits::default(),
        )
        .unwrap_err();
        assert_eq!(err.kind(), Kind::DataLoss, "{}", crate::error::chain(&err));
    }
}
