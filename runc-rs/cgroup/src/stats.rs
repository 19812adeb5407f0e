//! What the controllers have counted, as plain numbers in the kernel's units.
//!
//! The shapes follow containerd's metrics messages, so that the shim only copies. Unlimited is `u64::MAX` on v2 and the kernel's
//! own large number on v1.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Layout;
use crate::group::Cgroup;

/// Statistics in the form of the host's layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Stats {
    /// Of the v1 controllers.
    V1(Box<StatsV1>),
    /// Of the one v2 hierarchy.
    V2(Box<StatsV2>),
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }
    };
}

counters!(
    /// All v1 controllers.
    StatsV1 {
        /// Number of tasks.
        pids: Pids,
        /// Processor time.
        cpu: CpuV1,
        /// Memory.
        memory: MemoryV1,
        /// Out-of-memory state.
        memory_oom: MemoryOomV1,
        /// Block devices.
        blkio: BlkioV1,
        /// Huge pages, by size.
        hugetlb: Vec<Hugetlb>,
    }
);
counters!(
    /// The pids controller.
    Pids {
        /// Tasks now.
        current: u64,
        /// Tasks allowed; 0 is no limit.
        limit: u64,
    }
);
counters!(
    /// cpu and cpuacct; nanoseconds.
    CpuV1 {
        /// Time used.
        total: u64,
        /// Of it in the kernel.
        kernel: u64,
        /// Of it in user mode.
        user: u64,
        /// Time used on each processor.
        per_cpu: Vec<u64>,
        /// Periods with a quota.
        periods: u64,
        /// Of them throttled.
        throttled_periods: u64,
        /// Time throttled.
        throttled_time: u64,
    }
);
counters!(
    /// One kind of memory on v1.
    MemoryEntryV1 {
        /// Limit in bytes.
        limit: u64,
        /// Use in bytes.
        usage: u64,
        /// Highest use in bytes.
        max: u64,
        /// How often the limit was hit.
        failcnt: u64,
    }
);
counters!(
    /// The memory controller of v1.
    MemoryV1 {
        /// `memory.stat`: name and value in the kernel's order.
        stat: Vec<(String, u64)>,
        /// Memory.
        usage: MemoryEntryV1,
        /// Memory and swap.
        swap: MemoryEntryV1,
        /// Kernel memory.
        kernel: MemoryEntryV1,
        /// TCP buffers.
        kernel_tcp: MemoryEntryV1,
    }
);
counters!(
    /// `memory.oom_control`.
    MemoryOomV1 {
        /// The killer is off.
        oom_kill_disable: u64,
        /// Tasks are stopped for want of memory.
        under_oom: u64,
        /// Tasks killed.
        oom_kill: u64,
    }
);
counters!(
    /// The blkio controller; each list by device and operation.
    BlkioV1 {
        /// Bytes.
        io_service_bytes_recursive: Vec<BlkioEntry>,
        /// Operations.
        io_serviced_recursive: Vec<BlkioEntry>,
        /// Waiting operations.
        io_queued_recursive: Vec<BlkioEntry>,
        /// Nanoseconds served.
        io_service_time_recursive: Vec<BlkioEntry>,
        /// Nanoseconds waited.
        io_wait_time_recursive: Vec<BlkioEntry>,
        /// Merged operations.
        io_merged_recursive: Vec<BlkioEntry>,
        /// Milliseconds of device time.
        io_time_recursive: Vec<BlkioEntry>,
        /// Sectors.
        sectors_recursive: Vec<BlkioEntry>,
    }
);
counters!(
    /// One number about one device.
    BlkioEntry {
        /// `Read`, `Write`, …; empty where the kernel tells none apart.
        op: String,
        /// Device number.
        major: u64,
        /// Device number.
        minor: u64,
        /// The number.
        value: u64,
    }
);
counters!(
    /// Huge pages of one size, in bytes.
    Hugetlb {
        /// Size, as in `2MB`.
        pagesize: String,
        /// Use.
        usage: u64,
        /// v1: highest use; v2: limit.
        max: u64,
        /// How often the limit was hit.
        failcnt: u64,
    }
);
counters!(
    /// All v2 controllers.
    StatsV2 {
        /// Number of tasks.
        pids: Pids,
        /// Processor time.
        cpu: CpuV2,
        /// Memory.
        memory: MemoryV2,
        /// `memory.events`.
        memory_events: MemoryEventsV2,
        /// Block devices.
        io: Vec<IoEntryV2>,
        /// Pressure on block devices.
        io_pressure: Option<Pressure>,
        /// Huge pages, by size.
        hugetlb: Vec<Hugetlb>,
    }
);
counters!(
    /// `cpu.stat`; microseconds.
    CpuV2 {
        /// Time used.
        usage_usec: u64,
        /// Of it in user mode.
        user_usec: u64,
        /// Of it in the kernel.
        system_usec: u64,
        /// Periods with a quota.
        nr_periods: u64,
        /// Of them throttled.
        nr_throttled: u64,
        /// Time throttled.
        throttled_usec: u64,
        /// Bursts.
        nr_bursts: u64,
        /// Time burst.
        burst_usec: u64,
        /// Pressure.
        pressure: Option<Pressure>,
    }
);
counters!(
    /// The memory controller of v2; bytes.
    MemoryV2 {
        /// `memory.stat`: name and value in the kernel's order.
        stat: Vec<(String, u64)>,
        /// Use.
        usage: u64,
        /// Limit.
        usage_limit: u64,
        /// Highest use.
        max_usage: u64,
        /// Swap used.
        swap_usage: u64,
        /// Swap allowed.
        swap_limit: u64,
        /// Highest swap use.
        swap_max_usage: u64,
        /// Pressure.
        pressure: Option<Pressure>,
    }
);
counters!(
    /// `memory.events`.
    MemoryEventsV2 {
        /// Reclaimed below the low mark.
        low: u64,
        /// Above the high mark.
        high: u64,
        /// At the limit.
        max: u64,
        /// Out of memory.
        oom: u64,
        /// Tasks killed.
        oom_kill: u64,
        /// Whole groups killed.
        oom_group_kill: u64,
    }
);
counters!(
    /// `io.stat` of one device.
    IoEntryV2 {
        /// Device number.
        major: u64,
        /// Device number.
        minor: u64,
        /// Bytes read.
        rbytes: u64,
        /// Bytes written.
        wbytes: u64,
        /// Reads.
        rios: u64,
        /// Writes.
        wios: u64,
    }
);
counters!(
    /// A pressure file (`cgroup-v2.txt`, PSI).
    Pressure {
        /// Some tasks stalled.
        some: PressureLine,
        /// All tasks stalled.
        full: PressureLine,
    }
);
counters!(
    /// One line of a pressure file.
    PressureLine {
        /// Percentage over ten seconds.
        avg10: f64,
        /// Over a minute.
        avg60: f64,
        /// Over five minutes.
        avg300: f64,
        /// Microseconds stalled.
        total: u64,
    }
);

impl MemoryV1 {
    /// A line of `memory.stat`; 0 if the kernel has none of the name.
    #[must_use]
    pub fn stat(&self, name: &str) -> u64 {
        find(&self.stat, name)
    }
}

impl MemoryV2 {
    /// A line of `memory.stat`; 0 if the kernel has none of the name.
    #[must_use]
    pub fn stat(&self, name: &str) -> u64 {
        find(&self.stat, name)
    }
}

fn find(pairs: &[(String, u64)], name: &str) -> u64 {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map_or(0, |(_, value)| *value)
}

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
