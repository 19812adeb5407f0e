//! Mounts that a running container is given, and that are taken away again.

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bundle::{Bundle, RUNTIME, contains, text};

impl Bundle {
    /// A call that must succeed; what it printed.
    fn does(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// A call that must not.
    fn refuses(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        text(&out.stderr)
    }

    fn adds(&self, words: &[&str]) {
        self.does(&[&["mounts", "add", &self.id], words].concat());
    }

    fn inside(&self, script: &str) -> String {
        self.does(&["exec", &self.id, "/bin/sh", "-c", script])
    }

    fn recorded(&self) -> Vec<Value> {
        let file = self.root().join(&self.id).join("state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        state["added_mounts"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

fn running() -> Bundle {
    let bundle = Bundle::new("exec sleep 1000");
    let data = bundle.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "of the host\n").unwrap();
    bundle
}

#[test]
fn a_running_container_gets_mounts_and_loses_them() {
    let bundle = running();
    bundle.start();
    bundle.adds(&[
        "--source",
        "data",
        "--target",
        "/d/e",
        "--options",
        "ro,nosuid",
    ]);
    bundle.adds(&[
        "--type",
        "tmpfs",
        "--target",
        "/t",
        "--options",
        "size=64k",
        "--options",
        "mode=700",
    ]);
    bundle.adds(&["--source", "data/file", "--target", "/one"]);
    assert_eq!(
        bundle.inside("cat /d/e/file /one; grep -c ' /d/e .*ro,nosuid' /proc/self/mountinfo; stat -c %a /t; ! touch /d/e/x 2>/dev/null"),
        "of the host\nof the host\n1\n700\n"
    );
    assert_eq!(bundle.recorded().len(), 3);
    assert_eq!(
        bundle.recorded()[0]["mount"]["source"],
        json!(bundle.dir.path().join("data"))
    );
    for target in ["/d/e", "t", "/one"] {
        bundle.does(&["mounts", "remove", &bundle.id, target]);
    }
    assert_eq!(
        bundle.inside("ls /d/e /t; stat -c %s /one; grep -c ' /t ' /proc/self/mountinfo || true"),
        "/d/e:\n\n/t:\n0\n0\n"
    );
    assert_eq!(bundle.recorded(), Vec::<Value>::new());
}

#[test]
fn only_what_was_added_is_taken_away_unless_forced() {
    let mut bundle = running();
    bundle.mount(json!({"destination": "/own", "source": "data", "options": ["bind"]}));
    bundle.start();
    let remove = |more: &[&'static str]| [&["mounts", "remove", &bundle.id, "/own"], more].concat();
    contains(&bundle.refuses(&remove(&[])), "was not added");
    // One on top of it is another mount.
    bundle.adds(&["--type", "tmpfs", "--target", "/own"]);
    bundle.does(&remove(&[]));
    assert_eq!(bundle.inside("ls /own"), "file\n");
    contains(&bundle.refuses(&remove(&[])), "was not added");
    bundle.does(&remove(&["--force"]));
    assert_eq!(bundle.inside("ls /own"), "");
    for place in ["/own", "/", "/bin/sh"] {
        contains(
            &bundle.refuses(&["mounts", "remove", "-f", &bundle.id, place]),
            "nothing is mounted there",
        );
    }
}

#[test]
fn a_users_container_owns_what_is_mounted_for_it() {
    let mut bundle = running();
    bundle.in_user_namespace();
    bundle.start();
    bundle.adds(&["--type", "tmpfs", "--target", "/new/t"]);
    bundle.adds(&[
        "--source",
        "data",
        "--target",
        "/mine",
        "--options",
        "idmap",
    ]);
    bundle.adds(&["--source", "data", "--target", "/theirs"]);
    assert_eq!(
        bundle.inside("stat -c %u /new /new/t /mine/file /theirs/file; echo > /mine/more"),
        "0\n0\n0\n65534\n"
    );
    let owner = |path: &str| {
        std::fs::metadata(bundle.dir.path().join(path))
            .unwrap()
            .uid()
    };
    assert_eq!((owner("rootfs/new"), owner("data/more")), (100_000, 0));
    bundle.does(&["mounts", "remove", &bundle.id, "/mine"]);
    assert_eq!(bundle.inside("ls /mine"), "");
}

/// A hostile image's links end inside, and lead nothing over procfs.
#[test]
fn a_target_does_not_lead_out_of_the_container() {
    let bundle = running();
    let outside = bundle.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let rootfs = bundle.dir.path().join("rootfs");
    symlink(&outside, rootfs.join("link")).unwrap();
    symlink("/proc/sys", rootfs.join("sys-link")).unwrap();
    symlink("/proc/1/root", rootfs.join("magic")).unwrap();
    bundle.start();
    bundle.adds(&["--source", "data", "--target", "/link"]);
    let followed = format!("cat {}/file", outside.display());
    assert_eq!(bundle.inside(&followed), "of the host\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let add = |target: &'static str| {
        [
            "mounts", "add", &bundle.id, "--source", "data", "--target", target,
        ]
    };
    contains(&bundle.refuses(&add("/sys-link")), "inside /proc");
    contains(&bundle.refuses(&add("/magic/x")), "/magic/x");
    assert_eq!(bundle.recorded().len(), 1);
}

#[test]
fn what_cannot_be_mounted_late_is_refused() {
    let bundle = running();
    bundle.start();
    for (words, complaint) in [
        (&["--target", "/x"][..], "needs a --source"),
        (&["--source", "no-such", "--target", "/x"], "no such file"),
        (
            &["--target", "/x", "--type", "proc"],
            "when a container is created",
        ),
        (
            &["--target", "/x", "--type", "cgroup"],
            "when a container is created",
        ),
        (&["--target", "/x", "--type", "nofs"], "no such device"),
        (
            &[
                "--target",
                "/x",
                "--type",
                "tmpfs",
                "--options",
                "tmpcopyup",
            ],
            "mounts of a config",
        ),
        (
            &["--target", "/x", "--source", "data", "--options", "idmap"],
            "user namespace of its own",
        ),
        (
            &[
                "--target",
                "/x",
                "--type",
                "tmpfs",
                "--options",
                "size=much",
            ],
            "invalid argument",
        ),
    ] {
        contains(
            &bundle.refuses(&[&["mounts", "add", &bundle.id], words].concat()),
            complaint,
        );
    }
    assert_eq!(bundle.recorded(), Vec::<Value>::new());
    bundle.adds(&["--type", "tmpfs", "--target", "/x"]);
    contains(
        &bundle.refuses(&["checkpoint", &bundle.id]),
        "mounts remove",
    );
    bundle.does(&["kill", &bundle.id, "KILL"]);
    while bundle.state()["status"] != "stopped" {
        std::thread::yield_now();
    }
    contains(
        &bundle.refuses(&[
            "mounts", "add", &bundle.id, "--type", "tmpfs", "--target", "/y",
        ]),
        "container not running",
    );
    contains(
        &bundle.refuses(&["mounts", "remove", &bundle.id, "/x"]),
        "container not running",
    );
}

#[test]
fn mounts_added_at_once_are_all_recorded() {
    let bundle = running();
    bundle.start();
    let targets: Vec<String> = (0..8).map(|n| format!("/m{n}")).collect();
    let adding: Vec<_> = targets
        .iter()
        .map(|target| {
            let args = [
                "mounts", "add", &bundle.id, "--type", "tmpfs", "--target", target,
            ];
            bundle
                .command(RUNTIME, &args)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in adding {
        assert!(child.wait().unwrap().success());
    }
    let mut recorded: Vec<String> = bundle
        .recorded()
        .iter()
        .map(|added| added["mount"]["destination"].as_str().unwrap().to_owned())
        .collect();
    recorded.sort();
    assert_eq!(recorded, targets);
}
