//! What a container uses of the machine, one sample at a time.

use std::fs;

use lite_core::{Because, Kind, Result};

use crate::engine::Engine;
use crate::state::Phase;

/// One sample; of a container that does not run all is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// The container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// It runs.
    pub running: bool,
    /// Nanoseconds of processor time.
    pub cpu_ns: u64,
    /// Nanoseconds of processor time of the whole machine.
    pub system_ns: u64,
    /// Processors.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes; the machine's where there is no limit.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes.
    pub block_read: u64,
    /// Bytes.
    pub block_write: u64,
    /// Bytes received on all interfaces but loopback.
    pub network_rx: u64,
    /// Bytes sent.
    pub network_tx: u64,
}

/// Samples a container.
///
/// # Errors
/// NotFound; what the shim says.
pub async fn stats(engine: &Engine, container: &str) -> Result<Stats> {
    let record = engine.find(container)?.record();
    let mut stats = Stats {
        id: record.id.clone(),
        name: record.name.clone(),
        cpus: u32::try_from(engine.host().capacity.cpus).unwrap_or(u32::MAX),
        ..Stats::default()
    };
    if record.phase != Phase::Running {
        return Ok(stats);
    }
    let usage = match engine.core().tasks.usage(engine.ns(), &record.id).await {
        // It ended just now.
        Err(err) if err.kind() == Kind::NotFound => return Ok(stats),
        usage => usage?,
    };
    let machine = memory_of_machine().op(|| "read /proc/meminfo".to_owned())?;
    stats.running = true;
    stats.cpu_ns = usage.cpu_ns;
    stats.system_ns = system_ns().op(|| "read /proc/stat".to_owned())?;
    stats.memory = usage.memory;
    stats.memory_limit = usage.memory_limit.min(machine);
    stats.pids = usage.pids;
    stats.block_read = usage.block_read;
    stats.block_write = usage.block_write;
    // With the host's network Docker shows nothing either.
    if record
        .host
        .networks
        .first()
        .is_none_or(|first| first.network != "host")
    {
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", record.run.pid));
        (stats.network_rx, stats.network_tx) = traffic(&devices.unwrap_or_default());
    }
    Ok(stats)
}

fn memory_of_machine() -> std::io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

/// All time that the processors have spent: the first line of `/proc/stat`,
/// whose ticks are hundredths of a second.
fn system_ns() -> std::io::Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks: u64 = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Ok(ticks * 10_000_000)
}

/// Bytes received and sent, of the text of `/proc/PID/net/dev`.
fn traffic(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        sums.0 += numbers.first().copied().unwrap_or(0);
        sums.1 += numbers.get(8).copied().unwrap_or(0);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_no_traffic() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: 100 1 0 0 0 0 0 0 7 1\n";
        assert_eq!(traffic(text), (100, 7));
    }
}
