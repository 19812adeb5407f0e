//! A user without privileges, whose ids newuidmap and newgidmap map, with and without cgroups handed over.
//!
//! The user exists in this test alone: each call sees an /etc of its own, in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, RUNTIME, contains, text};

const USER: u32 = 4242;
/// Where the ids begin that the user was given.
const GIVEN: u32 = 200_000;

/// Becomes the user, with the bundle's etc in the place of /etc, and goes on.
const SCRIPT: &str = r#"set -e
mount --bind etc /etc
exec setpriv --reuid 4242 --regid 4242 --clear-groups "$@""#;

/// A bundle that is the user's, with root inside and 65,535 others.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    let dir = bundle.dir.path();
    fs::remove_file(dir.join("config.json")).unwrap();
    let spec = ["spec", "--rootless", "-b"];
    assert!(
        Command::new(RUNTIME)
            .args(spec)
            .arg(dir)
            .status()
            .unwrap()
            .success()
    );
    let text = fs::read(dir.join("config.json")).unwrap();
    let args = bundle.config["process"]["args"].take();
    bundle.config = serde_json::from_slice(&text).unwrap();
    bundle.config["process"]["args"] = args;
    bundle.config["process"]["terminal"] = json!(false);
    bundle.config["root"]["readonly"] = json!(false);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_KILL"]);
    }
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    // cgroups are looked at as the host has them.
    namespaces.retain(|ns| ns["type"] != "cgroup");
    for maps in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][maps] = json!([
            {"containerID": 0, "hostID": USER, "size": 1},
            {"containerID": 1, "hostID": GIVEN, "size": 65535},
        ]);
    }
    let etc = bundle.dir.path().join("etc");
    fs::create_dir(&etc).unwrap();
    let given = format!("rootless:{GIVEN}:65536\n");
    for (file, text) in [
        (
            "passwd",
            "root:x:0:0::/root:/bin/sh\nrootless:x:4242:4242::/:/bin/sh\n",
        ),
        ("group", "root:x:0:\nrootless:x:4242:\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\n"),
        ("subuid", &given),
        ("subgid", &given),
    ] {
        fs::write(etc.join(file), text).unwrap();
    }
    // A program of the user's own: the one under test may lie where only root gets to.
    let copied = Command::new("cp")
        .arg(RUNTIME)
        .arg(bundle.dir.path())
        .status();
    assert!(copied.unwrap().success());
    let owner = format!("{USER}:{USER}");
    let owned = Command::new("chown")
        .args(["-R", "-h", &owner])
        .arg(bundle.dir.path())
        .status();
    assert!(owned.unwrap().success());
    bundle
}

/// A call of the user's; `first` is what the shell does before, as root.
fn command(bundle: &Bundle, first: &str, args: &[&str]) -> Command {
    bundle.save();
    let script = format!("{first}\n{SCRIPT}");
    let mut command = Command::new("unshare");
    command
        .args([
            "-m",
            "sh",
            "-c",
            &script,
            "sh",
            "./runc-rs",
            "--root",
            "state",
        ])
        .args(args)
        .current_dir(bundle.dir.path())
        .stdin(Stdio::null());
    command
}

fn call(bundle: &Bundle, args: &[&str]) -> Output {
    command(bundle, "", args).output().unwrap()
}

