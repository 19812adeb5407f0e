//! Disks that fail: each kind of call that changes one is made to fail, with the
//! errors that disks have, early and late in pulls, imports and removals. Each
//! time the client hears one clear line, the daemon lives, its stores are clean,
//! and the same work succeeds once the disk is well again.
//!
//! strace makes the calls fail, from outside the daemon.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::command::{self, Said, eventually};
use tests::image::Image;
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::stack::Stack;
use tests::stores;
use tests::tar::Tar;

/// Calls that change a disk and nothing else. `write` is none of them: it wakes
/// threads as well, and a full disk is tested by a small one.
const CALLS: [&str; 7] = [
    "pwrite64",
    "fsync,fdatasync",
    "syncfs",
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "chmod,fchmod,fchmodat",
    "unlink,unlinkat,rmdir",
];

/// After these the daemon cleans up by itself. The others keep it from removing
/// files or from writing to its database, and the next start puts that in order.
const UNDONE_AT_ONCE: [&str; 4] = [CALLS[2], CALLS[3], CALLS[4], CALLS[5]];

/// What disks say, and the words of it that a client must hear.
const ERRORS: [(&str, &str); 4] = [
    ("EIO", "Input/output error"),
    ("ENOSPC", "No space left on device"),
    ("EROFS", "Read-only file system"),
    ("EACCES", "Permission denied"),
];

/// strace on a running daemon. Dropped, it lets go.
struct Failing {
    strace: Child,
}

impl Failing {
    /// Lets the calls of one kind fail, from the `first` of each thread on.
    fn start(stack: &Stack, calls: &str, error: &str, first: u32) -> Self {
        let log = stack.scratch().path("strace.log");
        let said = fs::File::create(&log).expect("a file");
        let mut strace = Command::new("strace");
        strace
            .args(["--follow-forks", "--attach"])
            .arg(stack.daemon_pid().to_string())
            .arg(format!("--trace={calls}"))
            .arg(format!("--inject={calls}:error={error}:when={first}+"))
            .args(["--output", "/dev/null"])
            .stdin(Stdio::null())
            .stderr(said);
        let strace = strace.spawn().expect("strace can be run");
        let pid = stack.daemon_pid();
        eventually("strace to hold every thread", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let all_held = tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            });
            all_held.then_some(())
        });
        Self { strace }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // Asked to end, it lets the daemon go first.
        let _ = kill(
            Pid::from_raw(self.strace.id().cast_signed()),
            Signal::SIGINT,
        );
        drop(self.strace.wait());
    }
}

/// An image of two layers, of which a pull makes a few dozen changes.
fn image() -> Image {
    let mut top = Tar::new().file("word", 0o644, b"said");
    for number in 0..20 {
        let dir = format!("dir{number}");
        top = top.dir(&dir, 0o750);
        top = top.file(&format!("{dir}/file"), 0o600, &[7; 5000]);
    }
    Image::busybox().layer(top)
}

/// One clear line, of the disk, or a success: the call may not have come up.
#[track_caller]
fn told_well(said: &Said, calls: &str, error: &str, words: &str) -> bool {
    if said.code == 0 {
        return false;
    }
    let place = format!("{error} at {calls}");
    assert_eq!(said.err.trim_end().lines().count(), 1, "{place}: {said}");
    assert!(!said.err.contains("panicked"), "{place}: {said}");
    // SQLite has words of its own.
    let of_sqlite = [
        "disk I/O error",
        "database or disk is full",
        "readonly database",
    ];
    let told = said.err.contains(words) || of_sqlite.iter().any(|own| said.err.contains(own));
    assert!(told, "{place}: {said}");
    true
}

