//! The contests between OCI runtimes, all on bundles of Docker's size:
//! `runc spec`'s namespaces, mounts and capabilities, and Docker's default
//! seccomp profile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::contest::{Contest, Contestant, Unit, start, succeed, timed};
use crate::bundle::Bundle;
use crate::repository;
use crate::scratch::Scratch;

/// How many containers start at once.
const AT_ONCE: usize = 64;

/// The word that makes the benchmark print the peak memory of a command.
pub const PEAK_RSS: &str = "--peak-rss";

/// A runtime with a state directory of its own.
#[derive(Clone)]
struct Runtime {
    name: &'static str,
    program: PathBuf,
    root: PathBuf,
}

impl Runtime {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(args);
        command
    }
}

/// The bundles that the contests share, removed with the scratch.
pub struct Bundles<'a> {
    scratch: &'a Scratch,
    /// Ends at once.
    short: Bundle,
    /// Runs until it is killed.
    long: Bundle,
    /// Like the first, each with a cgroup of its own.
    many: Vec<PathBuf>,
}

impl<'a> Bundles<'a> {
    /// Makes them.
    ///
    /// # Panics
    /// When a file cannot be read or written.
    #[must_use]
    pub fn new(scratch: &'a Scratch) -> Self {
        let profile = fs::read(repository::root().join("tests/bench/seccomp.json"));
        let profile: Value = serde_json::from_slice(&profile.expect("seccomp.json can be read"))
            .expect("seccomp.json is JSON");
        let bundle = |name: &str, args: &[&str]| {
            let bundle = Bundle::new(scratch, name).running(args);
            bundle.edit(|config| config["linux"]["seccomp"] = profile.clone());
            bundle
        };
        let short = bundle("short", &["/bin/true"]);
        let many = (0..AT_ONCE)
            .map(|number| one_of_many(scratch, &short, number))
            .collect();
        Self {
            scratch,
            long: bundle("long", &["/bin/sleep", "1000"]),
            short,
            many,
        }
    }

    fn runtimes(&self) -> Vec<Runtime> {
        let runtime = |name, program| Runtime {
            name,
            program,
            root: self.scratch.path(name),
        };
        vec![
            runtime("runc-rs", repository::program("runc-rs")),
            runtime("crun", "crun".into()),
            runtime("runc", "runc".into()),
        ]
    }
}

/// A bundle on the root file system of `short`, with a cgroup of its own.
fn one_of_many(scratch: &Scratch, short: &Bundle, number: usize) -> PathBuf {
    let dir = scratch.path(&format!("many/{number}"));
    fs::create_dir_all(&dir).expect("a bundle can be made");
    let text = fs::read(short.dir().join("config.json")).expect("config.json can be read");
    let mut config: Value = serde_json::from_slice(&text).expect("config.json is JSON");
    config["root"]["path"] = json!(short.dir().join("rootfs"));
    config["linux"]["cgroupsPath"] = json!(format!("/{}/many{number}", scratch.name()));
    fs::write(dir.join("config.json"), config.to_string()).expect("config.json can be written");
    dir
}

/// `run` of a program that ends at once; as the floor, the same namespaces
/// made by `unshare`.
#[must_use]
pub fn run<'a>(bundles: &'a Bundles<'_>) -> Contest<'a> {
    let mut contestants = each(bundles, |runtime, _| {
        timed(|| succeed(&mut run_command(runtime, bundles.short.dir(), "c")))
    });
    contestants.push(Contestant {
        name: "floor: unshare",
        round: Box::new(|_| {
            let mut command = Command::new("unshare");
            command.args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork",
            ]);
            command.arg(bundles.short.dir().join("rootfs/bin/true"));
            timed(|| succeed(&mut command))
        }),
    });
    Contest {
        title: "run /bin/true in a Docker-sized bundle",
        unit: Unit::Milliseconds,
        rounds: 40,
        warm_up: 5,
        contestants,
    }
}

/// `create`, `start`, wait for the end, `delete`: what a shim does. The
/// container's process becomes our child when `create` ends, as we are its
/// subreaper.
#[must_use]
pub fn create_start_delete<'a>(bundles: &'a Bundles<'_>) -> Contest<'a> {
    Contest {
        title: "create, start and delete the same",
        unit: Unit::Milliseconds,
        rounds: 30,
        warm_up: 3,
        contestants: each(bundles, |runtime, _| {
            timed(|| {
                let pid = create(runtime, &bundles.short, "c");
                succeed(&mut runtime.command(&["start", "c"]));
                waitpid(Pid::from_raw(pid), None).expect("the process is our child");
                succeed(&mut runtime.command(&["delete", "c"]));
            })
        }),
    }
}

/// `exec` of a program that ends at once, in a container that runs.
#[must_use]
pub fn exec<'a>(bundles: &'a Bundles<'_>, running: &'a Running) -> Contest<'a> {
    let contestants = running
        .containers
        .iter()
        .map(|(runtime, id, _)| Contestant {
            name: runtime.name,
            round: Box::new(move |_| {
                timed(|| succeed(&mut runtime.command(&["exec", id, "/bin/true"])))
            }),
        })
        .collect();
    assert_eq!(running.containers.len(), bundles.runtimes().len());
    Contest {
        title: "exec /bin/true in a running container",
        unit: Unit::Milliseconds,
        rounds: 40,
        warm_up: 5,
        contestants,
    }
}

