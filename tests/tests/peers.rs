//! Each program with the established counterpart of the next one.
//!
//! - containerd with our shim and runc-rs,
//! - containerd-lite with containerd's shim and runc,
//! - containerd-lite and our shim with runc.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tests::command::{Said, eventually};
use tests::containerd::Containerd;
use tests::image::Image;
use tests::need::{self, Need, on_path};
use tests::repository;
use tests::scratch::Scratch;
use tests::stack::{BUSYBOX, Stack};

const NAME: &str = "docker.io/library/busybox:latest";
const OURS: &str = "io.containerd.runc-rs.v2";
const THEIRS: &str = "io.containerd.runc.v2";

/// containerd with busybox imported.
fn containerd(scratch: &Scratch) -> Containerd {
    let containerd = Containerd::start(scratch);
    let archive = scratch.text("image.tar");
    fs::write(&archive, Image::busybox().docker_archive(&[BUSYBOX]))
        .expect("an archive can be written");
    containerd.ctr(&["images", "import", &archive]).ok();
    containerd
}

/// `ctr run` on containerd with our shim.
#[track_caller]
fn run_ours(
    scratch: &Scratch,
    containerd: &Containerd,
    args: &[&str],
    id: &str,
    command: &[&str],
) -> Said {
    let (cgroup, fifos, root) = (
        containerd.cgroup(id),
        scratch.text("fifo"),
        scratch.text("runc"),
    );
    let fixed = [
        "run",
        "--runtime",
        OURS,
        "--runc-root",
        &root,
        "--cgroup",
        &cgroup,
        "--fifo-dir",
        &fifos,
    ];
    containerd.ctr(&[&fixed, args, &[NAME, id], command].concat())
}

#[test]
fn containerd_runs_a_container_with_our_shim() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let scratch = Scratch::new();
    let containerd = containerd(&scratch);
    let script = "echo out; echo err >&2; exit 12";
    let said = run_ours(
        &scratch,
        &containerd,
        &["--rm"],
        "one",
        &["sh", "-c", script],
    )
    .exits(12);
    assert_eq!(said.out, "out\n");
    assert!(said.err.starts_with("err\n"), "{said}");
    assert_eq!(containerd.ctr(&["containers", "ls", "-q"]).ok(), "");
}

#[test]
fn containerd_execs_pauses_and_kills_through_our_shim() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let scratch = Scratch::new();
    let containerd = containerd(&scratch);
    let fifos = scratch.text("fifo");
    run_ours(&scratch, &containerd, &["-d"], "two", &["sleep", "1000"]).ok();
    let exec = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x",
        "two",
        "echo",
        "inside",
    ];
    assert_eq!(containerd.ctr(&exec).ok(), "inside\n");
    assert_eq!(
        containerd.ctr(&["tasks", "ps", "two"]).ok().lines().count(),
        2
    );
    let metrics = containerd.ctr(&["tasks", "metrics", "two"]).ok();
    assert!(metrics.contains("memory"), "{metrics}");
    containerd.ctr(&["tasks", "pause", "two"]).ok();
    assert!(containerd.ctr(&["tasks", "ls"]).ok().contains("PAUSED"));
    containerd.ctr(&["tasks", "resume", "two"]).ok();
    containerd
        .ctr(&["tasks", "kill", "-s", "SIGKILL", "two"])
        .ok();
    eventually("the task to stop", || {
        containerd
            .ctr(&["tasks", "ls"])
            .ok()
            .contains("STOPPED")
            .then_some(())
    });
    assert!(
        containerd
            .ctr(&["tasks", "rm", "two"])
            .exits(0)
            .err
            .contains("exit code 137")
    );
    containerd.ctr(&["containers", "rm", "two"]).ok();
}

#[test]
fn containerd_hears_of_a_missing_program_from_our_shim() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let scratch = Scratch::new();
    let containerd = containerd(&scratch);
    let said = run_ours(
        &scratch,
        &containerd,
        &["--rm"],
        "three",
        &["no-such-program"],
    );
    assert_ne!(said.code, 0, "{said}");
    assert!(said.err.contains("no-such-program"), "{said}");
    // ctr 1.6 leaves the container record of a failed run behind.
    containerd.ctr(&["containers", "rm", "three"]);
    assert!(!containerd.ctr(&["tasks", "ls"]).ok().contains("three"));
}

/// `ctr run` on containerd-lite with their shim.
#[track_caller]
fn run_theirs(stack: &Stack, args: &[&str], id: &str, command: &[&str]) -> Said {
    let cgroup = format!("/{}/{id}", stack.scratch().name());
    let (fifos, root) = (stack.scratch().text("fifo"), stack.scratch().text("runc"));
    let fixed = [
        "run",
        "--runtime",
        THEIRS,
        "--runc-root",
        &root,
        "--cgroup",
        &cgroup,
        "--fifo-dir",
        &fifos,
    ];
    stack.ctr(&[&fixed, args, &[NAME, id], command].concat())
}

#[test]
fn containerd_lite_runs_a_container_with_their_shim_and_runc() {
    if need::skip(&[Need::Containerd, Need::Runc]) {
        return;
    }
    let stack = Stack::with_busybox();
    let script = "echo out; echo err >&2; exit 12";
    let said = run_theirs(&stack, &["--rm"], "one", &["sh", "-c", script]).exits(12);
    assert_eq!(said.out, "out\n");
    assert!(said.err.starts_with("err\n"), "{said}");
    assert_eq!(stack.ctr(&["containers", "ls", "-q"]).ok(), "");
}

#[test]
fn containerd_lite_execs_and_kills_through_their_shim() {
    if need::skip(&[Need::Containerd, Need::Runc]) {
        return;
    }
    let stack = Stack::with_busybox();
    run_theirs(&stack, &["-d"], "two", &["sleep", "1000"]).ok();
    let fifos = stack.scratch().text("fifo");
    let exec = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x",
        "two",
        "echo",
        "inside",
    ];
    assert_eq!(stack.ctr(&exec).ok(), "inside\n");
    stack.ctr(&["tasks", "kill", "-s", "SIGKILL", "two"]).ok();
    eventually("the task to stop", || {
        stack
            .ctr(&["tasks", "ls"])
            .ok()
            .contains("STOPPED")
            .then_some(())
    });
    assert!(
        stack
            .ctr(&["tasks", "rm", "two"])
            .exits(0)
            .err
            .contains("exit code 137")
    );
    stack.ctr(&["containers", "rm", "two"]).ok();
}

#[test]
fn our_shim_drives_runc() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let stack = Stack::with_busybox();
    let runc = on_path("runc").expect("runc is installed");
    // A shim takes the runtime beside its own executable: here one that
    // notes it was called, and becomes runc.
    let bin = stack.scratch().path("bin");
    let shim = bin.join("containerd-shim-runc-rs-v2");
    let (runtime, note) = (bin.join("runc-rs"), stack.scratch().path("called"));
    fs::create_dir(&bin).unwrap();
    fs::copy(repository::program("containerd-shim-runc-rs-v2"), &shim).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {} \"$@\"\n",
        note.display(),
        runc.display()
    );
    fs::write(&runtime, script).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let shim = shim.display().to_string();
    let run = [
        "run",
        "--rm",
        "--runtime",
        &shim,
        BUSYBOX,
        "sh",
        "-c",
        "echo by runc; exit 4",
    ];
    assert_eq!(stack.ctl(&run).exits(4).out, "by runc\n");
    let called = fs::read_to_string(note).unwrap();
    assert!(
        called.contains(" create ") && called.contains(" start "),
        "{called}"
    );
}