/// What is done while the disk fails, and what is held against what afterwards.
fn with_each_fault(work: impl Fn(&Stack) -> Said, first: u32) {
    let mut stack = Stack::start();
    // Its socket is there before it has read its stores.
    stack.ctl(&["version"]).ok();
    let mut failed = 0;
    for (at, calls) in CALLS.into_iter().enumerate() {
        // Every error at every kind of call would take minutes: two of them, and
        // all four come up.
        for (error, words) in [ERRORS[at % 4], ERRORS[(at + 1) % 4]] {
            let failing = Failing::start(&stack, calls, error, first);
            let said = work(&stack);
            drop(failing);
            failed += u32::from(told_well(&said, calls, error, words));
            let place = format!("{error} at {calls}: {said}");
            if !UNDONE_AT_ONCE.contains(&calls) {
                stack.stop_daemon();
                stack.start_daemon();
            }
            collect(&stack);
            stores::agree_with_the_disk(&stack, &place);
            // Well again.
            work(&stack).ok();
            let name = stack.ctl(&["images", "-q"]).ok();
            for id in name.split_whitespace() {
                stack.ctl(&["rmi", "-f", id]).ok();
            }
        }
    }
    assert!(failed > 0, "no call ever failed");
}

/// A collection, by now of what could not be removed before.
fn collect(stack: &Stack) {
    stack.ctr(&["leases", "create", "--id", "x"]).ok();
    stack.ctr(&["leases", "rm", "--sync", "x"]).ok();
}

#[test]
fn an_import_onto_a_failing_disk() {
    if need::skip(&[Need::Containerd, Need::Strace]) {
        return;
    }
    let archive = image().docker_archive(&["faulty:1"]);
    for first in [1, 4] {
        let load = |stack: &Stack| stack.ctl_with_input(&["load"], &archive);
        with_each_fault(load, first);
    }
}

#[test]
fn a_pull_onto_a_failing_disk() {
    if need::skip(&[Need::Containerd, Need::Registry, Need::Strace]) {
        return;
    }
    let scratch = tests::scratch::Scratch::new();
    let registry = Registry::start(&scratch);
    registry.put(&scratch, &image(), "faulty:1", &[]);
    let reference = registry.reference("faulty:1");
    for first in [1, 4] {
        with_each_fault(|stack| stack.ctl(&["pull", "-q", &reference]), first);
    }
}

#[test]
fn a_root_that_cannot_be_written_is_told_at_the_start() {
    let stack = Stack::cold();
    let root = stack.root().to_path_buf();
    fs::create_dir_all(&root).expect("a directory");
    let mount = |args: &[&str]| {
        let mut mount = Command::new("mount");
        command::run(mount.args(args).arg(&root)).ok();
    };
    mount(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    mount(&["-o", "remount,ro"]);
    let program = tests::repository::program("containerd-lite");
    let said = command::run(&mut stack.command(&program));
    command::run(Command::new("umount").arg(&root)).ok();
    said.fails_naming(&["Read-only file system", &root.display().to_string()]);
}

#[test]
fn a_removal_from_a_failing_disk_is_finished_by_the_next_collection() {
    if need::skip(&[Need::Containerd, Need::Strace]) {
        return;
    }
    let mut stack = Stack::start();
    stack.ctl(&["version"]).ok();
    let archive = image().docker_archive(&["faulty:1"]);
    for (error, words) in ERRORS {
        stack.ctl_with_input(&["load"], &archive).ok();
        let failing = Failing::start(&stack, "unlink,unlinkat,rmdir", error, 1);
        let said = stack.ctl(&["rmi", "faulty:1"]);
        drop(failing);
        told_well(&said, "unlink", error, words);
        // The files that could not be removed are litter, which a start removes.
        stack.stop_daemon();
        stack.start_daemon();
        stores::agree_with_the_disk(&stack, error);
        assert_eq!(stack.ctl(&["images", "-q"]).ok(), "");
        assert_eq!(blobs(&stack), 0);
    }
}

fn blobs(stack: &Stack) -> usize {
    let dir: &Path = &stack.root().join("content/blobs/sha256");
    fs::read_dir(dir).expect("the blobs").count()
}
