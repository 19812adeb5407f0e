//! A private instance of Debian's containerd, with `ctr` against it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{self, Said, eventually};
use crate::need;
use crate::repository;
use crate::scratch::Scratch;

/// A running containerd whose files, socket and cgroups are its test's own,
/// and which finds our shim and runtime among the programs on its PATH.
pub struct Containerd {
    process: Child,
    address: PathBuf,
    cgroup: String,
}

impl Containerd {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not come up; prints its log.
    #[must_use]
    pub fn start(scratch: &Scratch) -> Self {
        let address = scratch.path("c/containerd.sock");
        let config = scratch.path("containerd.toml");
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {address:?}\n",
            root = scratch.path("cr"),
            state = scratch.path("c"),
        );
        fs::write(&config, text).expect("containerd's configuration can be written");
        let log = scratch.path("containerd.log");
        let file = fs::File::create(&log).expect("containerd's log can be written");
        let path = need::path_with_criu();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(config)
            .env(
                "PATH",
                format!("{}:{path}:/usr/sbin:/sbin", repository::bin_dir().display()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        let mut process = process.expect("containerd can be run");
        eventually("containerd", || {
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("containerd ended with {status}\n{said}");
            }
            let mut version = Command::new("ctr");
            let version = version
                .arg("--address")
                .arg(&address)
                .arg("version")
                .output();
            version.is_ok_and(|out| out.status.success()).then_some(())
        });
        Self {
            process,
            address,
            cgroup: scratch.name().to_owned(),
        }
    }

    /// Its gRPC socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `ctr args…` against it, not yet run.
    #[must_use]
    pub fn ctr_command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.address).args(args);
        command
    }

    /// Runs `ctr args…` against it.
    #[track_caller]
    pub fn ctr<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        command::run(&mut self.ctr_command(args))
    }

    /// The cgroup for container `id`, for `ctr run --cgroup`.
    #[must_use]
    pub fn cgroup(&self, id: &str) -> String {
        format!("/{}/{id}", self.cgroup)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        );
        if command::wait(&mut self.process, Duration::from_secs(10)).is_none() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}
