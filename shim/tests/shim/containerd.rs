//! Debian's containerd with our shim: what `ctr` sees must be what it sees
//! with containerd's own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lab::{SHIM, criu_works, path};

const IMAGE: &str = "docker.io/library/tiny:latest";

/// A containerd of its own, with the image imported.
struct Containerd {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Containerd {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ctd-").tempdir().unwrap();
        let at = dir.path();
        fs::create_dir(at.join("bin")).unwrap();
        // Copies: the shim looks for the runtime beside its own file.
        fs::copy(SHIM, at.join("bin/containerd-shim-runc-rs-v2")).unwrap();
        fs::copy("/usr/sbin/runc", at.join("bin/runc-rs")).unwrap();
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            root = at.join("root"),
            state = at.join("state"),
            socket = at.join("c.sock"),
        );
        fs::write(at.join("config.toml"), config).unwrap();
        let path = format!("{}:{}", at.join("bin").display(), path());
        let daemon = Command::new("containerd")
            .arg("-c")
            .arg(at.join("config.toml"))
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(fs::File::create(at.join("log")).unwrap())
            .spawn()
            .unwrap();
        let containerd = Self { dir, daemon };
        let start = Instant::now();
        while !containerd.ctr(&["version"]).status.success() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{}",
                containerd.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let image = image(containerd.dir.path());
        let imported = containerd.ctr(&["images", "import", &image]);
        assert!(imported.status.success(), "{imported:?}");
        containerd
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn ctr(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "1", "30", "ctr", "-a"])
            .arg(self.dir.path().join("c.sock"))
            .args(args);
        command
    }

    /// `ctr run` with `flags`, of the container `id`.
    fn run(&self, flags: &[&str], id: &str, args: &[&str]) -> Command {
        let cgroup = format!("/{}/{id}", self.name());
        let mut all = vec![
            "run",
            "--runtime",
            "io.containerd.runc-rs.v2",
            "--cgroup",
            &cgroup,
        ];
        all.extend(flags);
        all.extend([IMAGE, id]);
        all.extend(args);
        self.command(&all)
    }

    fn name(&self) -> &str {
        self.dir.path().file_name().unwrap().to_str().unwrap()
    }

    /// Sockets of shims that live.
    fn shims(&self) -> usize {
        fs::read_dir(self.dir.path().join("s")).map_or(0, Iterator::count)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let left = self.ctr(&["tasks", "ls", "-q"]);
        for id in String::from_utf8_lossy(&left.stdout).lines() {
            self.ctr(&["tasks", "rm", "-f", id]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        crate::lab::remove_cgroups(self.name());
    }
}

/// A docker archive of busybox and nothing else.
fn image(dir: &Path) -> String {
    let rootfs = dir.join("rootfs");
    for name in ["bin", "proc", "dev", "sys", "tmp", "etc", "run"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for applet in ["sh", "echo", "cat", "sleep", "tty"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    let archive = dir.join("image");
    fs::create_dir(&archive).unwrap();
    let tar = |from: &Path, to: &Path| {
        let made = Command::new("tar")
            .arg("-C")
            .arg(from)
            .arg("-cf")
            .arg(to)
            .arg(".")
            .status()
            .unwrap();
        assert!(made.success());
    };
    tar(&rootfs, &archive.join("layer.tar"));
    let hex: String = Sha256::digest(fs::read(archive.join("layer.tar")).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]},
    });
    fs::write(archive.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(archive.join("manifest.json"), manifest.to_string()).unwrap();
    // Names without the leading dot, as docker writes them.
    let path = dir.join("image.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(&archive)
        .arg("-cf")
        .arg(&path)
        .args(["manifest.json", "config.json", "layer.tar"])
        .status();
    assert!(made.unwrap().success());
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn told(output: &Output, code: i32, stdout: &str) {
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).as_ref()
        ),
        (Some(code), stdout),
        "{output:?}"
    );
}

