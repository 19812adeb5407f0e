//! The contests between shims: real containerd with ours and with its own,
//! each with its own runtime.

use std::fs;

use super::contest::{Contest, Contestant, Unit, succeed, timed};
use crate::command::eventually;
use crate::containerd::Containerd;

const IMAGE: &str = "docker.io/library/busybox:latest";

/// A shim that is measured, by the runtime's name that leads containerd to it.
#[derive(Clone, Copy)]
struct Shim {
    name: &'static str,
    runtime: &'static str,
    /// Goes into the names of its containers.
    tag: &'static str,
}

const OURS: Shim = Shim {
    name: "our shim, runc-rs",
    runtime: "io.containerd.runc-rs.v2",
    tag: "o",
};

const THEIRS: Shim = Shim {
    name: "containerd's, runc",
    runtime: "io.containerd.runc.v2",
    tag: "t",
};

/// What the output contest sends through standard output.
const OUTPUT_BYTES: &str = "1073741824";

/// Idle shims at once in the contest of memory.
const MANY: usize = 100;

/// Health checks in one round.
const CHECKS: usize = 10;

/// How long a shim may take to be at rest, which ours is after two seconds.
const REST: std::time::Duration = std::time::Duration::from_millis(3500);

fn contest<'a>(
    title: &'static str,
    unit: Unit,
    rounds: usize,
    round: impl Fn(Shim, usize) -> f64 + Copy + 'a,
) -> Contest<'a> {
    let contestant = |shim: Shim| Contestant {
        name: shim.name,
        round: Box::new(move |number| round(shim, number)),
    };
    Contest {
        title,
        unit,
        rounds,
        warm_up: 1,
        contestants: vec![contestant(OURS), contestant(THEIRS)],
    }
}

/// `ctr run` with `flags` of `id` on `shim`.
fn run(containerd: &Containerd, shim: Shim, flags: &[&str], id: &str, program: &[&str]) {
    let cgroup = containerd.cgroup(id);
    let mut args = vec!["run", "--runtime", shim.runtime, "--cgroup", &cgroup];
    args.extend(flags);
    args.extend([IMAGE, id]);
    args.extend(program);
    succeed(&mut containerd.ctr_command(&args));
}

/// `ctr run --rm` of `true`.
#[must_use]
pub fn run_true(containerd: &Containerd) -> Contest<'_> {
    contest(
        "containerd: ctr run --rm true",
        Unit::Milliseconds,
        20,
        |shim, round| {
            let id = format!("run{}{round}", shim.tag);
            timed(|| run(containerd, shim, &["--rm"], &id, &["true"]))
        },
    )
}

/// One gibibyte through standard output and a fifo.
#[must_use]
pub fn output(containerd: &Containerd) -> Contest<'_> {
    contest(
        "containerd: ctr run --rm, 1 GiB through standard output",
        Unit::Milliseconds,
        5,
        |shim, round| {
            let id = format!("out{}{round}", shim.tag);
            let program = ["head", "-c", OUTPUT_BYTES, "/dev/zero"];
            timed(|| run(containerd, shim, &["--rm"], &id, &program))
        },
    )
}

/// Containers that sleep, and are gone when dropped.
struct Sleepers<'a> {
    containerd: &'a Containerd,
    ids: Vec<String>,
}

impl<'a> Sleepers<'a> {
    fn start(containerd: &'a Containerd, shim: Shim, prefix: &str, count: usize) -> Self {
        let ids: Vec<_> = (0..count)
            .map(|n| format!("{prefix}{}{n}", shim.tag))
            .collect();
        for id in &ids {
            run(containerd, shim, &["-d"], id, &["sleep", "100000"]);
        }
        Self { containerd, ids }
    }

    /// The shims of these containers.
    fn shims(&self) -> Vec<u32> {
        eventually("the shims", || {
            let pids: Vec<u32> = self.ids.iter().filter_map(|id| shim_of(id)).collect();
            (pids.len() == self.ids.len()).then_some(pids)
        })
    }
}