/// As many starts at once as a busy node may see.
#[must_use]
pub fn many_at_once<'a>(bundles: &'a Bundles<'_>) -> Contest<'a> {
    Contest {
        title: "64 times run /bin/true at once",
        unit: Unit::Milliseconds,
        rounds: 8,
        warm_up: 1,
        contestants: each(bundles, |runtime, _| {
            timed(|| {
                let all: Vec<Child> = bundles
                    .many
                    .iter()
                    .enumerate()
                    .map(|(number, dir)| {
                        start(&mut run_command(runtime, dir, &format!("m{number}")))
                    })
                    .collect();
                for mut child in all {
                    let status = child.wait().expect("a child can be waited for");
                    assert!(status.success(), "{}: {status}", runtime.name);
                }
            })
        }),
    }
}

/// The most memory that a runtime's process takes during `run`.
#[must_use]
pub fn peak_memory<'a>(bundles: &'a Bundles<'_>) -> Contest<'a> {
    let own = std::env::current_exe().expect("the running program has a path");
    let measure = move |command: &Command| {
        let mut between = Command::new(&own);
        between
            .arg(PEAK_RSS)
            .arg(command.get_program())
            .args(command.get_args());
        let out = between.output().expect("the benchmark runs itself");
        assert!(out.status.success(), "{command:?}: {}", out.status);
        let text = String::from_utf8_lossy(&out.stdout);
        text.trim().parse().expect("it prints a number")
    };
    let mut contestants = Vec::new();
    for runtime in bundles.runtimes() {
        let measure = measure.clone();
        contestants.push(Contestant {
            name: runtime.name,
            round: Box::new(move |_| measure(&run_command(&runtime, bundles.short.dir(), "c"))),
        });
    }
    contestants.push(Contestant {
        name: "floor: true",
        round: Box::new(move |_| {
            measure(&Command::new(bundles.short.dir().join("rootfs/bin/true")))
        }),
    });
    Contest {
        title: "peak resident memory during run",
        unit: Unit::Kibibytes,
        rounds: 5,
        warm_up: 1,
        contestants,
    }
}

/// What a created container's process takes while it waits for `start`, a
/// page that several share counted in parts.
#[must_use]
pub fn waiting_memory<'a>(bundles: &'a Bundles<'_>) -> Contest<'a> {
    Contest {
        title: "proportional memory of the process that waits for start",
        unit: Unit::Kibibytes,
        rounds: 5,
        warm_up: 1,
        contestants: each(bundles, |runtime, _| {
            let pid = create(runtime, &bundles.short, "c");
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .expect("smaps_rollup can be read");
            succeed(&mut runtime.command(&["delete", "--force", "c"]));
            waitpid(Pid::from_raw(pid), None).expect("the process is our child");
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            value.expect("smaps_rollup has a line Pss")
        }),
    }
}

/// Prints the peak resident memory, in KiB, of the command in `args`: of its
/// processes the largest. A program's peak counts from the memory of whoever
/// started it, so this wants a small process in between.
///
/// # Panics
/// When the command fails.
pub fn print_peak_memory(args: &[std::ffi::OsString]) {
    let (program, rest) = args.split_first().expect("a command");
    succeed(Command::new(program).args(rest));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage can be read");
    println!("{}", usage.max_rss());
}

/// A container that runs, of each runtime. Dropped, they end.
pub struct Running {
    containers: Vec<(Runtime, String, i32)>,
}

impl Running {
    /// Starts them.
    ///
    /// # Panics
    /// When one cannot be started.
    #[must_use]
    pub fn start(bundles: &Bundles<'_>) -> Self {
        let mut running = Self {
            containers: Vec::new(),
        };
        for runtime in bundles.runtimes() {
            let id = format!("long-{}", runtime.name);
            bundles.long.edit(|config| {
                let group = format!("/{}/{id}", bundles.scratch.name());
                config["linux"]["cgroupsPath"] = json!(group);
            });
            let pid = create(&runtime, &bundles.long, &id);
            succeed(&mut runtime.command(&["start", &id]));
            running.containers.push((runtime, id, pid));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (runtime, id, pid) in &self.containers {
            let deleted = runtime.command(&["delete", "--force", id]).status();
            // What could not be deleted is the scratch's to find.
            drop((deleted, waitpid(Pid::from_raw(*pid), None)));
        }
    }
}

fn run_command(runtime: &Runtime, bundle: &Path, id: &str) -> Command {
    let mut command = runtime.command(&["run", "--bundle"]);
    command.arg(bundle).arg(id);
    command
}

/// Creates a container and returns the process that waits in it.
fn create(runtime: &Runtime, bundle: &Bundle, id: &str) -> i32 {
    let file = bundle.dir().join("pid");
    let mut command = runtime.command(&["create", "--bundle"]);
    command.arg(bundle.dir()).arg("--pid-file").arg(&file);
    succeed(command.arg(id));
    let text = fs::read_to_string(file).expect("the pid file can be read");
    text.trim().parse().expect("the pid file holds a number")
}

fn each<'a>(
    bundles: &'a Bundles<'_>,
    round: impl Fn(&Runtime, usize) -> f64 + Copy + 'a,
) -> Vec<Contestant<'a>> {
    bundles
        .runtimes()
        .into_iter()
        .map(|runtime| Contestant {
            name: runtime.name,
            round: Box::new(move |number| round(&runtime, number)),
        })
        .collect()
}
