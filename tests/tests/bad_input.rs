//! Bad input gets one clear line and a code that is not zero, and leaves
//! nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use serde_json::json;
use tests::bundle::Bundle;
use tests::command::{self, Said, eventually};
use tests::image::Image;
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::repository;
use tests::scratch::Scratch;
use tests::stack::{BUSYBOX, Stack};
use tests::tar::Tar;

/// Runs the bundle with runc-rs, which must fail and leave no container.
#[track_caller]
fn run_bundle(scratch: &Scratch, dir: &Path) -> Said {
    let root = scratch.path("run");
    let runtime = |args: &[&str]| {
        let mut command = Command::new(repository::program("runc-rs"));
        command::run(command.arg("--root").arg(&root).args(args))
    };
    let said = runtime(&["run", "--bundle", &dir.display().to_string(), "c1"]);
    assert_ne!(said.code, 0, "{said}");
    // As runc's, the list of a state directory that was never made is an error.
    if root.exists() {
        assert_eq!(runtime(&["list", "-q"]).ok(), "", "no container is left");
    }
    assert!(!root.join("c1").exists(), "no state is left");
    assert_eq!(scratch.litter(), Vec::<String>::new());
    said
}

#[track_caller]
fn nothing_left(stack: &Stack) {
    assert_eq!(stack.ctl(&["ps", "-aq"]).ok(), "", "no container is left");
    assert_eq!(stack.ctr(&["containers", "ls", "-q"]).ok(), "");
    assert_eq!(stack.ctr(&["tasks", "ls", "-q"]).ok(), "");
    let litter = stack.scratch().litter();
    let kept: Vec<_> = litter
        .iter()
        .filter(|line| !line.contains("containerd-lite"))
        .collect();
    assert!(kept.is_empty(), "{kept:#?}");
}

#[test]
fn an_unknown_image_is_named() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let registry = Registry::start(stack.scratch());
    let reference = registry.reference("no/such:image");
    stack.ctl(&["pull", &reference]).fails_naming(&["no/such"]);
    let said = stack.ctl(&["run", &reference]).exits(125);
    assert!(
        said.err
            .lines()
            .last()
            .unwrap_or_default()
            .contains("no/such"),
        "{said}"
    );
    stack
        .ctl(&["rmi", "no-such-image"])
        .fails_naming(&["no-such-image"]);
    drop(registry);
    nothing_left(&stack);
}

#[test]
fn a_registry_that_is_away_is_named() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::start();
    let mut registry = Registry::start(stack.scratch());
    registry.stop();
    let said = stack
        .ctl(&["pull", &registry.reference("demo:1")])
        .fails_naming(&[registry.address()]);
    assert!(
        said.err.to_lowercase().contains("connection refused"),
        "{said}"
    );
    nothing_left(&stack);
}

#[test]
fn a_reference_that_is_none_is_refused() {
    let stack = Stack::start();
    for reference in ["UPPER", "a b", "x:", "x@sha256:123", ""] {
        let said = stack.ctl(&["pull", reference]);
        assert_ne!(said.code, 0, "{reference:?}: {said}");
        assert!(said.err.contains("reference"), "{reference:?}: {said}");
    }
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let stack = Stack::start();
    let archive = Image::busybox().docker_archive(&["cut:1"]);
    let strangers: [&[u8]; 4] = [
        b"not a tar at all",
        &[0; 4096],
        &archive[..archive.len() / 2],
        b"\x1f\x8b\x08broken",
    ];
    for bytes in strangers {
        stack.ctl_with_input(&["load"], bytes).fails_naming(&[]);
    }
    stack
        .ctl(&["load", "-i", "/no/such/file"])
        .fails_naming(&["/no/such/file"]);
    assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
}

#[test]
fn a_bundle_without_config_is_told_so() {
    let scratch = Scratch::new();
    let dir = scratch.path("b");
    fs::create_dir(&dir).unwrap();
    run_bundle(&scratch, &dir).fails_naming(&["config.json"]);
}

#[test]
fn a_malformed_config_is_told_where() {
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b");
    let good = fs::read_to_string(bundle.dir().join("config.json")).unwrap();
    // The type of one value is wrong: its place is told as a JSON pointer.
    bundle.edit(|config| config["process"]["args"] = json!("not a list"));
    run_bundle(&scratch, bundle.dir()).fails_naming(&["/process/args"]);
    fs::write(bundle.dir().join("config.json"), &good).unwrap();
    bundle.edit(|config| config["mounts"][1]["destination"] = json!(7));
    run_bundle(&scratch, bundle.dir()).fails_naming(&["/mounts/1/destination"]);
    // Not JSON at all: line and column are told.
    fs::write(
        bundle.dir().join("config.json"),
        "{\n  \"ociVersion\": ,\n}",
    )
    .unwrap();
    run_bundle(&scratch, bundle.dir()).fails_naming(&["config.json", "line 2"]);
}

