//! Groups on the real kernel: made, joined, limited, frozen, counted and removed.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its case has failed"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cgroup::{Cgroup, Host, OomWatch, Stats};
use oci_spec::runtime::LinuxResources;

/// A group of this test alone, removed with its processes at the end.
struct Group(Cgroup);

impl Group {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/cgroup-test-{name}-{}", std::process::id()));
        let group = Cgroup::named(&Host::detect().unwrap(), &path).unwrap();
        assert!(group.create(&LinuxResources::default()).unwrap().all);
        Self(group)
    }

    fn limit(&self, json: &str) {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        self.0.limit(&resources).unwrap();
    }

    /// A shell that joins the group before it runs `script`.
    fn run(&self, script: &str) -> Child {
        let dirs = self.0.dirs().values();
        let joins: String = dirs
            .map(|d| format!("echo 0 > {}/cgroup.procs; ", d.display()))
            .collect();
        let mut shell = Command::new("/bin/busybox")
            .arg("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = format!("{joins}{script}\n");
        shell
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        shell
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for pid in self.0.pids().unwrap_or_default() {
            let _gone = kernel::signals::kill(pid, 9);
        }
        let _thawed = self.0.freeze(false);
        self.0.delete().unwrap();
        assert!(!self.0.exists());
    }
}

#[test]
fn a_pids_limit_stops_forks() {
    let group = Group::new("pids");
    group.limit(r#"{"pids": {"limit": 1}}"#);
    let out = group
        .run("sleep 0 & wait; echo done")
        .wait_with_output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(stderr.contains("fork"), "{stderr}");
}

#[test]
fn a_memory_limit_kills_and_the_watch_sees_it() {
    let group = Group::new("memory");
    group.limit(r#"{"memory": {"limit": 8388608}}"#);
    let mut watch = OomWatch::new(&group.0).unwrap();
    // tail keeps its one endless line in memory.
    let status = group.run("exec busybox tail /dev/zero").wait().unwrap();
    assert!(!status.success());
    assert!(watch.kills() >= 1);
    assert_eq!(watch.kills(), 0);
}

#[test]
fn a_denied_device_cannot_be_opened() {
    let group = Group::new("devices");
    group.limit(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#);
    let out = group
        .run("cat /dev/null && echo null; cat < /dev/kmsg")
        .wait_with_output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(stderr.contains("not permitted"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "null\n");
}

#[test]
fn a_frozen_group_is_counted_and_thaws() {
    let group = Group::new("freezer");
    let mut child = group.run("exec busybox sleep 100");
    // It joins one hierarchy after the other; frozen half way, it would never
    // come to the rest.
    let host = Host::detect().unwrap();
    let of_child = || Cgroup::of_process(&host, child.id() as i32).unwrap();
    while of_child().dirs() != group.0.dirs() {
        std::thread::yield_now();
    }
    assert!(!group.0.is_frozen().unwrap());
    group.0.freeze(true).unwrap();
    assert!(group.0.is_frozen().unwrap());
    let current = match group.0.stats().unwrap() {
        Stats::V1(stats) => stats.pids.current,
        Stats::V2(stats) => stats.pids.current,
    };
    assert_eq!(current, 1);
    assert!(group.0.pids().unwrap().contains(&(child.id() as i32)));
    group.0.freeze(false).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_there_before_is_told_from_what_was_made() {
    let group = Group::new("made");
    let made = group.0.create(&LinuxResources::default()).unwrap();
    assert!(!made.all);
    assert!(made.new.dirs().is_empty());
    made.new.delete().unwrap();
    assert!(group.0.exists());
    let (_, gone) = group.0.dirs().first_key_value().unwrap();
    std::fs::remove_dir(gone).unwrap();
    let made = group.0.create(&LinuxResources::default()).unwrap();
    let all = group
        .0
        .dirs()
        .values()
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(made.all, all.len() == 1);
    assert!(made.new.dirs().values().all(|dir| dir == gone));
    assert!(!made.new.dirs().is_empty());
}

#[test]
fn paths_that_lead_upwards_are_refused() {
    assert!(Cgroup::named(&Host::detect().unwrap(), &PathBuf::from("/a/../../b")).is_err());
}
