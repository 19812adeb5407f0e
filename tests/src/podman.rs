//! Debian's podman with all of its state in a test's own directory.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{self, DEADLINE, Said};
use crate::enclosure::Enclosure;
use crate::image::Image;
use crate::need;
use crate::repository;
use crate::scratch::{Scratch, cgroup_roots};

/// A podman that is shut in, runs containers with runc-rs, and has busybox.
/// There is no daemon: each command is a process, and conmon one more for
/// each container.
pub struct Podman {
    enclosure: Enclosure,
    /// Global options of every command.
    globals: Vec<String>,
    config: String,
    cgroup: String,
}

impl Podman {
    /// Makes one.
    ///
    /// # Panics
    /// When podman does not take the image.
    #[must_use]
    pub fn new(scratch: &Scratch) -> Self {
        let enclosure = Enclosure::new(scratch);
        let config = scratch.text("containers.conf");
        // The defaults raise limits, which needs a privilege that root in a
        // container may lack. Everything else is on the command line, because
        // the podman that conmon starts at the end knows only that.
        let text = "[engine]\nevents_logger = \"file\"\n[containers]\ndefault_sysctls = []\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        fs::write(&config, text).expect("podman's configuration can be written");
        let runtime = repository::program("runc-rs").display().to_string();
        let (root, runroot, tmp) = (scratch.text("pr"), scratch.text("ps"), scratch.text("pt"));
        let globals = [
            ["--root", &root],
            ["--runroot", &runroot],
            ["--tmpdir", &tmp],
            ["--cgroup-manager", "cgroupfs"],
            ["--runtime", &runtime],
        ];
        let podman = Self {
            enclosure,
            globals: globals
                .concat()
                .iter()
                .map(|&word| word.to_owned())
                .collect(),
            config,
            cgroup: format!("/{}", scratch.name()),
        };
        let (archive, policy) = (scratch.text("image.tar"), scratch.text("policy.json"));
        fs::write(
            &archive,
            Image::busybox().docker_archive(&["localhost/busybox:latest"]),
        )
        .expect("an archive can be written");
        fs::write(
            &policy,
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .expect("a policy can be written");
        podman
            .run(&["load", "--input", &archive, "--signature-policy", &policy])
            .ok();
        podman
    }

    /// `podman args…`, not yet run.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.enclosure.command("podman");
        command
            .env("CONTAINERS_CONF", &self.config)
            .env("PATH", need::path_with_criu())
            .args(&self.globals)
            .args(args);
        command
    }

    /// Runs `podman args…`.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Said {
        command::run(&mut self.command(args))
    }

    /// The options of `run` that keep a container inside the test.
    #[must_use]
    pub fn options(&self) -> [&str; 4] {
        ["--network", "none", "--cgroup-parent", &self.cgroup]
    }

    /// The ids that runc-rs lists, of containers that it made itself.
    #[must_use]
    #[track_caller]
    pub fn made_by_runc_rs(&self) -> String {
        let program = repository::program("runc-rs").display().to_string();
        let mut list = self.enclosure.command(&program);
        command::run(list.args(["list", "--quiet"])).ok()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // podman gives conmon a cgroup beside its containers' and leaves it;
        // conmon itself ends a moment after the last command.
        let until = Instant::now() + DEADLINE / 2;
        for root in cgroup_roots() {
            let left = root.join(&self.cgroup[1..]).join("conmon");
            while left.exists() && fs::remove_dir(&left).is_err() && Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