#[track_caller]
fn prints(out: &Output) -> String {
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn ids_are_mapped_by_newuidmap_and_newgidmap() {
    let bundle =
        bundle("id -u; touch /own /given; busybox chown 7:8 /given; stat -c %u:%g /own /given");
    assert_eq!(
        prints(&call(&bundle, &["run", &bundle.id])),
        "0\n0:0\n7:8\n"
    );
    let rootfs = bundle.dir.path().join("rootfs");
    assert_eq!(owner(&rootfs.join("own")), (USER, USER));
    assert_eq!(owner(&rootfs.join("given")), (GIVEN + 6, GIVEN + 7));
}

#[test]
fn ids_that_were_not_given_are_refused_by_those_who_map_them() {
    let mut bundle = bundle("true");
    bundle.config["linux"]["gidMappings"][1]["size"] = json!(65537);
    let out = call(&bundle, &["run", &bundle.id]);
    assert_eq!(out.status.code(), Some(1));
    contains(
        &text(&out.stderr),
        "map ids by newgidmap: newgidmap: gid range [1-65538) -> [200000-265537) not allowed",
    );
    fs::write(bundle.dir.path().join("etc/subuid"), "").unwrap();
    contains(
        &text(&call(&bundle, &["run", &bundle.id]).stderr),
        "map ids by newuidmap: newuidmap: uid range",
    );
    assert!(!bundle.dir.path().join("state").join(&bundle.id).exists());
}

#[test]
fn a_life_without_privileges() {
    let bundle = bundle("exec sleep 1000");
    let id = bundle.id.as_str();
    fs::create_dir(bundle.dir.path().join("data")).unwrap();
    fs::write(bundle.dir.path().join("data/file"), "mine\n").unwrap();
    for args in [["create", id], ["start", id]] {
        let mut command = command(&bundle, "", &args);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{args:?}");
    }
    let does = |args: &[&str]| prints(&call(&bundle, args));
    let inside = |script: &str| does(&["exec", id, "sh", "-c", script]);
    let listed: Value = serde_json::from_str(&does(&["list", "-f", "json"])).unwrap();
    let own = (&listed[0]["status"], &listed[0]["owner"]);
    assert_eq!(own, (&json!("running"), &json!("rootless")));
    assert_eq!(
        inside("id -u; cat /proc/self/uid_map | grep -c ."),
        "0\n2\n"
    );
    assert_eq!(does(&["list", "-q"]), format!("{id}\n"));

    does(&[
        "mounts",
        "add",
        id,
        "--source",
        "data",
        "--target",
        "/data",
        "--options",
        "ro",
    ]);
    does(&["mounts", "add", id, "--type", "tmpfs", "--target", "/t"]);
    assert_eq!(
        inside("cat /data/file; stat -c %u /t; touch /t/x; ! touch /data/x 2>/dev/null"),
        "mine\n0\n"
    );
    does(&["mounts", "remove", id, "/data"]);
    assert_eq!(inside("ls /data"), "");

    does(&["kill", id, "KILL"]);
    while !does(&["state", id]).contains("stopped") {
        std::thread::yield_now();
    }
    does(&["delete", id]);
    assert_eq!(does(&["list", "-q"]), "");
}

#[test]
fn what_needs_cgroups_says_so_where_the_user_has_none() {
    let mut bundle = bundle("true");
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
    let out = call(&bundle, &["run", &bundle.id]);
    contains(
        &text(&out.stderr),
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
    );
    bundle.config["linux"]["resources"] = json!({});
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/runc-rs-test-{}", bundle.id));
    contains(
        &text(&call(&bundle, &["run", &bundle.id]).stderr),
        "ermission denied",
    );
    assert!(bundle.cgroups().is_empty());
}

/// Groups that are the user's: one in each hierarchy.
struct Delegated {
    groups: Vec<PathBuf>,
}

impl Delegated {
    fn new(name: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies: Vec<PathBuf> = if top.join("cgroup.controllers").exists() {
            vec![top.to_owned()]
        } else {
            let all = fs::read_dir(top).unwrap().map(|e| e.unwrap().path());
            all.filter(|dir| dir.join("cgroup.procs").exists() && !dir.is_symlink())
                .collect()
        };
        let mut delegated = Self { groups: Vec::new() };
        for hierarchy in hierarchies {
            let group = hierarchy.join(name);
            fs::create_dir(&group).unwrap();
            delegated.groups.push(group.clone());
            if is_v2(&group) {
                let caller = group.join("caller");
                fs::create_dir(&caller).unwrap();
                chown(caller.join("cgroup.procs"), Some(USER), Some(USER)).unwrap();
                if top.join("cgroup.controllers").exists() {
                    fs::write(group.join("cgroup.subtree_control"), "+pids +memory").unwrap();
                }
            } else {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(text) = fs::read(hierarchy.join(file)) {
                        fs::write(group.join(file), text).unwrap();
                    }
                }
            }
            for file in [
                "",
                "tasks",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
            ] {
                if group.join(file).exists() {
                    chown(group.join(file), Some(USER), Some(USER)).unwrap();
                }
            }
        }
        delegated
    }

    /// On version 2 whoever moves a process needs the right to where it comes from as well.
    fn first(&self) -> String {
        let v2 = self.groups.iter().filter(|group| is_v2(group));
        v2.map(|group| format!("echo $$ > {}/caller/cgroup.procs\n", group.display()))
            .collect()
    }
}

fn is_v2(group: &Path) -> bool {
    group.join("cgroup.controllers").exists()
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in &self.groups {
            let below = fs::read_dir(group).into_iter().flatten().flatten();
            for entry in below.filter(|e| e.path().is_dir()) {
                let _first_failure_counts = fs::remove_dir(entry.path());
            }
            let removed = fs::remove_dir(group);
            assert!(
                removed.is_ok() || std::thread::panicking(),
                "{}",
                group.display()
            );
        }
    }
}

#[test]
fn limits_hold_in_groups_that_were_handed_over() {
    let mut bundle =
        bundle("while read place; do echo $place; done < /proc/self/cgroup; sleep 0 & wait");
    let name = format!("runc-rs-test-{}-top", bundle.id);
    let delegated = Delegated::new(&name);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{name}/container"));
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 1}});
    let out = command(&bundle, &delegated.first(), &["run", &bundle.id])
        .output()
        .unwrap();
    contains(&text(&out.stdout), &format!(":/{name}/container\n"));
    contains(&text(&out.stderr), "can't fork");
    assert!(
        delegated
            .groups
            .iter()
            .all(|group| !group.join("container").exists())
    );

    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
    let id = bundle.id.as_str();
    for args in [["create", id], ["start", id]] {
        let mut command = command(&bundle, &delegated.first(), &args);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{args:?}");
    }
    let does =
        |args: &[&str]| prints(&command(&bundle, &delegated.first(), args).output().unwrap());
    let limits = || -> Vec<String> {
        let files = delegated
            .groups
            .iter()
            .map(|g| g.join("container/pids.max"));
        files.filter_map(|f| fs::read_to_string(f).ok()).collect()
    };
    assert_eq!(limits(), ["10\n"]);
    does(&["update", "--pids-limit", "20", id]);
    assert_eq!(limits(), ["20\n"]);
    does(&["pause", id]);
    contains(&does(&["state", id]), "paused");
    does(&["resume", id]);
    contains(&does(&["ps", id]), "sleep");
    does(&["delete", "--force", id]);
}
