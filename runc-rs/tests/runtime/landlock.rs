//! Landlock's rules out of a container's mounts, by the annotation that asks for them.

use std::fs::File;
use std::process::{Command, Output};

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};

/// A container that may mount, with a read-only rootfs, a tmpfs and a read-only directory of the host.
fn privileged(script: &str, landlock: bool) -> Bundle {
    let mut bundle = Bundle::new(script);
    let data = bundle.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "of the host\n").unwrap();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.mount(json!({"destination": "/data", "source": "data", "options": ["bind", "ro"]}));
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "options": ["nosuid"]}));
    let rights = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = rights.clone();
    }
    if landlock {
        bundle.config["annotations"] = json!({"dev.runc-rs.landlock": "mounts"});
    }
    bundle
}

#[test]
fn what_is_read_only_stays_so_whatever_a_process_may_do() {
    let script = "mount -o remount,bind,rw /data 2>/dev/null || echo stays
        echo > /data/new 2>/dev/null || echo unwritten
        mount -t tmpfs new /tmp 2>/dev/null || echo unmounted
        echo written > /tmp/a && mkdir /tmp/d && cat /tmp/a /data/file && echo > /dev/null";
    let bundle = privileged(script, false);
    assert_eq!(
        bundle.prints(),
        "written\nof the host\n",
        "so it is without"
    );
    assert!(bundle.dir.path().join("data/new").exists());
    for no_new_privileges in [true, false] {
        let mut bundle = privileged(script, true);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        assert_eq!(
            bundle.prints(),
            "stays\nunwritten\nunmounted\nwritten\nof the host\n"
        );
        assert!(!bundle.dir.path().join("data/new").exists());
    }
}

#[test]
fn an_exec_is_under_the_same_rules() {
    let bundle = privileged("exec sleep 1000", true);
    bundle.start();
    let script = "mount -o remount,bind,rw /data 2>/dev/null || echo stays
        mount -t tmpfs new /tmp 2>/dev/null || echo unmounted
        echo written > /tmp/a && cat /tmp/a";
    let out = bundle.call(&["exec", &bundle.id, "/bin/sh", "-c", script]);
    assert_eq!(
        text(&out.stdout),
        "stays\nunmounted\nwritten\n",
        "{}",
        text(&out.stderr)
    );
}

/// Runs it with a directory of the host left open (CVE-2024-21626), and its output going to a file of the host.
fn with_leak(bundle: &Bundle) -> (Output, String) {
    bundle.save();
    let printed = bundle.dir.path().join("printed");
    let out = Command::new("sh")
        .args(["-c", "exec 3<data; exec \"$0\" \"$@\""])
        .arg(RUNTIME)
        .arg("--root")
        .arg(bundle.root())
        .args(["run", "--preserve-fds", "1", &bundle.id])
        .current_dir(bundle.dir.path())
        .stdout(File::create(&printed).unwrap())
        .output()
        .unwrap();
    (out, std::fs::read_to_string(printed).unwrap())
}

#[test]
fn a_leaked_directory_of_the_host_opens_nothing() {
    let script = "cat /proc/self/fd/3/../config.json > /dev/null 2>&1 && echo escaped; echo end >> /dev/stdout";
    let (out, printed) = with_leak(&privileged(script, false));
    assert_eq!(printed, "escaped\nend\n", "{}", text(&out.stderr));
    let (out, printed) = with_leak(&privileged(script, true));
    assert_eq!(printed, "end\n", "{}", text(&out.stderr));
}

#[test]
fn a_writable_rootfs_is_as_without() {
    let mut bundle = Bundle::new(
        "mkdir /a /b && echo moved > /a/f && bin/busybox mv /a/f /b/g && cat /b/g && echo > /dev/null && id -u",
    );
    bundle.config["annotations"] = json!({"dev.runc-rs.landlock": "mounts"});
    bundle.in_user_namespace();
    assert_eq!(bundle.prints(), "moved\n0\n");
}

#[test]
fn another_value_is_a_mistake_of_the_config() {
    let mut bundle = Bundle::new("true");
    bundle.config["annotations"] = json!({"dev.runc-rs.landlock": "on"});
    contains(
        &bundle.complaint(),
        "/annotations/dev.runc-rs.landlock: expected \\\"mounts\\\", got \\\"on\\\"",
    );
}
