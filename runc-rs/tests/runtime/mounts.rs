//! Mounts: owners changed in them, their attributes, their order, and what they must not show.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{Bundle, RUNTIME, contains, text};

/// A directory of the bundle with a file that belongs to these.
fn owned(bundle: &Bundle, name: &str, user: u32, group: u32) -> PathBuf {
    let dir = bundle.dir.path().join(name);
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("file");
    std::fs::write(&file, name).unwrap();
    chown(&file, Some(user), Some(group)).unwrap();
    dir
}

fn maps(inside: u32, outside: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": 10}])
}

#[test]
fn owners_in_a_mount_are_changed_by_its_own_maps() {
    for users in [false, true] {
        let mut bundle = Bundle::new("stat -c %u:%g /a/file /b/file; echo > /a/new");
        owned(&bundle, "a", 5, 7);
        if users {
            bundle.in_user_namespace();
        }
        let base = if users { 100_000 } else { 50 };
        for (destination, to) in [("/a", 0), ("/b", 50)] {
            bundle.mount(
                json!({"destination": destination, "source": "a", "options": ["bind"],
                "uidMappings": maps(0, base + to), "gidMappings": maps(0, base + to + 100)}),
            );
        }
        let out = bundle.run();
        let wanted = if users {
            "5:107\n55:157\n"
        } else {
            "55:157\n105:207\n"
        };
        assert_eq!(text(&out.stdout), wanted, "{}", text(&out.stderr));
        // Who is in no map cannot own a file there.
        assert!(!out.status.success());
        contains(&text(&out.stderr), "Value too large");
    }
}

