//! Hostile images and bundles against the runtime: each case is an escape that was published for some runtime, played by busybox
//! scripts inside the container and by links, nodes and races in its root filesystem.
//!
//! - here: what a process of a container can reach (the runtime's program, descriptors, identities, capabilities);
//! - [`rootfs`]: what an image can do to the places of mounts, devices and masks;
//! - [`procfs`]: what is written under /proc, and what an image can show in its place.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its case has failed"
)]

#[path = "../runtime/bundle.rs"]
#[expect(dead_code, reason = "the other suite uses more of it")]
mod bundle;
mod procfs;
mod rootfs;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use bundle::{Bundle, RUNTIME, contains, text};

/// Waits until `done` says so; a minute is for ever.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the container's way to get hold of the program that runs `exec`: it is started inside, through `/proc/self/exe`, and kept
/// there by a fifo that it reads; a process of the container opens `/proc/PID/exe`, lets it end, and writes.
const OVERWRITE: &str = "mkdir /b; mkfifo /b/config.json; touch /ready; \
    while :; do for p in /proc/[0-9]*; do \
      case $(readlink $p/exe) in */busybox|'') ;; *) \
        exec 9<$p/exe; (echo x >> $p/exe) 2>/running; echo '{' > /b/config.json; \
        while [ -e $p/exe ] && ! grep -q busybox $p/cmdline; do sleep 0.05; done; \
        (echo overwritten >> /proc/self/fd/9) 2>/ended; touch /done; exec sleep 1000;; \
      esac; done; done";

/// CVE-2019-5736.
#[test]
fn the_runtimes_program_cannot_be_overwritten_from_an_exec() {
    let bundle = Bundle::new(OVERWRITE);
    let rootfs = bundle.dir.path().join("rootfs");
    let own = bundle.dir.path().join("own-runc-rs");
    fs::copy(RUNTIME, &own).unwrap();
    bundle.start();
    eventually("the container is ready", || rootfs.join("ready").exists());
    let args = ["exec", &bundle.id, "/proc/self/exe", "plan", "/b"];
    let mut exec = bundle.command(own.to_str().unwrap(), &args);
    let out = exec.output().unwrap();
    contains(&text(&out.stderr), "config.json");
    eventually("the attack has been made", || rootfs.join("done").exists());
    // While it runs any program is busy; what counts is afterwards.
    let complaint = fs::read_to_string(rootfs.join("ended")).unwrap();
    contains(&complaint, "Read-only file system");
    assert!(
        fs::read(&own).unwrap() == fs::read(RUNTIME).unwrap(),
        "the program was changed"
    );
}

/// CVE-2024-21626: the runtime, or its caller, has a directory of the host open while the working directory is set.
#[test]
fn no_descriptor_is_a_way_out_for_the_working_directory() {
    let host = fs::File::open("/").unwrap();
    for number in 3..16 {
        let mut bundle = Bundle::new("cat /proc/self/mountinfo; ls -a");
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        bundle.save();
        let leaked = Leaked::new(host.as_fd());
        let out = bundle.call(&["run", &bundle.id]);
        drop(leaked);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
        assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.start();
    for number in 3..16 {
        let leaked = Leaked::new(host.as_fd());
        let cwd = format!("/proc/self/fd/{number}");
        let out = bundle.call(&["exec", "--cwd", &cwd, &bundle.id, "ls", "-a"]);
        drop(leaked);
        assert_eq!(out.status.code(), Some(255), "{}", text(&out.stdout));
        assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    }
}

/// A descriptor that programs started by this process inherit, as a careless caller's would be.
struct Leaked(i32);

impl Leaked {
    /// At a number that is 9 or more.
    fn new(fd: BorrowedFd<'_>) -> Self {
        Self(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(9)).unwrap())
    }
}

impl Drop for Leaked {
    fn drop(&mut self) {
        nix::unistd::close(self.0).unwrap();
    }
}

#[test]
fn nothing_the_caller_left_open_reaches_the_container() {
    let secret = tempfile::tempfile().unwrap();
    let bundle = Bundle::new("ls /proc/self/fd; exec sleep 1000");
    let mut short = Bundle::new("");
    short.config["process"]["args"] = json!(["ls", "/proc/self/fd"]);
    let leaked = Leaked::new(secret.as_fd());
    // Standard streams, and the directory that is being listed.
    assert_eq!(short.prints(), "0\n1\n2\n3\n");
    bundle.start();
    let out = bundle.call(&["exec", &bundle.id, "ls", "/proc/self/fd"]);
    assert_eq!(text(&out.stdout), "0\n1\n2\n3\n", "{}", text(&out.stderr));
    drop(leaked);
}

#[test]
fn a_user_is_a_number_and_nothing_else() {
    let bundle = Bundle::new("exec sleep 1000");
    bundle.start();
    for user in [
        "",
        "+7",
        "-1",
        " 7",
        "7 ",
        "0x7",
        "root",
        "7:",
        "7:+8",
        "4294967296",
    ] {
        let out = bundle.call(&["exec", &format!("--user={user}"), &bundle.id, "id", "-u"]);
        assert_eq!(
            out.status.code(),
            Some(255),
            "{user:?}: {}",
            text(&out.stdout)
        );
        contains(&text(&out.stderr), "in numbers");
    }
    // The kernel takes this number to mean that nothing is to change: the process would stay root.
    for user in ["4294967295", "7:4294967295"] {
        let out = bundle.call(&["exec", "-u", user, &bundle.id, "id", "-u"]);
        assert_eq!(
            out.status.code(),
            Some(255),
            "{user}: {}",
            text(&out.stdout)
        );
    }
    let mut config = Bundle::new("id -u");
    config.config["process"]["user"]["uid"] = json!(u32::MAX);
    contains(&config.complaint(), "process/user/uid");
}

/// CVE-2022-29162.
#[test]
fn inheritable_capabilities_stay_empty() {
    let bundle = Bundle::new("exec sleep 1000");
    assert!(bundle.config["process"]["capabilities"]["inheritable"].is_null());
    bundle.start();
    let args = [
        "exec",
        "--cap",
        "CAP_NET_ADMIN",
        &bundle.id,
        "cat",
        "/proc/self/status",
    ];
    let out = bundle.call(&args);
    let status = text(&out.stdout);
    for set in ["CapInh", "CapAmb"] {
        contains(&status, &format!("{set}:\t0000000000000000\n"));
    }
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:\t"))
        .unwrap();
    let effective = u64::from_str_radix(effective, 16).unwrap();
    assert_ne!(effective & 1 << 12, 0, "the capability was asked for");
}

#[test]
fn a_container_with_a_cgroup_namespace_sees_only_its_own_cgroup() {
    let mut bundle = Bundle::new("cat /proc/self/cgroup");
    let kinds = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    // The default config has it where the host has cgroup v2 alone.
    if !kinds.contains(&json!({"type": "cgroup"})) {
        assert!(!Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        kinds.push(json!({"type": "cgroup"}));
    }
    let seen = bundle.prints();
    let ours: Vec<&str> = seen.lines().filter(|line| !line.ends_with(":/")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}
