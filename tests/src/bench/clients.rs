//! The contest between clients: the whole way from a command line through a
//! daemon and a shim to a container and back.

use super::contest::{Contest, Contestant, Unit, succeed, timed};
use crate::containerd::Containerd;
use crate::stack::{BUSYBOX, Stack};

/// `run --rm busybox true`, with the daemon running and the image there.
#[must_use]
pub fn run<'a>(stack: &'a Stack, containerd: &'a Containerd) -> Contest<'a> {
    let ours = Contestant {
        name: "ctl, containerd-lite",
        round: Box::new(|_| {
            timed(|| succeed(&mut stack.ctl_command(&["run", "--rm", BUSYBOX, "true"])))
        }),
    };
    let theirs = Contestant {
        name: "ctr, containerd",
        round: Box::new(|round| {
            let id = format!("bench{round}");
            let cgroup = containerd.cgroup(&id);
            let image = "docker.io/library/busybox:latest";
            timed(|| {
                succeed(&mut containerd.ctr_command(&[
                    "run",
                    "--rm",
                    "--seccomp",
                    "--cgroup",
                    &cgroup,
                    image,
                    &id,
                    "true",
                ]));
            })
        }),
    };
    Contest {
        title: "run --rm busybox true, daemon running",
        unit: Unit::Milliseconds,
        rounds: 40,
        warm_up: 5,
        contestants: vec![ours, theirs],
    }
}
