//! Debian's `ctr` against containerd-lite, which it takes for containerd.

use std::fs;

use tests::command::eventually;
use tests::image::Image;
use tests::need::{self, Need};
use tests::stack::{BUSYBOX, Stack};

const NAME: &str = "docker.io/library/busybox:latest";

/// A stack with busybox and a running container `main`; returns its full id.
fn with_a_container() -> (Stack, String) {
    let stack = Stack::with_busybox();
    let id = stack
        .ctl(&["run", "-d", "--name", "main", BUSYBOX, "sleep", "1000"])
        .ok();
    (stack, id.trim().to_owned())
}

/// `ctr run` with the cgroup below the stack's own.
#[track_caller]
fn run(stack: &Stack, args: &[&str], id: &str, command: &[&str]) -> tests::command::Said {
    let cgroup = format!("/{}/{id}", stack.scratch().name());
    let fifos = stack.scratch().text("fifo");
    let fixed = ["run", "--cgroup", &cgroup, "--fifo-dir", &fifos];
    stack.ctr(&[&fixed, args, &[NAME, id], command].concat())
}

#[test]
fn version_names_client_and_server() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::start();
    let said = stack.ctr(&["version"]).ok();
    let server = said.split("Server:").nth(1).expect("a server part");
    let version = server
        .lines()
        .find_map(|line| line.trim().strip_prefix("Version:"))
        .expect("its version");
    assert!(!version.trim().is_empty(), "{said}");
}

#[test]
fn namespaces_are_made_labelled_and_removed() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::with_busybox();
    stack.ctr(&["namespaces", "create", "second", "a=b"]).ok();
    let listed = stack.ctr(&["namespaces", "ls"]).ok();
    assert!(listed.contains("default"), "{listed}");
    assert!(
        listed.contains("second") && listed.contains("a=b"),
        "{listed}"
    );
    stack.ctr(&["namespaces", "label", "second", "a=c"]).ok();
    assert!(stack.ctr(&["namespaces", "ls"]).ok().contains("a=c"));
    assert_ne!(
        stack.ctr(&["namespaces", "create", "second"]).code,
        0,
        "a name is taken once"
    );
    // Each has images of its own.
    assert_eq!(stack.ctr(&["-n", "second", "images", "ls", "-q"]).ok(), "");
    assert_ne!(
        stack.ctr(&["namespaces", "rm", "default"]).code,
        0,
        "a namespace in use stays"
    );
    stack.ctr(&["namespaces", "rm", "second"]).ok();
    assert!(!stack.ctr(&["namespaces", "ls"]).ok().contains("second"));
}

#[test]
fn images_are_listed_tagged_and_removed() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::with_busybox();
    let listed = stack.ctr(&["images", "ls"]).ok();
    assert!(
        listed.contains(NAME) && listed.contains("linux/amd64"),
        "{listed}"
    );
    stack
        .ctr(&["images", "tag", NAME, "docker.io/library/again:1"])
        .ok();
    assert!(
        stack.ctl(&["images"]).ok().contains("again"),
        "both clients see the same images"
    );
    stack.ctr(&["images", "rm", NAME]).ok();
    assert_eq!(
        stack.ctr(&["images", "ls", "-q"]).ok(),
        "docker.io/library/again:1\n"
    );
    stack.ctl(&["run", "--rm", "again:1", "true"]).ok();
    assert!(stack.ctr(&["images", "check"]).ok().contains("complete"));
}

#[test]
fn content_is_listed_and_read_back() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::with_busybox();
    let image = Image::busybox();
    let listed = stack.ctr(&["content", "ls"]).ok();
    assert!(listed.contains(&image.id()), "{listed}");
    let got = stack.ctr(&["content", "get", &image.id()]).ok();
    assert_eq!(got.as_bytes(), image.configuration());
    let missing = format!("sha256:{}", "0".repeat(64));
    assert!(
        stack
            .ctr(&["content", "get", &missing])
            .exits(1)
            .err
            .contains("not found")
    );
}

