//! What an image can do to the places of mounts, devices and masks: links out of it, links within it, things that are not what
//! they seem, and things that change while the runtime looks (CVE-2021-30465, 2024-45310, 2025-31133, 2025-52565, 2026-41579).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};

use crate::bundle::{Bundle, contains, text};

/// Takes the mounts at and below `place` out of a config.
fn without(config: &mut Value, place: &str) {
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !Path::new(mount["destination"].as_str().unwrap()).starts_with(place));
}

/// A directory of the host that a hostile image aims at. It must stay empty but for one file that must stay as it is.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "of the host\n").unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The links that an image can have to it.
    fn links(&self) -> [PathBuf; 3] {
        let absolute = self.path().to_path_buf();
        let inner = absolute.strip_prefix("/").unwrap();
        [
            absolute.clone(),
            Path::new("../../../../../../..").join(inner),
            Path::new("/proc/1/root").join(inner),
        ]
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        let secret = self.path().join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host\n");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&secret).unwrap());
        assert_eq!(mode & 0o777, 0o644);
    }
}

#[test]
fn a_dev_that_is_a_link_gets_its_devices_inside() {
    let outside = Outside::new();
    for link in outside.links() {
        let mut bundle = Bundle::new("echo x > /dev/null && echo works");
        without(&mut bundle.config, "/dev");
        symlink(&link, bundle.dir.path().join("rootfs/dev")).unwrap();
        let out = bundle.run();
        outside.is_untouched();
        // The way through /proc ends in the container's own, or nowhere.
        if !link.starts_with("/proc") {
            assert_eq!(text(&out.stdout), "works\n", "{link:?}");
        }
    }
}

#[test]
fn a_place_that_is_a_link_is_mounted_on_inside() {
    let outside = Outside::new();
    for link in outside.links() {
        for (below, source) in [
            ("", "volume"),
            ("/deeper/still", "volume"),
            ("/file", "volume/file"),
        ] {
            let mut bundle = Bundle::new("true");
            fs::create_dir(bundle.dir.path().join("volume")).unwrap();
            fs::write(bundle.dir.path().join("volume/file"), "of the volume\n").unwrap();
            symlink(&link, bundle.dir.path().join("rootfs/data")).unwrap();
            let mount = json!({
                "destination": format!("/data{below}"), "type": "bind", "source": source, "options": ["bind"],
            });
            bundle.config["mounts"].as_array_mut().unwrap().push(mount);
            let _refused_or_inside = bundle.run();
            outside.is_untouched();
        }
    }
}

/// Two containers share a volume, and one of them exchanges a directory and a link in it while the other is being made.
#[test]
fn a_place_that_changes_while_it_is_looked_at_leads_nowhere() {
    let outside = Outside::new();
    let mut bundle = Bundle::new("cat /data/place/below/secret; true");
    let rootfs = bundle.dir.path().join("rootfs");
    let (place, other) = (rootfs.join("data/place"), rootfs.join("data/other"));
    fs::create_dir_all(&place).unwrap();
    symlink(outside.path(), &other).unwrap();
    for (destination, kind) in [
        ("/data/place/below", "tmpfs"),
        ("/data/place/bound", "bind"),
    ] {
        bundle.config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": destination, "type": kind, "source": if kind == "bind" { "/usr" } else { "tmpfs" },
            "options": if kind == "bind" { json!(["bind"]) } else { json!([]) },
        }));
    }
    bundle.config["linux"]["maskedPaths"] = json!(["/data/place/below/secret"]);
    bundle.save();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                exchange(&place, &other);
            }
        });
        for _ in 0..60 {
            let out = bundle.call(&["run", &bundle.id]);
            assert!(!text(&out.stdout).contains("of the host"));
        }
        over.store(true, Ordering::Relaxed);
    });
    outside.is_untouched();
}

fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

#[test]
fn a_mask_on_a_link_covers_what_it_leads_to_inside() {
    let outside = Outside::new();
    let mut bundle = Bundle::new("cat /secret; cat /link; cat /dir/file; echo end");
    let rootfs = bundle.dir.path().join("rootfs");
    fs::write(rootfs.join("secret"), "of the image\n").unwrap();
    fs::create_dir(rootfs.join("dir")).unwrap();
    fs::write(rootfs.join("dir/file"), "of the image\n").unwrap();
    symlink("../../../secret", rootfs.join("link")).unwrap();
    symlink("/dir", rootfs.join("dirlink")).unwrap();
    symlink(outside.path(), rootfs.join("out")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/link", "/dirlink", "/out/secret", "/out"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/out", "/nowhere"]);
    assert_eq!(bundle.prints(), "end\n");
    outside.is_untouched();
}

/// CVE-2025-31133: what masks a file must be the null device, whatever the image has there.
#[test]
fn an_images_own_dev_null_masks_nothing() {
    let outside = Outside::new();
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [Plant<'_>; 3] = [
        &|null| fs::write(null, "of the image\n").unwrap(),
        &|null| symlink("/proc/sys/kernel/core_pattern", null).unwrap(),
        &|null| symlink(outside.path().join("secret"), null).unwrap(),
    ];
    for plant in plants {
        let mut bundle = Bundle::new("cat /secret; echo end");
        let rootfs = bundle.dir.path().join("rootfs");
        fs::create_dir(rootfs.join("dev")).unwrap();
        fs::write(rootfs.join("secret"), "secret\n").unwrap();
        plant(&rootfs.join("dev/null"));
        bundle.config["linux"]["maskedPaths"] = json!(["/secret"]);
        // With a /dev of its own the container never sees it.
        assert_eq!(bundle.prints(), "end\n");
        without(&mut bundle.config, "/dev");
        contains(&bundle.complaint(), "the image has something else there");
        outside.is_untouched();
    }
}

/// CVE-2025-52565: the terminal is not bound where a link of the image says.
#[test]
fn an_images_own_dev_console_leads_nowhere() {
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [Plant<'_>; 3] = [
        &|console| symlink("/victim", console).unwrap(),
        &|console| symlink("/proc/sys/kernel/core_pattern", console).unwrap(),
        &|console| fs::create_dir(console).unwrap(),
    ];
    for plant in plants {
        let mut bundle = Bundle::new("cat /victim; tty");
        let rootfs = bundle.dir.path().join("rootfs");
        fs::create_dir(rootfs.join("dev")).unwrap();
        fs::write(rootfs.join("victim"), "of the image\n").unwrap();
        plant(&rootfs.join("dev/console"));
        let pts = json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]});
        without(&mut bundle.config, "/dev");
        bundle.config["mounts"].as_array_mut().unwrap().push(pts);
        bundle.config["process"]["terminal"] = json!(true);
        contains(&bundle.complaint(), "/dev/console of the image");
        assert_eq!(
            fs::read_to_string(rootfs.join("victim")).unwrap(),
            "of the image\n"
        );
    }
}

#[test]
fn sysfs_behind_a_link_is_refused() {
    for link in ["/tmp", "../../../../tmp", "proc"] {
        let bundle = Bundle::new("true");
        symlink(link, bundle.dir.path().join("rootfs/sys")).unwrap();
        contains(
            &bundle.complaint(),
            "must be mounted on ordinary directory, /sys is none",
        );
    }
}
