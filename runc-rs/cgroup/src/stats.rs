//! What the controllers have counted, as plain numbers in the kernel's units.
//!
//! The shapes follow containerd's metrics messages, so that the shim only copies. Unlimited is `u64::MAX` on v2 and the kernel's
//! own large number on v1.

mod read;

pub(crate) use read::read;

use serde::Serialize;

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