#[test]
fn content_is_written_through_it() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::start();
    let archive = stack.scratch().text("image.tar");
    fs::write(
        &archive,
        Image::busybox().oci_layout("docker.io/library/imported:1"),
    )
    .unwrap();
    stack
        .ctr(&["images", "import", "--no-unpack", &archive])
        .ok();
    assert_eq!(
        stack.ctl(&["run", "--rm", "imported:1", "echo", "hi"]).ok(),
        "hi\n"
    );
}

#[test]
fn snapshots_are_listed() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let (stack, id) = with_a_container();
    let listed = stack.ctr(&["snapshots", "ls"]).ok();
    let layer = tests::image::digest(&Image::busybox().layers[0]);
    let row = |key: &str| {
        listed
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
    };
    assert!(row(&layer).contains("Committed"), "{listed}");
    assert!(
        row(&id).contains(&layer) && row(&id).contains("Active"),
        "{listed}"
    );
}

#[test]
fn containers_of_the_other_client_are_seen() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let (stack, id) = with_a_container();
    let listed = stack.ctr(&["containers", "ls"]).ok();
    let row = listed
        .lines()
        .find(|line| line.contains(&id))
        .unwrap_or_default();
    assert!(
        row.contains(NAME) && row.contains("io.containerd.runc-rs.v2"),
        "{listed}"
    );
    let info = stack.ctr(&["containers", "info", &id]).ok();
    let info: serde_json::Value = serde_json::from_str(&info).expect("info prints JSON");
    assert_eq!(info["ID"], id);
    assert_eq!(
        info["Spec"]["process"]["args"],
        serde_json::json!(["sleep", "1000"])
    );
}

#[test]
fn tasks_are_listed_entered_and_killed() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let (stack, id) = with_a_container();
    let pid = stack.inspect("main", "/State/Pid").to_string();
    let listed = stack.ctr(&["tasks", "ls"]).ok();
    let row: Vec<&str> = listed
        .lines()
        .find(|line| line.contains(&id))
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row, [&id, pid.as_str(), "RUNNING"], "{listed}");
    let fifos = stack.scratch().text("fifo");
    let exec = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x1",
        &id,
        "echo",
        "inside",
    ];
    assert_eq!(stack.ctr(&exec).ok(), "inside\n");
    let exec = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x2",
        &id,
        "sh",
        "-c",
        "exit 3",
    ];
    stack.ctr(&exec).exits(3);
    assert!(stack.ctr(&["tasks", "ps", &id]).ok().contains(&pid));
    stack.ctr(&["tasks", "kill", "-s", "SIGKILL", &id]).ok();
    assert_eq!(stack.ctl(&["wait", "main"]).ok(), "137\n");
}

#[test]
fn run_passes_output_and_exit_code_on() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::with_busybox();
    let said = run(
        &stack,
        &["--rm"],
        "one",
        &["sh", "-c", "echo out; echo err >&2; exit 12"],
    )
    .exits(12);
    assert_eq!(said.out, "out\n");
    assert!(said.err.starts_with("err\n"), "{said}");
    assert_eq!(stack.ctr(&["containers", "ls", "-q"]).ok(), "");
    assert!(!stack.ctr(&["snapshots", "ls"]).ok().contains("one"));
}

#[test]
fn a_detached_run_is_killed_and_deleted() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let stack = Stack::with_busybox();
    run(&stack, &["-d"], "two", &["sleep", "1000"]).ok();
    assert!(stack.ctr(&["tasks", "ls"]).ok().contains("RUNNING"));
    stack.ctr(&["tasks", "kill", "-s", "KILL", "two"]).ok();
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
    assert_eq!(stack.ctr(&["containers", "ls", "-q"]).ok(), "");
}

#[test]
fn pause_and_resume() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let (stack, id) = with_a_container();
    stack.ctr(&["tasks", "pause", &id]).ok();
    assert!(stack.ctr(&["tasks", "ls"]).ok().contains("PAUSED"));
    stack.ctr(&["tasks", "resume", &id]).ok();
    assert!(stack.ctr(&["tasks", "ls"]).ok().contains("RUNNING"));
}
