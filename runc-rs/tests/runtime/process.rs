//! How a process starts: environment, directory, processors, namespaces of others, and signals before it has started.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};

#[test]
fn an_empty_home_is_the_users_own() {
    let mut bundle = Bundle::new("echo $HOME");
    let etc = bundle.dir.path().join("rootfs/etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("passwd"), "me:x:0:0::/home/me:/bin/sh\n").unwrap();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME=/other", "HOME="]);
    assert_eq!(bundle.prints(), "/home/me\n");
}

#[test]
fn root_enters_a_directory_that_the_user_may_not() {
    let mut bundle = Bundle::new("id -u");
    let private = bundle.dir.path().join("rootfs/private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    bundle.config["process"]["cwd"] = json!("/private");
    bundle.config["process"]["user"] = json!({"uid": 42, "gid": 42});
    assert_eq!(bundle.prints(), "42\n");
}

/// On Debian's runc the same, as long as it knows of it.
#[test]
fn the_callers_processors_are_not_the_containers() {
    let bundle = Bundle::new("grep Cpus_allowed_list /proc/self/status");
    bundle.save();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = own
        .lines()
        .find(|l| l.starts_with("Cpus_allowed_list"))
        .unwrap();
    let out = Command::new("taskset")
        .args(["-c", "0", RUNTIME, "--root"])
        .arg(bundle.root())
        .args(["run", &bundle.id])
        .current_dir(bundle.dir.path())
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout).trim(), all, "{}", text(&out.stderr));
}

#[test]
fn hooks_in_the_container_get_its_environment_directory_and_filter() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["env"] = json!(["A=1", "PATH=/bin"]);
    bundle.config["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo > made-in-the-rootfs"]}],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "test $A = 1 && test -f /made-in-the-rootfs"]}],
    });
    bundle.prints();
    bundle.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/mkdir", "args": ["mkdir", "/never"]}]);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    contains(
        &bundle.complaint(),
        "error running startContainer hook #0: signal: bad system call",
    );
}

#[test]
fn a_container_that_waits_ends_by_signals_that_end_others() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.save();
    let created = bundle
        .command(RUNTIME, &["create", &bundle.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(created.unwrap().success());
    assert!(bundle.call(&["kill", &bundle.id, "TERM"]).status.success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while bundle.state()["status"] != "stopped" {
        assert!(Instant::now() < deadline, "it still waits");
        std::thread::yield_now();
    }
}

#[test]
fn namespaces_of_the_host_are_joined_beside_a_new_user_namespace() {
    let mut bundle = Bundle::new("cat /proc/sys/kernel/hostname");
    bundle.in_user_namespace();
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "uts" {
            namespace["path"] = json!("/proc/self/ns/uts");
        }
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(bundle.prints(), host);
}

#[test]
fn all_namespaces_of_another_container_are_joined_its_user_namespace_too() {
    let mut first = Bundle::new("exec sleep 100");
    first.in_user_namespace();
    first.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    first.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 7881, "nanosecs": 5}});
    first.start();
    let pid = first.state()["pid"].to_string();
    let mut second = Bundle::new("cat /proc/self/timens_offsets /proc/self/uid_map");
    second.in_user_namespace();
    let linux = second.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "time"}));
    for namespace in namespaces {
        let kind = namespace["type"].as_str().unwrap().to_owned();
        let name = match kind.as_str() {
            "mount" => continue,
            "network" => "net",
            other => other,
        };
        namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
    }
    let seen = second.prints();
    contains(&seen, "7881");
    contains(&seen, "100000");
}

#[test]
fn a_frozen_or_used_group_is_no_place_for_a_container() {
    let bundle = Bundle::new("true");
    let freezer = std::path::Path::new("/sys/fs/cgroup/freezer");
    let group = format!("runc-rs-test-{}", bundle.id);
    let (dir, file, frozen, thawed) = if freezer.is_dir() {
        (freezer.join(&group), "freezer.state", "FROZEN", "THAWED")
    } else {
        let unified = std::path::Path::new("/sys/fs/cgroup").join(&group);
        (unified, "cgroup.freeze", "1", "0")
    };
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(file), frozen).unwrap();
    let out = bundle.run();
    let others: Vec<_> = bundle.cgroups().into_iter().filter(|d| *d != dir).collect();
    std::fs::write(dir.join(file), thawed).unwrap();
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(out.status.code(), Some(1));
    contains(&text(&out.stderr), "unexpectedly frozen");
    assert!(others.is_empty(), "groups are left: {others:?}");
}

#[test]
fn the_process_and_an_exec_are_in_the_containers_group_of_every_hierarchy() {
    let mut bundle = Bundle::new("cat /proc/self/cgroup > /groups; exec sleep 100");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != "cgroup");
    bundle.start();
    let file = bundle.dir.path().join("rootfs/groups");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&file).is_ok_and(|t| t.ends_with('\n')) {
        assert!(Instant::now() < deadline, "it does not run");
        std::thread::yield_now();
    }
    let exec = bundle.call(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    let own = format!(":/runc-rs-test-{}", bundle.id);
    for groups in [std::fs::read_to_string(&file).unwrap(), text(&exec.stdout)] {
        assert!(groups.lines().count() > 0);
        for line in groups.lines() {
            assert!(line.ends_with(&own), "{line}");
        }
    }
}

#[test]
fn exec_by_a_group_that_is_not_there_or_no_controllers_is_refused() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    let complaint = |group: &str| {
        let out = bundle.call(&["exec", "--cgroup", group, &bundle.id, "true"]);
        assert_eq!(out.status.code(), Some(255), "{group}");
        text(&out.stderr)
    };
    contains(&complaint(".."), "bad sub cgroup path");
    contains(&complaint("nope:/"), "unknown controller nope");
    contains(&complaint("nope"), "no such file or directory");
}

#[test]
fn a_list_of_containers_in_a_place_that_is_named_must_be_there() {
    let bundle = Bundle::new("");
    let out = bundle.call(&["list"]);
    assert_eq!(out.status.code(), Some(1));
    contains(&text(&out.stderr), "no such file or directory");
}
