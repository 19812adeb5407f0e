//! Where a container's cgroup is, what a container sees of it, and what is refused.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{Bundle, contains, text};
use crate::{eventually, group, inside, value};

/// The config's namespaces without the one of this kind.
fn without(config: &mut Value, kind: &str) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|ns| ns["type"] != kind);
}

fn writable_cgroups(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"]
                .as_array_mut()
                .unwrap()
                .retain(|option| option != "ro");
        }
    }
}

#[test]
fn with_a_namespace_of_its_own_a_container_sees_its_group_as_the_root() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    assert_eq!(inside(&bundle, "cat /proc/self/cgroup"), "0::/");
    let below = inside(&bundle, "busybox find /sys/fs/cgroup -type d");
    assert_eq!(below, "/sys/fs/cgroup");
    contains(
        &inside(&bundle, "mkdir /sys/fs/cgroup/x 2>&1 || true"),
        "Read-only",
    );
}

#[test]
fn without_one_it_sees_all_and_the_hosts_mount_keeps_its_options() {
    let options = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts
            .lines()
            .find(|line| line.contains(" /sys/fs/cgroup "))
            .unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let before = options();
    assert!(before.contains("nsdelegate"), "{before}");
    let mut bundle = Bundle::new("exec sleep 100");
    without(&mut bundle.config, "cgroup");
    bundle.start();
    let own = group(&bundle);
    let name = own.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        inside(&bundle, "cat /proc/self/cgroup"),
        format!("0::/{name}")
    );
    assert_eq!(
        inside(
            &bundle,
            &format!("ls -d /sys/fs/cgroup/init.scope /sys/fs/cgroup/{name}")
        ),
        format!("/sys/fs/cgroup/init.scope\n/sys/fs/cgroup/{name}")
    );
    assert_eq!(options(), before);
}

#[test]
fn an_exec_goes_beside_init_where_the_group_itself_has_no_room() {
    let mut bundle = Bundle::new("exec sleep 100");
    writable_cgroups(&mut bundle.config);
    bundle.start();
    inside(
        &bundle,
        "mkdir /sys/fs/cgroup/foo; echo 1 > /sys/fs/cgroup/foo/cgroup.procs",
    );
    assert_eq!(inside(&bundle, "cat /proc/self/cgroup"), "0::/");
    inside(
        &bundle,
        "echo $$ > /sys/fs/cgroup/foo/cgroup.procs; echo +memory > /sys/fs/cgroup/cgroup.subtree_control",
    );
    assert_eq!(inside(&bundle, "cat /proc/self/cgroup"), "0::/foo");
}

#[test]
fn a_group_with_processes_or_frozen_is_refused_and_left_alone() {
    let bundle = Bundle::new("true");
    let dir = Path::new("/sys/fs/cgroup").join(format!("runc-rs-test-{}", bundle.id));
    std::fs::create_dir(&dir).unwrap();
    let mut sleeper = Command::new("/bin/sleep").arg("100").spawn().unwrap();
    std::fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let out = bundle.run();
    contains(&text(&out.stderr), "container's cgroup is not empty");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    eventually("an empty group", || {
        value(&dir, "cgroup.procs").is_empty().then_some(())
    });
    std::fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    let out = bundle.run();
    contains(&text(&out.stderr), "cgroup unexpectedly frozen");
    assert!(dir.is_dir());
    std::fs::write(dir.join("cgroup.freeze"), "0").unwrap();
    assert!(bundle.run().status.success());
    assert!(!dir.exists());
}

#[test]
fn groups_made_by_the_container_go_with_it() {
    let mut bundle = Bundle::new("exec sleep 100");
    writable_cgroups(&mut bundle.config);
    bundle.start();
    let group = group(&bundle);
    inside(
        &bundle,
        "mkdir -p /sys/fs/cgroup/a/b /sys/fs/cgroup/c; echo $$ > /sys/fs/cgroup/a/b/cgroup.procs; (busybox setsid sleep 100 >/dev/null 2>&1 &)",
    );
    assert!(group.join("a/b").is_dir());
    let out = bundle.call(&["delete", "-f", &bundle.id]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(!group.exists());
}

#[test]
fn controllers_are_handed_down_a_nested_path() {
    let mut bundle = Bundle::new("exec sleep 100");
    let top = format!("runc-rs-test-{}", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{top}/pod/container"));
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    bundle.start();
    let group = group(&bundle).join("pod/container");
    assert_eq!(value(&group, "memory.max"), "33554432");
    let root = value(Path::new("/sys/fs/cgroup"), "cgroup.controllers");
    assert_eq!(value(&group, "cgroup.controllers"), root);
    let out = bundle.call(&["delete", "-f", &bundle.id]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    // What the container's own group was put into is not the container's.
    let top = Path::new("/sys/fs/cgroup").join(top);
    assert!(!group.exists());
    std::fs::remove_dir(top.join("pod")).unwrap();
    std::fs::remove_dir(top).unwrap();
}

#[test]
fn below_processes_only_threaded_controllers_are_taken() {
    let mut bundle = Bundle::new("true");
    let top = Path::new("/sys/fs/cgroup").join(format!("runc-rs-test-{}", bundle.id));
    std::fs::create_dir(&top).unwrap();
    std::fs::create_dir(top.join("threads")).unwrap();
    std::fs::write(top.join("threads/cgroup.type"), "threaded").unwrap();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/runc-rs-test-{}/box", bundle.id));
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    let out = bundle.run();
    assert_eq!(out.status.code(), Some(1));
    contains(&text(&out.stderr), "with domain controllers -- it is in");
    std::fs::remove_dir(top.join("threads")).unwrap();
    std::fs::remove_dir(&top).unwrap();
}

#[test]
fn kill_and_pause_work_on_the_whole_group() {
    let bundle = Bundle::new("sleep 100 & sleep 100 & wait");
    bundle.start();
    let group = group(&bundle);
    let ok = |args: &[&str]| {
        let out = bundle.call(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    };
    ok(&["pause", &bundle.id]);
    contains(&value(&group, "cgroup.events"), "frozen 1");
    assert_eq!(bundle.state()["status"], "paused");
    let refused = bundle.call(&["exec", &bundle.id, "true"]);
    assert!(!refused.status.success());
    ok(&["resume", &bundle.id]);
    contains(&value(&group, "cgroup.events"), "frozen 0");
    ok(&["pause", &bundle.id]);
    ok(&["kill", "-a", &bundle.id, "KILL"]);
    eventually("everybody's end", || {
        value(&group, "cgroup.events")
            .contains("populated 0")
            .then_some(())
    });
    assert_eq!(bundle.state()["status"], "stopped");
}