impl Drop for Sleepers<'_> {
    fn drop(&mut self) {
        for id in &self.ids {
            // A contest that failed may have left fewer.
            let _ = self
                .containerd
                .ctr_command(&["tasks", "rm", "-f", id])
                .output();
            let _ = self
                .containerd
                .ctr_command(&["containers", "rm", id])
                .output();
        }
    }
}

/// The process that serves the container `id`, by its command line.
fn shim_of(id: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").expect("/proc can be read");
    processes.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        let is_shim = words
            .first()?
            .windows(15)
            .any(|part| part == b"containerd-shim");
        let named = words.windows(2).any(|pair| pair == [b"-id", id.as_bytes()]);
        (is_shim && named).then_some(pid)
    })
}

fn pss_kib(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .expect("the shim's memory can be read");
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .expect("smaps_rollup says the PSS")
}

/// PSS of one idle shim, alone.
#[must_use]
pub fn memory_of_one(containerd: &Containerd) -> Contest<'_> {
    contest("PSS of one idle shim", Unit::Kibibytes, 3, |shim, _| {
        memory(containerd, shim, 1)
    })
}

/// The sum of many idle shims' PSS.
#[must_use]
pub fn memory_of_many(containerd: &Containerd) -> Contest<'_> {
    contest(
        "PSS of 100 idle shims, sum",
        Unit::Kibibytes,
        1,
        |shim, _| memory(containerd, shim, MANY),
    )
}

fn memory(containerd: &Containerd, shim: Shim, count: usize) -> f64 {
    let sleepers = Sleepers::start(containerd, shim, "mem", count);
    let shims = sleepers.shims();
    std::thread::sleep(REST);
    shims.into_iter().map(pss_kib).sum()
}

/// `ctr task exec` of `true` in a container that runs.
#[must_use]
pub fn exec_true(containerd: &Containerd) -> Contest<'_> {
    exec_contest(
        containerd,
        ("exec", "containerd: ctr task exec true"),
        |containerd, sleeper, round| timed(|| exec(containerd, sleeper, &format!("e{round}"))),
    )
}

/// Processor time that shim and runtime spend on one health check, by the
/// shim's account of itself and the children that it has waited for.
#[must_use]
pub fn check_cost(containerd: &Containerd) -> Contest<'_> {
    exec_contest(
        containerd,
        ("check", "processor time of one exec'd check"),
        |containerd, sleeper, round| {
            let shim = eventually("the shim", || shim_of(sleeper));
            let before = processor_ms(shim);
            for check in 0..CHECKS {
                exec(containerd, sleeper, &format!("c{round}-{check}"));
            }
            (processor_ms(shim) - before) / CHECKS as f64
        },
    )
}

fn exec(containerd: &Containerd, id: &str, exec: &str) {
    succeed(&mut containerd.ctr_command(&["tasks", "exec", "--exec-id", exec, id, "true"]));
}

/// A contest in one running container for each shim.
fn exec_contest<'a>(
    containerd: &'a Containerd,
    (prefix, title): (&'static str, &'static str),
    round: impl Fn(&Containerd, &str, usize) -> f64 + Copy + 'a,
) -> Contest<'a> {
    let contestant = |shim: Shim| {
        let sleepers = Sleepers::start(containerd, shim, prefix, 1);
        Contestant {
            name: shim.name,
            round: Box::new(move |number| round(containerd, &sleepers.ids[0], number)),
        }
    };
    Contest {
        title,
        unit: Unit::Milliseconds,
        rounds: 20,
        warm_up: 2,
        contestants: vec![contestant(OURS), contestant(THEIRS)],
    }
}

/// Milliseconds that a process and its reaped children have computed.
fn processor_ms(pid: u32) -> f64 {
    const TICK_MS: f64 = 10.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the shim lives");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // Fields 14 to 17 of proc(5); the first one after the name is the third.
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse().unwrap_or(0.0))
        .sum();
    ticks * TICK_MS
}
