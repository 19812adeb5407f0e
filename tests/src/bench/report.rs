//! The table of a benchmark, the machine it was made on, and what is kept.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::contest::{Result, Series};
use crate::repository;

/// Medians and spread, and how many times the first one's value each takes.
#[must_use]
pub fn table(result: &Result) -> String {
    let Some(first) = result.series.first() else {
        return String::new();
    };
    let rounds = first.all.len();
    let mut text = format!("\n{} ({rounds} rounds, in turn)\n", result.title);
    let sign = result.unit.sign();
    let [median, low, high] = ["median", "10 %", "90 %"].map(|what| format!("{what} {sign}"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<22} {median:>11} {low:>10} {high:>10} {:>8}",
        "", "ratio"
    );
    for series in &result.series {
        let ratio = series.quantile(50) / first.quantile(50);
        let [median, low, high] = [50, 10, 90].map(|part| series.quantile(part));
        let _ = writeln!(
            text,
            "{:<22} {median:>11.2} {low:>10.2} {high:>10.2} {ratio:>8.2}",
            series.name
        );
    }
    text
}

/// Every value that was measured.
#[must_use]
pub fn raw(result: &Result) -> Value {
    let of = |series: &Series| json!({"name": series.name, "values": series.all});
    json!({
        "contest": result.title,
        "unit": result.unit.sign(),
        "series": result.series.iter().map(of).collect::<Vec<_>>(),
    })
}

/// Processor, memory, kernel and the versions of everybody measured.
#[must_use]
pub fn machine() -> String {
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
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let ours = repository::program("runc-rs").display().to_string();
    let ctl = repository::program("ctl").display().to_string();
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    [
        format!(
            "machine: {cpus} × {}, {}",
            value("/proc/cpuinfo", "model name"),
            value("/proc/meminfo", "MemTotal")
        ),
        format!(
            "kernel: {}, load {load} before",
            first_line("uname", &["-sr"])
        ),
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

/// Writes report and raw values under a name made of the time.
///
/// # Errors
/// What writing says.
pub fn keep(dir: &Path, report: &str, raw: &Value) -> std::io::Result<String> {
    fs::create_dir_all(dir)?;
    let now = Command::new("date")
        .args(["-u", "+%Y%m%dT%H%M%SZ"])
        .output()?;
    let path = dir.join(String::from_utf8_lossy(&now.stdout).trim());
    fs::write(path.with_extension("txt"), report)?;
    fs::write(path.with_extension("json"), raw.to_string())?;
    Ok(path.display().to_string())
}
