//! A bundle of busybox with everything that belongs to it, removed at the end of its test.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A bundle of its own with a state directory, an id and a cgroup of its own. Everything goes when it is dropped.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

impl Bundle {
    /// A container that runs `script` in busybox's shell.
    pub(crate) fn new(script: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("runc-rs-test")
            .tempdir()
            .unwrap();
        // A user namespace's root must be able to walk to the rootfs.
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let bin = dir.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "sleep", "mount", "echo", "stat", "tty", "mkdir", "true",
            "grep", "pwd", "env", "readlink", "touch", "mkfifo",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let id = format!(
            "t{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let made = Command::new(RUNTIME)
            .args(["spec", "-b"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(made.success());
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap())
                .unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/runc-rs-test-{id}"));
        Self { dir, id, config }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Gives it a user namespace whose root is the host's 100000, and the rootfs to that one.
    pub(crate) fn in_user_namespace(&mut self) {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let linux = &mut self.config["linux"];
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let owner = Command::new("chown")
            .args(["-R", "100000:100000"])
            .arg(self.dir.path().join("rootfs"))
            .status();
        assert!(owner.unwrap().success());
    }

    pub(crate) fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(crate) fn save(&self) {
        std::fs::write(self.dir.path().join("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) fn command(&self, runtime: &str, args: &[&str]) -> Command {
        let mut command = Command::new(runtime);
        command
            .arg("--root")
            .arg(self.root())
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Output {
        self.command(RUNTIME, args).output().unwrap()
    }

    pub(crate) fn run(&self) -> Output {
        self.save();
        self.call(&["run", &self.id])
    }

    /// What a run prints, which must succeed.
    pub(crate) fn prints(&self) -> String {
        let out = self.run();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    }

    /// What a run that fails complains of. It must leave nothing behind.
    pub(crate) fn complaint(&self) -> String {
        let out = self.run();
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
        assert!(!self.root().join(&self.id).exists(), "state is left");
        assert!(
            self.cgroups().is_empty(),
            "cgroups are left: {:?}",
            self.cgroups()
        );
        text(&out.stderr)
    }

    /// Creates and starts it; stdio is nowhere, as a waiting process would keep pipes open.
    pub(crate) fn start(&self) {
        self.save();
        for args in [["create", self.id.as_str()], ["start", self.id.as_str()]] {
            let status = self
                .command(RUNTIME, &args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "{args:?}");
        }
    }

    pub(crate) fn state(&self) -> Value {
        let out = self.call(&["state", &self.id]);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)))
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .map(|e| e.unwrap().path());
        hierarchies
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|h| h.join(format!("runc-rs-test-{}", self.id)))
            .filter(|p| p.is_dir())
            .collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let status = self
            .command(RUNTIME, &["delete", "-f", &self.id])
            .status()
            .unwrap();
        assert!(status.success() || std::thread::panicking());
    }
}

pub(crate) const RUNTIME: &str = env!("CARGO_BIN_EXE_runc-rs");

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}
