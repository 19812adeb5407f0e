//! A private instance of Debian's dockerd, with `docker` against it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::command::{self, Said, eventually};
use crate::enclosure::Enclosure;
use crate::image::Image;
use crate::repository;
use crate::scratch::Scratch;

/// A running dockerd that is shut in, runs containers with runc-rs unless
/// told otherwise, and has busybox.
pub struct Dockerd {
    process: Child,
    pid_file: PathBuf,
    socket: String,
    client: PathBuf,
    exec_root: PathBuf,
    enclosure: Enclosure,
}

impl Dockerd {
    /// Starts one. It starts a containerd of its own.
    ///
    /// # Panics
    /// When it does not come up; prints its log.
    #[must_use]
    pub fn start(scratch: &Scratch) -> Self {
        Self::with_runtime(scratch, "runc-rs")
    }

    /// The same with another runtime: `runc` is its own.
    ///
    /// # Panics
    /// As [`Dockerd::start`].
    #[must_use]
    pub fn with_runtime(scratch: &Scratch, runtime: &str) -> Self {
        let enclosure = Enclosure::new(scratch);
        let (exec_root, pid_file) = (scratch.path("de"), scratch.path("dockerd.pid"));
        let socket = format!("unix://{}", scratch.text("docker.sock"));
        let config = scratch.path("daemon.json");
        let text = json!({
            "data-root": scratch.path("dr"),
            "exec-root": exec_root,
            "pidfile": pid_file,
            "hosts": [socket],
            "iptables": false,
            "ip6tables": false,
            "cgroup-parent": format!("/{}", scratch.name()),
            "runtimes": {"runc-rs": {"path": repository::program("runc-rs")}},
            "default-runtime": runtime,
        });
        fs::write(&config, text.to_string()).expect("dockerd's configuration can be written");
        let log = scratch.path("dockerd.log");
        let file = fs::File::create(&log).expect("dockerd's log can be written");
        let mut process = enclosure
            .command("dockerd")
            .arg("--config-file")
            .arg(config)
            .env("PATH", system_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("dockerd can be run");
        eventually("dockerd", || {
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("dockerd ended with {status}\n{said}");
            }
            let version = Command::new(client())
                .args(["--host", &socket, "version"])
                .output();
            version.is_ok_and(|out| out.status.success()).then_some(())
        });
        let client = scratch.path("docker-client");
        let dockerd = Self {
            process,
            pid_file,
            socket,
            client,
            exec_root,
            enclosure,
        };
        let archive = scratch.text("image.tar");
        fs::write(
            &archive,
            Image::busybox().docker_archive(&["busybox:latest"]),
        )
        .expect("an archive can be written");
        dockerd.docker(&["load", "--input", &archive]).ok();
        dockerd
    }

    /// `docker args…` against it, not yet run.
    #[must_use]
    pub fn docker_command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(client());
        command
            .env("DOCKER_HOST", &self.socket)
            .env("DOCKER_CONFIG", &self.client)
            .args(args);
        command
    }

    /// Runs `docker args…` against it.
    #[track_caller]
    pub fn docker<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        command::run(&mut self.docker_command(args))
    }

    /// The ids that runc-rs lists where this dockerd has its runtime keep
    /// state: only a container that runc-rs itself made is among them.
    ///
    /// # Panics
    /// When the runtime keeps no state there.
    #[must_use]
    #[track_caller]
    pub fn made_by_runc_rs(&self) -> String {
        let root = find_below(&self.exec_root, "moby").expect("the runtime has a state directory");
        let mut list = self
            .enclosure
            .command(&repository::program("runc-rs").display().to_string());
        command::run(list.arg("--root").arg(root).args(["list", "--quiet"])).ok()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // The process we started is dockerd itself: nsenter becomes it. It
        // ends its containerd on the way out.
        let pid = fs::read_to_string(&self.pid_file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(self.process.id().cast_signed());
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        if command::wait(&mut self.process, Duration::from_secs(30)).is_none() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

/// The client that came with dockerd, even where another is found before it.
fn client() -> &'static Path {
    let own = Path::new("/usr/bin/docker");
    if own.exists() {
        own
    } else {
        Path::new("docker")
    }
}

/// PATH with the system's own programs, which dockerd looks up by name.
fn system_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// The state directory of a runtime: `<exec-root>/runtime-<name>/moby` in
/// most versions.
fn find_below(dir: &Path, name: &str) -> Option<PathBuf> {
    let runtimes = fs::read_dir(dir).ok()?.flatten();
    runtimes
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("runtime-"))
        .map(|entry| entry.path().join(name))
        .find(|path| path.is_dir())
}
