//! What is written under /proc reaches the kernel or nothing (CVE-2019-16884, 2019-19921, 2023-28642, 2025-52881).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};

const SYSCTL: &str = "net/ipv4/ip_unprivileged_port_start";

/// A tree that looks like procfs where the runtime writes.
fn fake_proc(at: &Path) {
    for file in [
        "sys/net/ipv4/ip_unprivileged_port_start",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "self/oom_score_adj",
    ] {
        let file = at.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "fake\n").unwrap();
    }
}

#[test]
fn a_setting_reaches_the_kernel_though_the_image_has_a_proc_of_its_own() {
    let mut bundle = Bundle::new("exec sleep 1000");
    let fake = bundle.dir.path().join("fake");
    fake_proc(&fake);
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "bind", "source": "fake", "options": ["rbind", "rw"]});
        }
    }
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77"});
    bundle.config["process"]["oomScoreAdj"] = json!(77);
    bundle.start();
    let pid = bundle.state()["pid"].to_string();
    let mut inside = Command::new("nsenter");
    inside.args(["--net", "--target", &pid, "cat"]);
    let out = inside
        .arg(Path::new("/proc/sys").join(SYSCTL))
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "77\n", "{}", text(&out.stderr));
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score, "77\n");
    for file in [
        "sys/net/ipv4/ip_unprivileged_port_start",
        "self/oom_score_adj",
    ] {
        assert_eq!(fs::read_to_string(fake.join(file)).unwrap(), "fake\n");
    }
}

/// What somebody mounted over a part of the host's procfs is not written to in its place.
#[test]
fn a_tree_over_the_hosts_proc_is_not_taken_for_it() {
    let mut bundle = Bundle::new("echo ran");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77"});
    bundle.save();
    let fake = bundle.dir.path().join("fake");
    fake_proc(&fake);
    let script = format!(
        "mount --bind {}/sys /proc/sys && exec {RUNTIME} --root {} run {}",
        fake.display(),
        bundle.root().display(),
        bundle.id
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let out = shell.current_dir(bundle.dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
    contains(&text(&out.stderr), "cross-device");
    let file = fake.join("sys").join(SYSCTL);
    assert_eq!(fs::read_to_string(file).unwrap(), "fake\n");
}

#[test]
fn a_proc_that_is_none_is_not_used() {
    let bundle = Bundle::new("echo ran");
    bundle.save();
    let fake = bundle.dir.path().join("fake");
    fake_proc(&fake);
    // It even shows the runtime a program to protect itself with.
    fs::copy(RUNTIME, fake.join("self/exe")).unwrap();
    let script = format!(
        "mount --rbind {} /proc && exec {RUNTIME} --root {} run {}",
        fake.display(),
        bundle.root().display(),
        bundle.id
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let out = shell.current_dir(bundle.dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
    assert!(out.stdout.is_empty());
    contains(
        &text(&out.stderr),
        "protect the runtime's own program: no such device",
    );
}

#[test]
fn a_mount_that_the_image_leads_into_proc_is_refused() {
    for (link, kind) in [
        ("/proc", "bind"),
        ("/proc", "tmpfs"),
        ("proc/self/attr", "bind"),
        ("/proc/sys/kernel", "tmpfs"),
        ("/proc/1/fd/../../sys", "bind"),
    ] {
        let mut bundle = Bundle::new("ls /proc; echo ran");
        fs::create_dir(bundle.dir.path().join("volume")).unwrap();
        symlink(link, bundle.dir.path().join("rootfs/data")).unwrap();
        bundle.config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "type": kind, "source": if kind == "bind" { "volume" } else { "tmpfs" },
            "options": if kind == "bind" { json!(["bind"]) } else { json!([]) },
        }));
        contains(
            &bundle.complaint(),
            "cannot be mounted because it is inside /proc",
        );
    }
    // What shows a container its own limits is put there by name.
    let mut bundle = Bundle::new("cat /proc/meminfo");
    fs::write(bundle.dir.path().join("meminfo"), "MemTotal: 1 kB\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/proc/meminfo", "type": "bind", "source": "meminfo", "options": ["bind"],
    }));
    assert_eq!(bundle.prints(), "MemTotal: 1 kB\n");
}
