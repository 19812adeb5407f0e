//! A network and a mount namespace of one test's own.
//!
//! dockerd and podman make bridges, write firewall rules, mount file systems
//! and leave notes below `/run` and `/var/lib`, whatever their configuration
//! says. In here all of that is theirs alone and ends with the test.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::scratch::Scratch;

/// Places on the machine that are hidden behind an empty one, where they exist.
const HIDDEN: &str = "/run /etc/docker /etc/cni /var/lib/cni /var/lib/containers /var/lib/docker";

/// The two namespaces, held open by a process that only sleeps.
pub struct Enclosure {
    holder: Child,
}

impl Enclosure {
    /// Makes them, with the loopback device up.
    ///
    /// # Panics
    /// When that is not possible here.
    #[must_use]
    pub fn new(scratch: &Scratch) -> Self {
        let script = format!(
            "set -e; ip link set lo up
             for dir in {HIDDEN}; do [ ! -d $dir ] || mount -t tmpfs tmpfs $dir; done
             echo ready; exec sleep infinity"
        );
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private"])
            .args(["sh", "-c", &script])
            .env("TESTS_SCRATCH", scratch.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be run");
        let mut said = String::new();
        let out = holder.stdout.take().expect("stdout is piped");
        BufReader::new(out)
            .read_line(&mut said)
            .expect("its output can be read");
        assert_eq!(said, "ready\n", "the namespaces can be made");
        Self { holder }
    }

    /// `program` inside, not yet run.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--mount", "--target"])
            .arg(self.holder.id().to_string())
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
