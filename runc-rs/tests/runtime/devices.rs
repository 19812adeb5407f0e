//! Network devices that become the container's, in namespaces of the tests' own.

use std::process::Command;

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};

/// Runs `script` where there are no devices but its own, with the runtime as `$0` and its arguments behind.
fn apart(bundle: &Bundle, script: &str) -> std::process::Output {
    bundle.save();
    let root = bundle.root();
    Command::new("unshare")
        .args(["--net", "sh", "-ec", script, RUNTIME])
        .arg(root)
        .arg(&bundle.id)
        .current_dir(bundle.dir.path())
        .output()
        .unwrap()
}

/// A pair of devices, one of them with all that is kept or left.
const DEVICES: &str = "ip link add v0 mtu 1789 address 00:11:22:33:44:55 type veth peer name v1
    ip addr add 169.254.169.77/24 brd + dev v0
    ip addr add 127.0.0.33/8 scope host dev v0
    ip -6 addr add fd00::7/64 dev v0 nodad
    ip link set v0 up
    ip link set v1 up
";

#[test]
fn a_device_moves_with_its_name_and_what_was_set_on_it() {
    let show = "ip link show dev inside; ip addr show dev inside; ls /sys/class/net";
    let mut bundle = Bundle::new(show);
    std::os::unix::fs::symlink("busybox", bundle.dir.path().join("rootfs/bin/ip")).unwrap();
    bundle.config["linux"]["netDevices"] = json!({"v0": {"name": "inside"}});
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.conf.inside.forwarding": "1"});
    let script = format!("{DEVICES} $0 --root $1 run $2; echo left; ip -o link show");
    let out = apart(&bundle, &script);
    let seen = text(&out.stdout);
    let (inside, outside) = seen.split_once("left\n").unwrap_or_else(|| {
        panic!("{seen}{}", text(&out.stderr));
    });
    for kept in [
        "mtu 1789",
        "00:11:22:33:44:55",
        "169.254.169.77/24 brd 169.254.169.255",
        "fd00::7/64",
        ",UP",
    ] {
        contains(inside, kept);
    }
    assert!(!inside.contains("127.0.0.33"), "{inside}");
    // With the namespace went the pair.
    assert!(
        !outside.contains("v0") && !outside.contains("inside"),
        "{outside}"
    );
}

#[test]
fn a_device_in_a_namespace_of_others_stays_there() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["netDevices"] = json!({"v0": {}});
    // The namespace is that of the script's own child.
    let script = format!(
        "{DEVICES} unshare --net sleep 100 & holder=$!
        until [ \"$(readlink /proc/$holder/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done
        sed -i \"s|/proc/HOLDER|/proc/$holder|\" config.json
        $0 --root $1 run $2; nsenter --net=/proc/$holder/ns/net ip addr show dev v0
        kill $holder; wait || true"
    );
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces {
        if namespace["type"] == "network" {
            namespace["path"] = json!("/proc/HOLDER/ns/net");
        }
    }
    let script = script.replacen("unshare --net sleep", "(true); unshare --net sleep", 1);
    let out = apart(&bundle, &script);
    contains(&text(&out.stdout), "169.254.169.77/24");
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["netDevices"] = json!({"none0": {}});
    contains(
        &bundle.complaint(),
        "move netDevice none0 to namespace /proc/",
    );
}
