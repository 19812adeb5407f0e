//! A private containerd-lite, with `ctl` and `ctr` against it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{self, Said, eventually};
use crate::image::Image;
use crate::repository;
use crate::scratch::Scratch;

/// A daemon with root, state, socket and cgroup parent of its own. Dropped
/// in a test that passed, it removes all containers, ends the daemon and
/// checks that nothing is left; in a test that failed it just sweeps.
pub struct Stack {
    daemon: Option<Child>,
    env: Vec<(String, String)>,
    root: PathBuf,
    // Last: its drop finds what the rest left behind.
    scratch: Scratch,
}

/// The name of the image that [`Stack::load_busybox`] loads.
pub const BUSYBOX: &str = "busybox:latest";

impl Stack {
    /// A stack whose daemon runs and answers.
    #[must_use]
    pub fn start() -> Self {
        let mut stack = Self::cold();
        stack.start_daemon();
        stack
    }

    /// A stack with a running daemon that has the busybox image.
    #[must_use]
    pub fn with_busybox() -> Self {
        let stack = Self::start();
        stack.load_busybox();
        stack
    }

    /// A stack whose daemon has not been started.
    #[must_use]
    pub fn cold() -> Self {
        let scratch = Scratch::new();
        let root = scratch.path("r");
        Self {
            daemon: None,
            env: Vec::new(),
            root,
            scratch,
        }
    }

    /// The same, with the daemon's root in another directory.
    #[must_use]
    pub fn rooted_at(mut self, root: PathBuf) -> Self {
        self.root = root;
        self
    }

    /// The same, with one more variable in everybody's environment.
    #[must_use]
    pub fn with_env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Its directory and name.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The daemon's root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The daemon's state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.scratch.path("s")
    }

    /// The daemon's gRPC socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state().join("containerd-lite.sock")
    }

    /// `program` in this stack's environment.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("CONTAINERD_LITE_ROOT", &self.root)
            .env("CONTAINERD_LITE_STATE", self.state())
            .env("CONTAINERD_LITE_CGROUP_PARENT", self.scratch.name())
            .env_remove("CTL_HOST")
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not; prints its log.
    pub fn start_daemon(&mut self) {
        assert!(
            self.start_daemon_under(&[]),
            "containerd-lite was killed\n{}",
            self.log()
        );
    }

    /// Starts the daemon as an argument of the program `tracer[0]`, which must become it;
    /// false when it was killed before it answered.
    ///
    /// # Panics
    /// When it does not answer, or ends by itself; prints its log.
    pub fn start_daemon_under(&mut self, tracer: &[&str]) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("the daemon's log can be written");
        let program = repository::program("containerd-lite");
        let mut command = match tracer {
            [] => self.command(&program),
            [tracer, args @ ..] => {
                let mut command = self.command(Path::new(tracer));
                command.args(args).arg(&program);
                command
            }
        };
        let daemon = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let mut daemon = daemon.expect("containerd-lite can be run");
        let served = eventually("the daemon's socket", || {
            match daemon.try_wait().expect("a child can be waited for") {
                Some(status) if status.signal() == Some(Signal::SIGKILL as i32) => Some(false),
                Some(status) => panic!("containerd-lite ended with {status}\n{}", self.log()),
                None => UnixStream::connect(self.socket()).ok().map(|_| true),
            }
        });
        if served {
            self.daemon = Some(daemon);
        }
        served
    }

    /// The running daemon's process id.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Kills the daemon as a crash would.
    pub fn kill_daemon(&mut self) {
        self.end_daemon(Signal::SIGKILL);
    }

    /// Asks the daemon to end, and waits for it.
    pub fn stop_daemon(&mut self) {
        self.end_daemon(Signal::SIGTERM);
    }

    fn end_daemon(&mut self, signal: Signal) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        let _ = kill(Pid::from_raw(daemon.id().cast_signed()), signal);
        if command::wait(&mut daemon, Duration::from_secs(20)).is_none() {
            drop(daemon.kill());
            drop(daemon.wait());
            panic!("containerd-lite did not end on {signal}\n{}", self.log());
        }
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path("daemon.log")
    }

    /// `ctl --host <socket> args…`, not yet run.
    #[must_use]
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(&repository::program("ctl"));
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(args);
        command
    }

    /// Runs `ctl args…` against the running daemon.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> Said {
        command::run(&mut self.ctl_command(args))
    }

    /// Runs `ctl args…` with these bytes on standard input.
    #[track_caller]
    pub fn ctl_with_input(&self, args: &[&str], input: &[u8]) -> Said {
        command::run_with_input(&mut self.ctl_command(args), input)
    }

    /// Runs `ctl args…` as on a fresh machine: without naming a daemon.
    #[track_caller]
    pub fn ctl_embedded(&self, args: &[&str]) -> Said {
        command::run(self.command(&repository::program("ctl")).args(args))
    }

    /// Debian's `ctr args…` against the running daemon.
    #[track_caller]
    pub fn ctr<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        let mut command = self.command(Path::new("ctr"));
        command::run(command.arg("--address").arg(self.socket()).args(args))
    }

    /// Loads busybox under [`BUSYBOX`].
    #[track_caller]
    pub fn load_busybox(&self) {
        self.load(&Image::busybox().docker_archive(&[BUSYBOX]));
    }

    /// Loads an image archive.
    #[track_caller]
    pub fn load(&self, archive: &[u8]) -> String {
        self.ctl_with_input(&["load"], archive).ok()
    }

    /// One field of `ctl inspect`, by its JSON pointer.
    #[track_caller]
    pub fn inspect(&self, container: &str, pointer: &str) -> serde_json::Value {
        let said = self.ctl(&["inspect", container]).ok();
        let value: serde_json::Value = serde_json::from_str(&said).expect("inspect prints JSON");
        let found = value.pointer(&format!("/0{pointer}"));
        found
            .unwrap_or_else(|| panic!("{pointer} in {value:#}"))
            .clone()
    }

    fn remove_containers(&self) {
        let ids = self.ctl(&["ps", "-aq"]).ok();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.ctl(&[&["rm", "-f"], ids.as_slice()].concat()).ok();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(6000);
            eprintln!(
                "--- containerd-lite's log\n{}\n---",
                log.get(tail..).unwrap_or(&log)
            );
            if let Some(daemon) = &mut self.daemon {
                drop(daemon.kill());
                drop(daemon.wait());
            }
            return;
        }
        if self.daemon.is_some() {
            self.remove_containers();
            self.stop_daemon();
        }
    }
}