#[test]
fn debians_containerd_runs_containers_with_this_shim() {
    let containerd = Containerd::start();
    let run = |flags: &[&str], id: &str, args: &[&str]| {
        containerd
            .run(flags, id, args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    told(
        &run(&["--rm"], "exits", &["sh", "-c", "echo hello; exit 3"]),
        3,
        "hello\n",
    );
    let absent = run(&["--rm"], "absent", &["/no/such"]);
    let words = String::from_utf8_lossy(&absent.stderr);
    assert!(
        words.contains("OCI runtime create failed: runc create failed: "),
        "{words}"
    );

    let mut cat = containerd.run(&["--rm"], "piped", &["cat"]);
    let mut cat = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut cat.stdin.take().unwrap(), b"through\n").unwrap();
    told(&cat.wait_with_output().unwrap(), 0, "through\n");

    // script(1) gives ctr a terminal.
    let in_terminal = format!(
        "ctr -a {} run -t --rm --runtime io.containerd.runc-rs.v2 --cgroup /{}/term {IMAGE} term sh -c 'tty; exit 5'",
        containerd.dir.path().join("c.sock").display(),
        containerd.name()
    );
    let script = Command::new("timeout")
        .args(["-k", "1", "30", "script", "-qec", &in_terminal, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(script.status.code(), Some(5), "{script:?}");
    assert!(
        String::from_utf8_lossy(&script.stdout).contains("/dev/pts/0"),
        "{script:?}"
    );

    told(&run(&["-d"], "long", &["sleep", "1000"]), 0, "");
    told(
        &containerd.ctr(&["tasks", "exec", "--exec-id", "e1", "long", "echo", "inside"]),
        0,
        "inside\n",
    );
    told(
        &containerd.ctr(&[
            "tasks",
            "exec",
            "--exec-id",
            "e2",
            "long",
            "sh",
            "-c",
            "exit 9",
        ]),
        9,
        "",
    );
    told(&containerd.ctr(&["tasks", "pause", "long"]), 0, "");
    assert!(String::from_utf8_lossy(&containerd.ctr(&["tasks", "ls"]).stdout).contains("PAUSED"));
    told(&containerd.ctr(&["tasks", "resume", "long"]), 0, "");
    let processes = containerd.ctr(&["tasks", "ps", "long"]);
    assert_eq!(
        String::from_utf8_lossy(&processes.stdout).lines().count(),
        2,
        "{processes:?}"
    );
    let metrics = containerd.ctr(&["tasks", "metrics", "long"]);
    assert!(
        metrics.status.success() && String::from_utf8_lossy(&metrics.stdout).contains("memory"),
        "{metrics:?}"
    );
    told(
        &containerd.ctr(&["tasks", "kill", "-s", "9", "long"]),
        0,
        "",
    );
    let start = Instant::now();
    while !String::from_utf8_lossy(&containerd.ctr(&["tasks", "ls"]).stdout).contains("STOPPED") {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            containerd.log()
        );
    }
    let removed = containerd.ctr(&["tasks", "rm", "long"]);
    assert!(
        String::from_utf8_lossy(&removed.stderr).contains("exit code 137"),
        "{removed:?}"
    );
    // containerd has its answer before the shim, which closes its connections
    // first, has ended.
    let start = Instant::now();
    while containerd.shims() != 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            containerd.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(containerd.dir.path().to_str().unwrap()),
        "{mounts}"
    );
}

#[test]
fn debians_containerd_checkpoints_and_restores_with_this_shim() {
    if !criu_works() {
        return;
    }
    let containerd = Containerd::start();
    // Started anew on the same files it would end.
    let count = "[ -e /n ] && exit 9; n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.05; done";
    let mut run = containerd.run(&["-d"], "first", &["sh", "-c", count]);
    told(&run.stdin(Stdio::null()).output().unwrap(), 0, "");
    let counted = |id: &str| -> u32 {
        let args = ["tasks", "exec", "--exec-id", "e", id, "cat", "/n"];
        let out = containerd.ctr(&args);
        let text = String::from_utf8_lossy(&out.stdout);
        text.trim().parse().unwrap_or(0)
    };
    let start = Instant::now();
    while counted("first") < 10 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{}",
            containerd.log()
        );
    }
    let kept = [
        "containers",
        "checkpoint",
        "--rw",
        "--image",
        "--task",
        "first",
        "localhost/kept:1",
    ];
    told(&containerd.ctr(&kept), 0, "");
    let end = |id: &str| {
        containerd.ctr(&["tasks", "rm", "-f", id]);
        told(&containerd.ctr(&["containers", "rm", id]), 0, "");
    };
    end("first");
    told(
        &containerd.ctr(&[
            "containers",
            "restore",
            "--rw",
            "--live",
            "second",
            "localhost/kept:1",
        ]),
        0,
        "",
    );
    // It goes on from where it was.
    let (start, at) = (Instant::now(), counted("second"));
    while counted("second") < at.max(10) + 5 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{}",
            containerd.log()
        );
    }
    end("second");
}
