//! The files of the v2 controllers, and how a config's v1 scales are turned into v2's.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Setting, Unless, huge_pages, pids_limit, rdma, set, throttles};
use crate::{Error, Result};

/// With `bfq`, weights go to that scheduler's file, which has the config's scale.
pub(super) fn settings(resources: &LinuxResources, bfq: bool) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(cpu) = resources.cpu() {
        processors(cpu, &mut out);
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &mut out)?;
    }
    out.extend(
        resources
            .pids()
            .as_ref()
            .map(|p| set("pids", "pids.max", pids_limit(p.limit()))),
    );
    if let Some(io) = resources.block_io() {
        block(io, bfq, &mut out);
    }
    out.extend(huge_pages(resources, "max"));
    out.extend(rdma(resources));
    // Last: they override the rest.
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') {
            return Err(Error::refused(format!(
                "unified resource {file:?} must be a file name (no slashes)"
            )));
        }
        out.push(set("unified", file.clone(), value));
    }
    Ok(out)
}

fn processors(cpu: &LinuxCpu, out: &mut Vec<Setting>) {
    out.extend(cpu.idle().map(|v| set("cpu", "cpu.idle", v)));
    // The kernel refuses a weight for a group that is idle.
    let idle = cpu.idle() == Some(1);
    out.extend(
        cpu.shares()
            .filter(|v| *v != 0 && !idle)
            .map(|v| set("cpu", "cpu.weight", cpu_weight(v))),
    );
    out.extend(
        cpu.burst()
            .map(|v| set("cpu", "cpu.max.burst", v).unless(Unless::Early)),
    );
    let quota = cpu.quota().filter(|v| *v != 0);
    let period = cpu.period().filter(|v| *v != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or_else(|| "max".to_owned(), or_max);
        let period = period.unwrap_or(DEFAULT_PERIOD);
        out.push(set("cpu", "cpu.max", format!("{quota} {period}")));
    }
    let text = |v: &Option<String>| v.clone().filter(|v| !v.is_empty());
    out.extend(text(cpu.cpus()).map(|v| set("cpuset", "cpuset.cpus", v)));
    out.extend(text(cpu.mems()).map(|v| set("cpuset", "cpuset.mems", v)));
}

/// The kernel's own period of `cpu.max`, in microseconds.
pub(crate) const DEFAULT_PERIOD: u64 = 100_000;

fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    if let Some(swap) = swap_alone(limit, memory.swap().unwrap_or(0))? {
        // A kernel without swap accounting has no such file, and nothing that could be limited.
        let unless = if swap <= 0 {
            Unless::Missing
        } else {
            Unless::Never
        };
        out.push(set("memory", "memory.swap.max", or_max(swap)).unless(unless));
    }
    if limit != 0 {
        out.push(set("memory", "memory.max", or_max(limit)));
    }
    out.extend(
        memory
            .reservation()
            .filter(|v| *v != 0)
            .map(|v| set("memory", "memory.low", or_max(v))),
    );
    Ok(())
}

fn block(io: &LinuxBlockIo, bfq: bool, out: &mut Vec<Setting>) {
    if let Some(weight) = io.weight().filter(|v| *v != 0) {
        out.push(if bfq {
            set("io", "io.bfq.weight", weight)
        } else {
            set("io", "io.weight", io_weight(weight))
        });
    }
    for device in io.weight_device().iter().flatten() {
        out.extend(device.weight().map(|weight| {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            set("io", "io.bfq.weight", value)
        }));
    }
    for (key, list) in throttles(io) {
        for (major, minor, rate) in list {
            let value = format!("{major}:{minor} {key}={rate}");
            out.push(set("io", "io.max", value));
        }
    }
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// CPU shares (2 to 262144, 1024 by default) on the scale of `cpu.weight` (1 to 10000, 100 by default): the curve through these
/// three points that runc and crun have settled on, so that the default stays the default.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// A block device weight (10 to 1000) on the scale of `io.weight` (1 to 10000), linear.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// The config's swap counts memory as well; v2's does not. Unlimited memory without a word about swap means both, as on v1.
/// `None` is "leave as it is", a negative number "no limit".
pub(crate) fn swap_alone(limit: i64, both: i64) -> Result<Option<i64>> {
    match (limit, both) {
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, ..0) => Ok(Some(-1)),
        (..=0, _) => Err(Error::refused(
            "unable to set swap limit without memory limit",
        )),
        (limit, both) if both < limit => Err(Error::refused(
            "memory+swap limit should be >= memory limit",
        )),
        (limit, both) => Ok(Some(both - limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_and_the_default_stays_the_default() {
        let pairs = [
            (1, 1),
            (2, 1),
            (3, 2),
            (1024, 100),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, weight) in pairs {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn swap_is_what_is_left_of_both() {
        assert_eq!(swap_alone(100, 150).unwrap(), Some(50));
        assert_eq!(swap_alone(100, 100).unwrap(), Some(0));
        assert_eq!(swap_alone(100, -1).unwrap(), Some(-1));
        assert_eq!(swap_alone(-1, 0).unwrap(), Some(-1));
        assert_eq!(swap_alone(100, 0).unwrap(), None);
        assert!(swap_alone(100, 50).is_err());
        assert!(swap_alone(0, 50).is_err());
        assert!(swap_alone(-1, 50).is_err());
    }
}
