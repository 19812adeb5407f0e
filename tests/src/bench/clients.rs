//! The contest between clients: the whole way from a command line through a
//! daemon and a shim to a container and back.

use std::process::Command;

use super::contest::{Contest, Contestant, Unit, start, succeed, timed};
use crate::containerd::Containerd;
use crate::dockerd::Dockerd;
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

/// How many containers `ps` has to list.
const LISTED: usize = 1000;

/// How many containers run at once.
const AT_ONCE: usize = 64;

/// Docker's daily commands on ctl and on docker, each with its daemon running,
/// and containers on the default bridge.
///
/// # Panics
/// When a command fails.
#[must_use]
pub fn daily<'a>(stack: &'a Stack, dockerd: &'a Dockerd) -> Vec<Contest<'a>> {
    let up = ["run", "-d", "--name", "up", "busybox", "sleep", "1000000"];
    stack.ctl(&up).ok();
    dockerd.docker(&up).ok();
    vec![
        both(
            "run --rm busybox true, on the default bridge",
            30,
            stack,
            dockerd,
            &["run", "--rm", "busybox", "true"],
        ),
        both("exec true", 30, stack, dockerd, &["exec", "up", "true"]),
        both("version", 50, stack, dockerd, &["version"]),
        at_once(stack, dockerd),
    ]
}

/// `ps -a` where there are a thousand containers. Makes them first.
///
/// # Panics
/// When a command fails.
#[must_use]
pub fn listing<'a>(stack: &'a Stack, dockerd: &'a Dockerd) -> Contest<'a> {
    for _ in 0..LISTED {
        succeed(&mut stack.ctl_command(&["create", "busybox", "true"]));
        succeed(&mut dockerd.docker_command(&["create", "busybox", "true"]));
    }
    both("ps -a, 1000 containers", 30, stack, dockerd, &["ps", "-a"])
}

fn both<'a>(
    title: &'static str,
    rounds: usize,
    stack: &'a Stack,
    dockerd: &'a Dockerd,
    args: &'static [&'static str],
) -> Contest<'a> {
    let one = |name, command: Box<dyn Fn() -> Command + 'a>| Contestant {
        name,
        round: Box::new(move |_| timed(|| succeed(&mut command()))),
    };
    Contest {
        title,
        unit: Unit::Milliseconds,
        rounds,
        warm_up: 3,
        contestants: vec![
            one("ctl", Box::new(|| stack.ctl_command(args))),
            one("docker", Box::new(|| dockerd.docker_command(args))),
        ],
    }
}

fn at_once<'a>(stack: &'a Stack, dockerd: &'a Dockerd) -> Contest<'a> {
    const RUN: [&str; 4] = ["run", "--rm", "busybox", "true"];
    let many = |name, command: Box<dyn Fn() -> Command + 'a>| Contestant {
        name,
        round: Box::new(move |_| {
            timed(|| {
                let all: Vec<_> = (0..AT_ONCE).map(|_| start(&mut command())).collect();
                for mut child in all {
                    let status = child.wait().expect("a child can be waited for");
                    assert!(status.success(), "one of many ended with {status}");
                }
            })
        }),
    };
    Contest {
        title: "64 times run --rm at once",
        unit: Unit::Milliseconds,
        rounds: 3,
        warm_up: 1,
        contestants: vec![
            many("ctl", Box::new(|| stack.ctl_command(&RUN))),
            many("docker", Box::new(|| dockerd.docker_command(&RUN))),
        ],
    }
}