#[test]
fn what_is_made_in_a_mount_belongs_to_whom_its_maps_say() {
    let mut bundle = Bundle::new("echo > /a/new && stat -c %u:%g /a/new");
    owned(&bundle, "a", 5, 7);
    bundle.in_user_namespace();
    bundle.mount(
        json!({"destination": "/a", "source": "a", "options": ["bind"],
        "uidMappings": maps(0, 100_000), "gidMappings": maps(0, 100_000)}),
    );
    assert_eq!(bundle.prints(), "0:0\n");
    let made = std::fs::metadata(bundle.dir.path().join("a/new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0));
}

#[test]
fn owners_are_changed_by_the_containers_own_maps_where_none_are_told() {
    let mut first = Bundle::new("exec sleep 100");
    first.in_user_namespace();
    first.start();
    let users = format!("/proc/{}/ns/user", first.state()["pid"]);
    for join in [false, true] {
        let mut bundle = Bundle::new("stat -c %u:%g /a/file");
        owned(&bundle, "a", 5, 7);
        bundle.in_user_namespace();
        if join {
            let linux = bundle.config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            let namespaces = linux["namespaces"].as_array_mut().unwrap();
            *namespaces.last_mut().unwrap() = json!({"type": "user", "path": users});
        }
        bundle.mount(json!({"destination": "/a", "source": "a", "options": ["bind", "idmap"]}));
        assert_eq!(bundle.prints(), "5:7\n", "join: {join}");
    }
}

/// Mounts on the host, in this test's own directories only.
fn bind(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("mount")
        .arg("--bind")
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn owners_are_changed_below_a_mount_only_where_asked() {
    for (word, below) in [("idmap", "5:7"), ("ridmap", "105:107")] {
        let mut bundle = Bundle::new("stat -c %u:%g /a/file /a/b/file");
        let a = owned(&bundle, "a", 5, 7);
        let b = owned(&bundle, "b", 5, 7);
        std::fs::create_dir(a.join("b")).unwrap();
        bind(&b, &a.join("b"));
        bundle.mount(
            json!({"destination": "/a", "source": "a", "options": ["rbind", word],
            "uidMappings": maps(0, 100), "gidMappings": maps(0, 100)}),
        );
        let out = bundle.run();
        let unmounted = Command::new("umount").arg(a.join("b")).status();
        assert!(unmounted.unwrap().success());
        let seen = text(&out.stdout);
        assert_eq!(seen, format!("105:107\n{below}\n"), "{}", text(&out.stderr));
    }
}

#[test]
fn a_source_inside_the_rootfs_is_what_earlier_mounts_made_of_it() {
    for (users, owners) in [(false, false), (true, true)] {
        let mut bundle = Bundle::new("cat /again/file; stat -c %u /again/file");
        owned(&bundle, "a", 5, 5);
        if users {
            bundle.in_user_namespace();
        }
        let inside = bundle.dir.path().join("rootfs/made");
        bundle.mount(json!({"destination": "/made", "source": "a", "options": ["bind"]}));
        let mut again = json!({"destination": "/again", "source": inside, "options": ["rbind"]});
        if owners {
            again["uidMappings"] = maps(0, 100_000);
            again["gidMappings"] = maps(0, 100_000);
        }
        bundle.mount(again);
        assert_eq!(bundle.prints(), "a5\n");
    }
}

/// The same mounts by Debian's runc and by ours have the same options.
#[test]
fn a_bind_mount_has_the_options_told_and_no_others() {
    let seen = |runtime: &str, users: bool, words: &[&str]| {
        let mut bundle =
            Bundle::new("grep ' /data ' /proc/self/mounts | { read _ _ _ o _; echo $o; }");
        let data = bundle.dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&data)
            .status();
        assert!(mounted.unwrap().success());
        let attributes = Command::new("mount")
            .args(["--bind", "-o", "remount,ro,nosuid,noatime"])
            .arg(&data)
            .status();
        assert!(attributes.unwrap().success());
        if users {
            bundle.in_user_namespace();
        }
        let words: Vec<&str> = ["bind"].iter().chain(words).copied().collect();
        bundle.mount(
            json!({"destination": "/data", "source": data, "type": "bind", "options": words}),
        );
        bundle.save();
        let out = bundle
            .command(runtime, &["run", &bundle.id])
            .output()
            .unwrap();
        let unmounted = Command::new("umount").arg(&data).status();
        assert!(unmounted.unwrap().success());
        if out.status.success() {
            let all = text(&out.stdout);
            // The filesystem's own options follow.
            let known = [
                "ro",
                "rw",
                "nosuid",
                "nodev",
                "noexec",
                "noatime",
                "relatime",
                "nodiratime",
            ];
            let attributes: Vec<&str> = all
                .trim()
                .split(',')
                .filter(|o| known.contains(o))
                .collect();
            attributes.join(",")
        } else {
            contains(&text(&out.stderr), "operation not permitted");
            "refused".to_owned()
        }
    };
    for (users, words, wanted) in [
        (false, &[][..], "ro,nosuid,noatime"),
        (false, &["nodev"][..], "rw,nodev,noatime"),
        (false, &["rw", "relatime"][..], "rw,relatime"),
        (true, &["nodev"][..], "ro,nosuid,nodev,noatime"),
        (true, &["rw"][..], "refused"),
        (true, &["relatime"][..], "refused"),
    ] {
        assert_eq!(
            seen(RUNTIME, users, words),
            wanted,
            "{words:?}, users: {users}"
        );
    }
    // Debian's runc is older than the rules for what is not told; where something is told it agrees.
    assert_eq!(seen("runc", false, &["rw", "relatime"]), "rw,relatime");
}

#[test]
fn a_read_only_dev_has_its_devices_and_refuses_more() {
    let mut bundle = Bundle::new("ls /dev/null /dev/pts/ptmx; echo > /dev/new");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let dev = mounts
        .iter_mut()
        .find(|m| m["destination"] == "/dev")
        .unwrap();
    dev["options"] = json!(["nosuid", "ro"]);
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "/dev/null\n/dev/pts/ptmx\n");
    contains(&text(&out.stderr), "Read-only file system");
}

#[test]
fn masked_directories_share_one_filesystem() {
    let mut bundle = Bundle::new("stat -c %d /a /b; grep -c ' /a ' /proc/self/mounts");
    for dir in ["a", "b"] {
        std::fs::create_dir(bundle.dir.path().join("rootfs").join(dir)).unwrap();
    }
    bundle.config["linux"]["maskedPaths"] = json!(["/a", "/b", "/a"]);
    let seen = bundle.prints();
    let seen: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((seen[0], seen[2]), (seen[1], "1"));
}

#[test]
fn without_pivoting_no_bare_procfs_of_the_host_is_left() {
    let mut bundle = Bundle::new("mkdir /p; unshare -mrpf mount -t proc none /p && cat /p/1/comm");
    symlink_unshare(&bundle);
    for set in ["bounding", "permitted", "effective"] {
        let set = bundle.config["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap();
        set.extend([json!("CAP_SYS_ADMIN"), json!("CAP_SETFCAP")]);
    }
    bundle.save();
    let out = bundle.call(&["run", "--no-pivot", &bundle.id]);
    assert!(!out.status.success());
    contains(&text(&out.stderr).to_lowercase(), "permission denied");
}

fn symlink_unshare(bundle: &Bundle) {
    let link = bundle.dir.path().join("rootfs/bin/unshare");
    std::os::unix::fs::symlink("busybox", link).unwrap();
}
