//! Reads the files of the controllers. A file that is not there leaves its part empty.

use std::fs;
use std::path::Path;

use super::{
    BlkioEntry, BlkioV1, CpuV1, CpuV2, Hugetlb, IoEntryV2, MemoryEntryV1, MemoryEventsV2,
    MemoryOomV1, MemoryV1, MemoryV2, Pids, Pressure, PressureLine, Stats, StatsV1, StatsV2, find,
};
use crate::Layout;
use crate::group::Cgroup;

pub(crate) fn read(cgroup: &Cgroup) -> Stats {
    match cgroup.layout() {
        Layout::V1 { .. } => Stats::V1(Box::new(read_v1(cgroup))),
        Layout::V2 => Stats::V2(Box::new(read_v2(
            cgroup.unified_dir().unwrap_or(Path::new("")),
        ))),
    }
}

/// The text of a control file; empty if it is not there, which is how a missing controller shows.
fn text(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A number, or `max` for no limit.
fn number(dir: &Path, file: &str) -> u64 {
    let text = text(dir, file);
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// Lines of a name and a number.
fn pairs(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn pids(dir: &Path) -> Pids {
    let limit = number(dir, "pids.max");
    Pids {
        current: number(dir, "pids.current"),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

fn read_v1(cgroup: &Cgroup) -> StatsV1 {
    let nowhere = Path::new("/nonexistent");
    let dir = |controller| cgroup.dir(controller).unwrap_or(nowhere);
    let (cpu, acct, memory) = (
        pairs(&text(dir("cpu"), "cpu.stat")),
        dir("cpuacct"),
        dir("memory"),
    );
    let entry = |kind: &str| MemoryEntryV1 {
        limit: number(memory, &format!("memory.{kind}limit_in_bytes")),
        usage: number(memory, &format!("memory.{kind}usage_in_bytes")),
        max: number(memory, &format!("memory.{kind}max_usage_in_bytes")),
        failcnt: number(memory, &format!("memory.{kind}failcnt")),
    };
    let oom = pairs(&text(memory, "memory.oom_control"));
    StatsV1 {
        pids: pids(dir("pids")),
        cpu: CpuV1 {
            total: number(acct, "cpuacct.usage"),
            kernel: number(acct, "cpuacct.usage_sys"),
            user: number(acct, "cpuacct.usage_user"),
            per_cpu: text(acct, "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect(),
            periods: find(&cpu, "nr_periods"),
            throttled_periods: find(&cpu, "nr_throttled"),
            throttled_time: find(&cpu, "throttled_time"),
        },
        memory: MemoryV1 {
            stat: pairs(&text(memory, "memory.stat")),
            usage: entry(""),
            swap: entry("memsw."),
            kernel: entry("kmem."),
            kernel_tcp: entry("kmem.tcp."),
        },
        memory_oom: MemoryOomV1 {
            oom_kill_disable: find(&oom, "oom_kill_disable"),
            under_oom: find(&oom, "under_oom"),
            oom_kill: find(&oom, "oom_kill"),
        },
        blkio: blkio(dir("blkio")),
        hugetlb: cgroup
            .dir("hugetlb")
            .map(|d| hugetlb(d, "limit_in_bytes"))
            .unwrap_or_default(),
    }
}

/// BFQ's files where the scheduler keeps them, else the throttling layer's.
fn blkio(dir: &Path) -> BlkioV1 {
    let list = |file: &str| -> Vec<BlkioEntry> {
        text(dir, file).lines().filter_map(blkio_line).collect()
    };
    let either = |name: &str, throttle: &str| {
        let bfq = list(&format!("blkio.bfq.{name}_recursive"));
        if bfq.is_empty() && !throttle.is_empty() {
            list(throttle)
        } else {
            bfq
        }
    };
    BlkioV1 {
        io_service_bytes_recursive: either(
            "io_service_bytes",
            "blkio.throttle.io_service_bytes_recursive",
        ),
        io_serviced_recursive: either("io_serviced", "blkio.throttle.io_serviced_recursive"),
        io_queued_recursive: either("io_queued", ""),
        io_service_time_recursive: either("io_service_time", ""),
        io_wait_time_recursive: either("io_wait_time", ""),
        io_merged_recursive: either("io_merged", ""),
        io_time_recursive: either("time", ""),
        sectors_recursive: either("sectors", ""),
    }
}

/// `8:0 Read 4096`, or `8:0 4096`; the line of totals has no device.
fn blkio_line(line: &str) -> Option<BlkioEntry> {
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.next()?.split_once(':')?;
    let rest: Vec<&str> = fields.collect();
    let (op, value) = match rest.as_slice() {
        [op, value] => ((*op).to_owned(), *value),
        [value] => (String::new(), *value),
        _ => return None,
    };
    Some(BlkioEntry {
        op,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        value: value.parse().ok()?,
    })
}

fn hugetlb(dir: &Path, limit: &str) -> Vec<Hugetlb> {
    let mut sizes: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let size = name
                .strip_prefix("hugetlb.")?
                .strip_suffix(limit)?
                .strip_suffix('.')?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    let v2 = limit == "max";
    let entry = |size: String| Hugetlb {
        usage: number(
            dir,
            &format!(
                "hugetlb.{size}.{}",
                if v2 { "current" } else { "usage_in_bytes" }
            ),
        ),
        max: number(
            dir,
            &format!(
                "hugetlb.{size}.{}",
                if v2 { "max" } else { "max_usage_in_bytes" }
            ),
        ),
        failcnt: if v2 {
            find(&pairs(&text(dir, &format!("hugetlb.{size}.events"))), "max")
        } else {
            number(dir, &format!("hugetlb.{size}.failcnt"))
        },
        pagesize: size,
    };
    sizes.into_iter().map(entry).collect()
}

fn read_v2(dir: &Path) -> StatsV2 {
    let cpu = pairs(&text(dir, "cpu.stat"));
    let events = pairs(&text(dir, "memory.events"));
    StatsV2 {
        pids: pids(dir),
        cpu: CpuV2 {
            usage_usec: find(&cpu, "usage_usec"),
            user_usec: find(&cpu, "user_usec"),
            system_usec: find(&cpu, "system_usec"),
            nr_periods: find(&cpu, "nr_periods"),
            nr_throttled: find(&cpu, "nr_throttled"),
            throttled_usec: find(&cpu, "throttled_usec"),
            nr_bursts: find(&cpu, "nr_bursts"),
            burst_usec: find(&cpu, "burst_usec"),
            pressure: pressure(&text(dir, "cpu.pressure")),
        },
        memory: MemoryV2 {
            stat: pairs(&text(dir, "memory.stat")),
            usage: number(dir, "memory.current"),
            usage_limit: number(dir, "memory.max"),
            max_usage: number(dir, "memory.peak"),
            swap_usage: number(dir, "memory.swap.current"),
            swap_limit: number(dir, "memory.swap.max"),
            swap_max_usage: number(dir, "memory.swap.peak"),
            pressure: pressure(&text(dir, "memory.pressure")),
        },
        memory_events: MemoryEventsV2 {
            low: find(&events, "low"),
            high: find(&events, "high"),
            max: find(&events, "max"),
            oom: find(&events, "oom"),
            oom_kill: find(&events, "oom_kill"),
            oom_group_kill: find(&events, "oom_group_kill"),
        },
        io: text(dir, "io.stat").lines().filter_map(io_line).collect(),
        io_pressure: pressure(&text(dir, "io.pressure")),
        hugetlb: hugetlb(dir, "max"),
    }
}

/// `8:0 rbytes=1 wbytes=2 …`
fn io_line(line: &str) -> Option<IoEntryV2> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let value = |key: &str| {
        rest.split_whitespace()
            .filter_map(|f| f.split_once('='))
            .find(|(k, _)| *k == key)
            .and_then(|(_, v)| v.parse().ok())
    };
    Some(IoEntryV2 {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: value("rbytes").unwrap_or(0),
        wbytes: value("wbytes").unwrap_or(0),
        rios: value("rios").unwrap_or(0),
        wios: value("wios").unwrap_or(0),
    })
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |name: &str| -> Option<PressureLine> {
        let rest = text.lines().find_map(|l| l.strip_prefix(name))?;
        let value = |key: &str| {
            rest.split_whitespace()
                .filter_map(|f| f.split_once('='))
                .find(|(k, _)| *k == key)
        };
        let float = |key: &str| value(key).and_then(|(_, v)| v.parse().ok()).unwrap_or(0.0);
        Some(PressureLine {
            avg10: float("avg10"),
            avg60: float("avg60"),
            avg300: float("avg300"),
            total: value("total")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(0),
        })
    };
    Some(Pressure {
        some: line("some ")?,
        full: line("full ").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_devices_and_pressure_are_read() {
        let entry = blkio_line("8:16 Write 4096").unwrap();
        assert_eq!(
            (entry.op.as_str(), entry.major, entry.minor, entry.value),
            ("Write", 8, 16, 4096)
        );
        assert_eq!(blkio_line("Total 4096"), None);
        let io = io_line("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0").unwrap();
        assert_eq!((io.major, io.wbytes, io.wios), (254, 2, 4));
        let psi = pressure(
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
        );
        let psi = psi.unwrap();
        assert_eq!(
            (psi.some.avg10, psi.some.total, psi.full.total),
            (1.5, 77, 5)
        );
    }
}
