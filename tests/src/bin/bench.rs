//! The benchmark: our programs against their peers, in one table of ratios.
//!
//! `bench RESULTS_DIR`; see `tests/bench/run.sh`.
//!
//! 1. [`runtimes`] and [`clients`] name the contestants of the two contests.
//! 2. [`measure`] runs each contestant of a contest in turn, round by round,
//!    so that a machine that slows down slows them all.
//! 3. [`table`] gives medians and ratios, and [`machine`] says where it was;
//!    both are printed and kept beside the raw times.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::containerd::Containerd;
use tests::image::Image;
use tests::repository;
use tests::scratch::Scratch;
use tests::stack::{BUSYBOX, Stack};

/// Rounds that are measured, after [`WARM_UP`] rounds that are not.
const ROUNDS: usize = 40;
const WARM_UP: usize = 5;

/// A command that does one whole run, made anew for each round.
struct Contestant<'a> {
    name: &'static str,
    command: Box<dyn Fn(usize) -> Command + 'a>,
}

/// What was measured of one contestant.
struct Times {
    name: &'static str,
    all: Vec<Duration>,
}

fn main() -> ExitCode {
    let Some(results) = std::env::args_os().nth(1) else {
        eprintln!("usage: bench RESULTS_DIR");
        return ExitCode::from(2);
    };
    let scratch = Scratch::new();
    let bundle = docker_sized_bundle(&scratch);
    let stack = Stack::with_busybox();
    let containerd = Containerd::start(&scratch);
    let archive = scratch.text("image.tar");
    fs::write(&archive, Image::busybox().docker_archive(&[BUSYBOX]))
        .expect("an archive can be written");
    containerd.ctr(&["images", "import", &archive]).ok();

    let machine = machine();
    println!("{machine}");
    let contests = [
        (
            "run /bin/true in a Docker-sized bundle",
            measure(&runtimes(&scratch, &bundle)),
        ),
        (
            "run --rm busybox true, daemon running",
            measure(&clients(&stack, &containerd)),
        ),
    ];
    let mut report = machine;
    for (title, times) in &contests {
        let table = table(title, times);
        println!("{table}");
        report.push_str(&table);
    }
    let raw: Vec<Value> = contests
        .iter()
        .map(|(title, times)| raw(title, times))
        .collect();
    match keep(Path::new(&results), &report, &json!(raw)) {
        Ok(path) => println!("kept as {path}.txt, raw times in {path}.json"),
        Err(err) => {
            eprintln!("bench: write results: {err}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// `runc spec`'s bundle with Docker's namespaces and seccomp profile.
fn docker_sized_bundle(scratch: &Scratch) -> Bundle {
    let profile = fs::read(repository::root().join("tests/bench/seccomp.json"));
    let profile: Value =
        serde_json::from_slice(&profile.expect("seccomp.json can be read")).expect("it is JSON");
    let bundle = Bundle::new(scratch, "b").running(&["/bin/true"]);
    bundle.edit(|config| config["linux"]["seccomp"] = profile);
    bundle
}

fn runtimes<'a>(scratch: &'a Scratch, bundle: &'a Bundle) -> Vec<Contestant<'a>> {
    let runtime = |name: &'static str, program: std::path::PathBuf| Contestant {
        name,
        command: Box::new(move |_| {
            let mut command = Command::new(&program);
            command
                .arg("--root")
                .arg(scratch.path(name))
                .args(["run", "--bundle"])
                .arg(bundle.dir())
                .arg("c");
            command
        }),
    };
    vec![
        runtime("runc-rs", repository::program("runc-rs")),
        runtime("runc", "runc".into()),
        runtime("crun", "crun".into()),
        Contestant {
            name: "floor: unshare",
            command: Box::new(move |_| {
                let mut command = Command::new("unshare");
                command.args([
                    "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork",
                ]);
                command.arg(bundle.dir().join("rootfs/bin/true"));
                command
            }),
        },
    ]
}

fn clients<'a>(stack: &'a Stack, containerd: &'a Containerd) -> Vec<Contestant<'a>> {
    vec![
        Contestant {
            name: "ctl, containerd-lite",
            command: Box::new(|_| stack.ctl_command(&["run", "--rm", BUSYBOX, "true"])),
        },
        Contestant {
            name: "ctr, containerd",
            command: Box::new(|round| {
                let id = format!("bench{round}");
                let cgroup = containerd.cgroup(&id);
                let image = "docker.io/library/busybox:latest";
                containerd.ctr_command(&[
                    "run",
                    "--rm",
                    "--seccomp",
                    "--cgroup",
                    &cgroup,
                    image,
                    &id,
                    "true",
                ])
            }),
        },
    ]
}

/// Each contestant in turn, round by round.
///
/// # Panics
/// When one of them fails: a failure is fast, and no result.
fn measure(contestants: &[Contestant<'_>]) -> Vec<Times> {
    let mut times: Vec<Times> = contestants
        .iter()
        .map(|contestant| Times {
            name: contestant.name,
            all: Vec::new(),
        })
        .collect();
    for round in 0..WARM_UP + ROUNDS {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            let mut command = (contestant.command)(round);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let started = Instant::now();
            let out = command
                .output()
                .unwrap_or_else(|err| panic!("run {}: {err}", contestant.name));
            let took = started.elapsed();
            assert!(
                out.status.success(),
                "{}: {}",
                contestant.name,
                String::from_utf8_lossy(&out.stderr)
            );
            if round >= WARM_UP {
                times.all.push(took);
            }
        }
    }
    times
}

/// Medians and spread, and how many times the first one's time each takes.
fn table(title: &str, times: &[Times]) -> String {
    let first = quantile(&times[0].all, 50);
    let mut text = format!("\n{title} ({ROUNDS} rounds, in turn)\n");
    let _ = writeln!(
        text,
        "{:<22} {:>10} {:>10} {:>10} {:>8}",
        "", "median ms", "10 % ms", "90 % ms", "ratio"
    );
    for Times { name, all } in times {
        let ratio = quantile(all, 50).as_secs_f64() / first.as_secs_f64();
        let [median, low, high] =
            [50, 10, 90].map(|part| quantile(all, part).as_secs_f64() * 1000.0);
        let _ = writeln!(
            text,
            "{name:<22} {median:>10.2} {low:>10.2} {high:>10.2} {ratio:>8.2}"
        );
    }
    text
}

fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}

fn raw(title: &str, times: &[Times]) -> Value {
    let of = |times: &Times| {
        let micros: Vec<u128> = times.all.iter().map(Duration::as_micros).collect();
        json!({"name": times.name, "microseconds": micros})
    };
    json!({"contest": title, "times": times.iter().map(of).collect::<Vec<_>>()})
}

/// Processor, memory, kernel and the versions of everybody measured.
fn machine() -> String {
    let first_line = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).output();
        let text = out
            .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
            .unwrap_or_default();
        text.lines().next().unwrap_or("?").to_owned()
    };
    let value = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default();
        line.split(':').nth(1).unwrap_or("?").trim().to_owned()
    };
    let ours = repository::program("runc-rs").display().to_string();
    let ctl = repository::program("ctl").display().to_string();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    [
        format!(
            "machine: {cpus} × {}, {}",
            value("/proc/cpuinfo", "model name"),
            value("/proc/meminfo", "MemTotal")
        ),
        format!("kernel: {}", first_line("uname", &["-sr"])),
        format!(
            "build: {}",
            if cfg!(debug_assertions) {
                "debug, which says little"
            } else {
                "release"
            }
        ),
        first_line(&ours, &["--version"]),
        first_line(&ctl, &["--version"]),
        first_line("runc", &["--version"]),
        first_line("crun", &["--version"]),
        first_line("containerd", &["--version"]),
        first_line("unshare", &["--version"]),
        String::new(),
    ]
    .join("\n")
}

/// Writes report and raw times under a name made of the time.
fn keep(dir: &Path, report: &str, raw: &Value) -> std::io::Result<String> {
    fs::create_dir_all(dir)?;
    let now = Command::new("date")
        .args(["-u", "+%Y%m%dT%H%M%SZ"])
        .output()?;
    let path = dir.join(String::from_utf8_lossy(&now.stdout).trim());
    fs::write(path.with_extension("txt"), report)?;
    fs::write(path.with_extension("json"), raw.to_string())?;
    Ok(path.display().to_string())
}
