//! Groups that are handed to a user namespace, and callers without the right to make any.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};
use crate::{group, inside};

/// In a user namespace, with cgroups mounted as these options say.
fn userns(options: &[&str]) -> Bundle {
    let mut bundle = Bundle::new("exec sleep 100");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(options);
        }
    }
    let chown = Command::new("chown")
        .args(["-R", "100000:100000"])
        .arg(bundle.dir.path().join("rootfs"))
        .status();
    assert!(chown.unwrap().success());
    bundle
}

#[test]
fn a_writable_group_is_the_containers_own() {
    let bundle = userns(&["nosuid", "noexec", "nodev"]);
    bundle.start();
    let group = group(&bundle);
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        assert_eq!(
            std::fs::metadata(group.join(file)).unwrap().uid(),
            100_000,
            "{file}"
        );
    }
    assert_eq!(
        std::fs::metadata(group.join("memory.max")).unwrap().uid(),
        0
    );
    assert_eq!(
        inside(
            &bundle,
            "mkdir /sys/fs/cgroup/below && stat -c %u /sys/fs/cgroup"
        ),
        "0"
    );
}

#[test]
fn a_read_only_group_is_not() {
    let bundle = userns(&["nosuid", "noexec", "nodev", "ro"]);
    bundle.start();
    assert_eq!(std::fs::metadata(group(&bundle)).unwrap().uid(), 0);
}

/// A bundle that user 1000 can run, with a user namespace of its own.
pub(crate) fn rootless(script: &str) -> Bundle {
    let mut bundle = Bundle::new("");
    std::fs::remove_file(bundle.dir.path().join("config.json")).unwrap();
    let spec = Command::new(RUNTIME)
        .args(["spec", "--rootless", "-b"])
        .arg(bundle.dir.path())
        .status();
    assert!(spec.unwrap().success());
    let text = std::fs::read(bundle.dir.path().join("config.json")).unwrap();
    bundle.config = serde_json::from_slice(&text).unwrap();
    bundle.config["process"]["terminal"] = json!(false);
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    // The host's /sys is no matter of cgroups.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|ns| ns["type"] != "cgroup");
    for map in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][map] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    }
    bundle.save();
    let chown = Command::new("chown")
        .args(["-R", "1000:1000"])
        .arg(bundle.dir.path())
        .status();
    assert!(chown.unwrap().success());
    bundle
}

/// Runs it as user 1000.
fn run_as_user(bundle: &Bundle) -> std::process::Output {
    bundle
        .command(RUNTIME, &["run", &bundle.id])
        .uid(1000)
        .gid(1000)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_user_without_a_group_runs_without_one_unless_one_is_asked_for() {
    let mut bundle = rootless("cat /proc/self/cgroup; sleep 0 & wait");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let out = run_as_user(&bundle);
    assert_eq!(text(&out.stdout), own, "{}", text(&out.stderr));

    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 10});
    bundle.save();
    let out = run_as_user(&bundle);
    contains(
        &text(&out.stderr),
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
    );

    bundle.config["linux"]["resources"] = json!({});
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/runc-rs-test-{}", bundle.id));
    bundle.save();
    let out = run_as_user(&bundle);
    contains(&text(&out.stderr), "ermission denied");
}

#[test]
fn a_user_uses_the_group_that_was_handed_over() {
    let mut bundle = rootless("read place < /proc/self/cgroup; echo $place; sleep 0 & wait");
    let top = std::path::PathBuf::from(format!("/sys/fs/cgroup/runc-rs-test-{}", bundle.id));
    std::fs::create_dir_all(top.join("box")).unwrap();
    for dir in [top.clone(), top.join("box")] {
        for file in [
            "",
            "cgroup.procs",
            "cgroup.subtree_control",
            "cgroup.threads",
        ] {
            std::os::unix::fs::chown(dir.join(file), Some(1000), Some(1000)).unwrap();
        }
    }
    std::fs::write(top.join("cgroup.subtree_control"), "+pids +memory").unwrap();
    bundle.config["linux"]["cgroupsPath"] =
        json!(format!("/runc-rs-test-{}/box/container", bundle.id));
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    bundle.save();
    // Whoever moves a process needs the right to where it comes from as well.
    let command = bundle.command(RUNTIME, &["run", &bundle.id]);
    std::fs::create_dir(top.join("caller")).unwrap();
    std::os::unix::fs::chown(top.join("caller/cgroup.procs"), Some(1000), None).unwrap();
    let out = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!(
            "echo $$ > {}/caller/cgroup.procs; exec setpriv --reuid 1000 --regid 1000 --clear-groups \"$@\"",
            top.display()
        ))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(bundle.dir.path())
        .output()
        .unwrap();
    let place = format!("0::/runc-rs-test-{}/box/container\n", bundle.id);
    assert_eq!(text(&out.stdout), place, "{}", text(&out.stderr));
    contains(&text(&out.stderr), "can't fork");
    for dir in ["box", "caller", ""] {
        std::fs::remove_dir(top.join(dir)).unwrap();
    }
}
