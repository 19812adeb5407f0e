//! What a task uses of the machine, read off the cgroup v1 or v2 metrics that
//! its shim samples.

use prost::Message as _;
use proto::io::containerd::cgroups::{v1, v2};

use crate::error::{Kind, Result};
use crate::values::AnyValue;

/// One sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// Nanoseconds of processor time.
    pub cpu_ns: u64,
    /// Bytes of memory, without file pages that can be dropped.
    pub memory: u64,
    /// Bytes of memory, with file pages.
    pub memory_total: u64,
    /// Bytes of memory that belong to no file.
    pub rss: u64,
    /// Bytes in swap.
    pub swap: u64,
    /// Page faults.
    pub faults: u64,
    /// Those that had to wait for a disk.
    pub major_faults: u64,
    /// The limit of it; what the kernel calls unlimited is larger than any
    /// machine.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to them.
    pub block_write: u64,
}

/// Reads a sample.
///
/// # Errors
/// Unknown for a message that is neither.
pub(super) fn read(sample: &AnyValue) -> Result<ResourceUsage> {
    let bad = |err: prost::DecodeError| Kind::Unknown.error("decode metrics").because(err);
    let kind = sample.type_url.rsplit('/').next().unwrap_or_default();
    match kind {
        "io.containerd.cgroups.v1.Metrics" => v1::Metrics::decode(sample.value.as_slice())
            .map(of_v1)
            .map_err(bad),
        "io.containerd.cgroups.v2.Metrics" => v2::Metrics::decode(sample.value.as_slice())
            .map(of_v2)
            .map_err(bad),
        other => Err(Kind::Unknown.error(format!("decode metrics: unknown type {other:?}"))),
    }
}

fn of_v1(metrics: v1::Metrics) -> ResourceUsage {
    let memory = metrics.memory.unwrap_or_default();
    let used = memory.usage.unwrap_or_default();
    let io = metrics.blkio.unwrap_or_default().io_service_bytes_recursive;
    let sum = |op: &str| {
        let entries = io.iter().filter(|entry| entry.op.eq_ignore_ascii_case(op));
        entries.map(|entry| entry.value).sum()
    };
    ResourceUsage {
        cpu_ns: metrics
            .cpu
            .and_then(|cpu| cpu.usage)
            .map_or(0, |usage| usage.total),
        memory: used.usage.saturating_sub(memory.total_inactive_file),
        memory_total: used.usage,
        rss: memory.total_rss,
        // On v1 the count of both.
        swap: memory
            .swap
            .unwrap_or_default()
            .usage
            .saturating_sub(used.usage),
        faults: memory.total_pg_fault,
        major_faults: memory.total_pg_maj_fault,
        memory_limit: used.limit,
        pids: metrics.pids.map_or(0, |pids| pids.current),
        block_read: sum("read"),
        block_write: sum("write"),
    }
}

fn of_v2(metrics: v2::Metrics) -> ResourceUsage {
    let memory = metrics.memory.unwrap_or_default();
    let io = metrics.io.unwrap_or_default().usage;
    ResourceUsage {
        cpu_ns: metrics
            .cpu
            .map_or(0, |cpu| cpu.usage_usec.saturating_mul(1000)),
        memory: memory.usage.saturating_sub(memory.inactive_file),
        memory_total: memory.usage,
        rss: memory.anon,
        swap: memory.swap_usage,
        faults: memory.pgfault,
        major_faults: memory.pgmajfault,
        memory_limit: memory.usage_limit,
        pids: metrics.pids.map_or(0, |pids| pids.current),
        block_read: io.iter().map(|entry| entry.rbytes).sum(),
        block_write: io.iter().map(|entry| entry.wbytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let metrics = v2::Metrics {
            cpu: Some(v2::CpuStat {
                usage_usec: 7,
                ..Default::default()
            }),
            memory: Some(v2::MemoryStat {
                usage: 100,
                inactive_file: 30,
                usage_limit: 1000,
                ..Default::default()
            }),
            ..Default::default()
        };
        let sample = AnyValue {
            type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
            value: metrics.encode_to_vec(),
        };
        let usage = read(&sample).unwrap();
        assert_eq!(
            (usage.cpu_ns, usage.memory, usage.memory_limit),
            (7000, 70, 1000)
        );
        let unknown = AnyValue {
            type_url: "x".to_owned(),
            value: Vec::new(),
        };
        assert!(read(&unknown).is_err());
    }
}