#[test]
fn a_missing_program_is_told_apart_from_its_parts() {
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b");
    let program = bundle.dir().join("rootfs/bin/program");
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let bundle = bundle.running(&["/bin/program"]);
    // This runc's default names ambient capabilities that cannot be had, and each is warned of.
    bundle.edit(|config| drop(config["process"]["capabilities"]["ambient"].take()));
    let said = run_bundle(&scratch, bundle.dir())
        .fails_naming(&["/bin/program", "no such file or directory"]);
    assert!(
        !said.err.contains("interpreter"),
        "the file itself is missing: {said}"
    );

    fs::write(&program, "#!/bin/no-such-shell\n").unwrap();
    mode(&program);
    run_bundle(&scratch, bundle.dir()).fails_naming(&[
        "/bin/program",
        "interpreter",
        "/bin/no-such-shell",
    ]);

    // The header of a program for 64-bit ARM.
    let mut elf = tests::image::busybox();
    elf[18] = 183;
    fs::write(&program, elf).unwrap();
    mode(&program);
    run_bundle(&scratch, bundle.dir()).fails_naming(&["/bin/program", "aarch64"]);
}

#[test]
fn a_missing_program_in_an_image_is_told_apart_too() {
    let stack = Stack::start();
    let mut elf = tests::image::busybox();
    elf[18] = 183;
    let layer = Tar::new()
        .file("script", 0o755, b"#!/no/such/shell\n")
        .file("foreign", 0o755, &elf);
    stack.load(&Image::busybox().layer(layer).docker_archive(&[BUSYBOX]));
    stack
        .ctl(&["run", "--rm", BUSYBOX, "/no/such/program"])
        .exits(127)
        .fails_naming(&["/no/such/program"]);
    stack
        .ctl(&["run", "--rm", BUSYBOX, "/script"])
        .exits(127)
        .fails_naming(&["/script", "interpreter", "/no/such/shell"]);
    stack
        .ctl(&["run", "--rm", BUSYBOX, "/foreign"])
        .exits(126)
        .fails_naming(&["/foreign", "aarch64"]);
    nothing_left(&stack);
}

#[test]
fn a_name_is_taken_once() {
    let stack = Stack::with_busybox();
    let id = stack
        .ctl(&["create", "--name", "taken", BUSYBOX, "true"])
        .ok();
    stack
        .ctl(&["create", "--name", "taken", BUSYBOX, "true"])
        .fails_naming(&["taken", &id.trim()[..12]]);
    stack
        .ctl(&["run", "--name", "taken", BUSYBOX, "true"])
        .exits(125);
    assert_eq!(stack.ctl(&["ps", "-aq"]).ok().lines().count(), 1);
    stack
        .ctl(&["create", "--name", "not/a/name", BUSYBOX, "true"])
        .fails_naming(&["not/a/name"]);
    stack.ctl(&["rm", "taken"]).ok();
    nothing_left(&stack);
}

#[test]
fn a_user_that_does_not_exist_is_named() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "--rm", "-u", "nobody-here", BUSYBOX, "true"])
        .fails_naming(&["nobody-here"]);
    nothing_left(&stack);
}

#[test]
fn a_container_that_does_not_exist_is_named() {
    let stack = Stack::start();
    let commands = [
        vec!["start", "ghost"],
        vec!["stop", "ghost"],
        vec!["kill", "ghost"],
        vec!["rm", "ghost"],
        vec!["logs", "ghost"],
        vec!["exec", "ghost", "true"],
        vec!["inspect", "ghost"],
        vec!["wait", "ghost"],
        vec!["attach", "ghost"],
    ];
    for args in commands {
        stack.ctl(&args).fails_naming(&["ghost"]);
    }
}

#[test]
fn a_full_disk_during_pull_is_told_and_freed() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let scratch_root = |stack: &Stack| stack.scratch().path("small");
    let stack = Stack::cold();
    let small = scratch_root(&stack);
    fs::create_dir(&small).unwrap();
    let size = Some("size=12m");
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), size)
        .expect("a tmpfs can be mounted");
    let mut stack = stack.rooted_at(small.join("r"));
    stack.start_daemon();
    let registry = Registry::start(stack.scratch());
    // Bytes that do not compress: a counter through a multiplier.
    let noise: Vec<u8> = (0..4_000_000_u64)
        .flat_map(|at| {
            ((at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).to_le_bytes()[..4].to_vec()
        })
        .collect();
    let image = Image::busybox().layer(Tar::new().file("noise", 0o644, &noise));
    registry.put(stack.scratch(), &image, "big:1", &[]);
    registry.put(stack.scratch(), &Image::busybox(), "fits:1", &[]);
    let free = || {
        statvfs(&small)
            .map(|stat| stat.blocks_free() * stat.fragment_size())
            .unwrap()
    };
    let before = free();
    stack
        .ctl(&["pull", "-q", &registry.reference("big:1")])
        .fails_naming(&["No space left on device"]);
    assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
    eventually("the space to be free again", || {
        (free() + 1_000_000 > before).then_some(())
    });
    // The daemon is not hurt.
    stack
        .ctl(&["pull", "-q", &registry.reference("fits:1")])
        .ok();
    assert_eq!(
        stack
            .ctl(&["run", "--rm", &registry.reference("fits:1"), "echo", "fine"])
            .ok(),
        "fine\n"
    );
    stack.stop_daemon();
    nix::mount::umount(&small).expect("nothing keeps the small disk busy");
}
