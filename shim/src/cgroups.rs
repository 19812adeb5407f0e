//! What a container's cgroup tells: its processes, its use of resources, and
//! whether the kernel killed for want of memory.

use std::io;
use std::path::Path;

use cgroup::{Cgroup, Host, Layout, Pressure, PressureLine, Stats, StatsV1, StatsV2};
use prost::Message;
use prost_types::Any;
use proto::io::containerd::cgroups::{v1, v2};

use crate::failure::{Failure, Result};

const V1: &str = "io.containerd.cgroups.v1.Metrics";
const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// The cgroup of `pid`; none if it is the root's, which it would share with
/// the whole machine.
pub(crate) fn of_process(pid: u32) -> Option<Cgroup> {
    let host = Host::detect().ok()?;
    let group = Cgroup::of_process(&host, i32::try_from(pid).ok()?).ok()?;
    let root = Cgroup::named(&host, Path::new("/")).ok()?;
    let telling = if host.layout() == Layout::V2 {
        ""
    } else {
        "devices"
    };
    (group.dirs().get(telling) != root.dirs().get(telling)).then_some(group)
}

/// Moves the process `pid` into the cgroup `path`, which must exist, in every
/// hierarchy that has it.
pub(crate) fn join(path: &str, pid: u32) -> io::Result<()> {
    let group = Host::detect()
        .and_then(|host| Cgroup::named(&host, &Path::new("/").join(path)))
        .map_err(io::Error::other)?;
    let dirs: Vec<_> = group.dirs().values().filter(|dir| dir.is_dir()).collect();
    if dirs.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("cgroup {path} for the shim does not exist"),
        ));
    }
    for dir in dirs {
        std::fs::write(dir.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

/// All processes of the group.
pub(crate) fn pids(group: &Cgroup) -> Vec<u32> {
    // A group that is gone has none.
    let pids = group.pids().unwrap_or_default();
    pids.into_iter()
        .filter_map(|pid| u32::try_from(pid).ok())
        .collect()
}

/// The group's statistics as containerd's metrics of the host's version.
pub(crate) fn stats(group: &Cgroup) -> Result<Any> {
    let stats = group
        .stats()
        .map_err(|err| Failure::because("read cgroup statistics", &err))?;
    Ok(match stats {
        Stats::V1(stats) => any(V1, &metrics_v1(&stats)),
        Stats::V2(stats) => any(V2, &metrics_v2(&stats)),
    })
}

/// What several containers use together. What cannot be added (limits, peaks,
/// devices) is left out.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    v1: Option<v1::Metrics>,
    v2: Option<v2::Metrics>,
}

impl Sums {
    /// Adds what [`stats`] told of one container.
    pub(crate) fn add(&mut self, metrics: &Any) -> Result<()> {
        let bad = |err| Failure::because("add up cgroup statistics", &err);
        if metrics.type_url == V1 {
            let one = v1::Metrics::decode(metrics.value.as_slice()).map_err(bad)?;
            add_v1(self.v1.get_or_insert_default(), one);
        } else {
            let one = v2::Metrics::decode(metrics.value.as_slice()).map_err(bad)?;
            add_v2(self.v2.get_or_insert_default(), one);
        }
        Ok(())
    }

    /// The sums; none of no containers.
    pub(crate) fn into_any(self) -> Option<Any> {
        let v1 = self.v1.map(|metrics| any(V1, &metrics));
        v1.or_else(|| self.v2.map(|metrics| any(V2, &metrics)))
    }
}

fn add_v1(sum: &mut v1::Metrics, one: v1::Metrics) {
    sum.pids.get_or_insert_default().current += one.pids.unwrap_or_default().current;
    let usage = one.cpu.and_then(|cpu| cpu.usage).unwrap_or_default();
    let cpu = sum
        .cpu
        .get_or_insert_default()
        .usage
        .get_or_insert_default();
    cpu.total += usage.total;
    cpu.kernel += usage.kernel;
    cpu.user += usage.user;
    let memory = one.memory.unwrap_or_default();
    let total = sum.memory.get_or_insert_default();
    total.rss += memory.rss;
    total.cache += memory.cache;
    total.total_rss += memory.total_rss;
    total.total_cache += memory.total_cache;
    total.total_inactive_file += memory.total_inactive_file;
    total.usage.get_or_insert_default().usage += memory.usage.unwrap_or_default().usage;
}

fn add_v2(sum: &mut v2::Metrics, one: v2::Metrics) {
    sum.pids.get_or_insert_default().current += one.pids.unwrap_or_default().current;
    let usage = one.cpu.unwrap_or_default();
    let cpu = sum.cpu.get_or_insert_default();
    cpu.usage_usec += usage.usage_usec;
    cpu.user_usec += usage.user_usec;
    cpu.system_usec += usage.system_usec;
    let memory = one.memory.unwrap_or_default();
    let total = sum.memory.get_or_insert_default();
    total.usage += memory.usage;
    total.anon += memory.anon;
    total.file += memory.file;
    total.inactive_file += memory.inactive_file;
}

fn any(name: &str, metrics: &impl Message) -> Any {
    Any {
        type_url: name.to_owned(),
        value: metrics.encode_to_vec(),
    }
}

fn metrics_v1(stats: &StatsV1) -> v1::Metrics {
    let cpu = &stats.cpu;
    v1::Metrics {
        hugetlb: stats
            .hugetlb
            .iter()
            .map(|h| v1::HugetlbStat {
                usage: h.usage,
                max: h.max,
                failcnt: h.failcnt,
                pagesize: h.pagesize.clone(),
            })
            .collect(),
        pids: Some(v1::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(v1::CpuStat {
            usage: Some(v1::CpuUsage {
                total: cpu.total,
                kernel: cpu.kernel,
                user: cpu.user,
                per_cpu: cpu.per_cpu.clone(),
            }),
            throttling: Some(v1::Throttle {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled_time,
            }),
        }),
        memory: Some(memory_v1(&stats.memory)),
        blkio: Some(blkio_v1(&stats.blkio)),
        memory_oom_control: Some(v1::MemoryOomControl {
            oom_kill_disable: stats.memory_oom.oom_kill_disable,
            under_oom: stats.memory_oom.under_oom,
            oom_kill: stats.memory_oom.oom_kill,
        }),
        ..v1::Metrics::default()
    }
}

fn memory_v1(memory: &cgroup::MemoryV1) -> v1::MemoryStat {
    let stat = |name| memory.stat(name);
    let entry = |e: &cgroup::MemoryEntryV1| {
        Some(v1::MemoryEntry {
            limit: e.limit,
            usage: e.usage,
            max: e.max,
            failcnt: e.failcnt,
        })
    };
    v1::MemoryStat {
        cache: stat("cache"),
        rss: stat("rss"),
        rss_huge: stat("rss_huge"),
        mapped_file: stat("mapped_file"),
        dirty: stat("dirty"),
        writeback: stat("writeback"),
        pg_pg_in: stat("pgpgin"),
        pg_pg_out: stat("pgpgout"),
        pg_fault: stat("pgfault"),
        pg_maj_fault: stat("pgmajfault"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        hierarchical_memory_limit: stat("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat("hierarchical_memsw_limit"),
        total_cache: stat("total_cache"),
        total_rss: stat("total_rss"),
        total_rss_huge: stat("total_rss_huge"),
        total_mapped_file: stat("total_mapped_file"),
        total_dirty: stat("total_dirty"),
        total_writeback: stat("total_writeback"),
        total_pg_pg_in: stat("total_pgpgin"),
        total_pg_pg_out: stat("total_pgpgout"),
        total_pg_fault: stat("total_pgfault"),
        total_pg_maj_fault: stat("total_pgmajfault"),
        total_inactive_anon: stat("total_inactive_anon"),
        total_active_anon: stat("total_active_anon"),
        total_inactive_file: stat("total_inactive_file"),
        total_active_file: stat("total_active_file"),
        total_unevictable: stat("total_unevictable"),
        usage: entry(&memory.usage),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
    }
}

fn blkio_v1(blkio: &cgroup::BlkioV1) -> v1::BlkIoStat {
    let entries = |list: &[cgroup::BlkioEntry]| {
        let entry = |e: &cgroup::BlkioEntry| v1::BlkIoEntry {
            op: e.op.clone(),
            device: String::new(),
            major: e.major,
            minor: e.minor,
            value: e.value,
        };
        list.iter().map(entry).collect()
    };
    v1::BlkIoStat {
        io_service_bytes_recursive: entries(&blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(&blkio.io_serviced_recursive),
        io_queued_recursive: entries(&blkio.io_queued_recursive),
        io_service_time_recursive: entries(&blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(&blkio.io_wait_time_recursive),
        io_merged_recursive: entries(&blkio.io_merged_recursive),
        io_time_recursive: entries(&blkio.io_time_recursive),
        sectors_recursive: entries(&blkio.sectors_recursive),
    }
}

fn metrics_v2(stats: &StatsV2) -> v2::Metrics {
    let (cpu, events) = (&stats.cpu, &stats.memory_events);
    let io = |e: &cgroup::IoEntryV2| v2::IoEntry {
        major: e.major,
        minor: e.minor,
        rbytes: e.rbytes,
        wbytes: e.wbytes,
        rios: e.rios,
        wios: e.wios,
    };
    v2::Metrics {
        pids: Some(v2::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(v2::CpuStat {
            usage_usec: cpu.usage_usec,
            user_usec: cpu.user_usec,
            system_usec: cpu.system_usec,
            nr_periods: cpu.nr_periods,
            nr_throttled: cpu.nr_throttled,
            throttled_usec: cpu.throttled_usec,
            psi: cpu.pressure.as_ref().map(pressure),
            nr_bursts: cpu.nr_bursts,
            burst_usec: cpu.burst_usec,
        }),
        memory: Some(memory_v2(&stats.memory)),
        io: Some(v2::IoStat {
            usage: stats.io.iter().map(io).collect(),
            psi: stats.io_pressure.as_ref().map(pressure),
        }),
        hugetlb: stats
            .hugetlb
            .iter()
            .map(|h| v2::HugeTlbStat {
                current: h.usage,
                max: h.max,
                pagesize: h.pagesize.clone(),
                failcnt: h.failcnt,
            })
            .collect(),
        memory_events: Some(v2::MemoryEvents {
            low: events.low,
            high: events.high,
            max: events.max,
            oom: events.oom,
            oom_kill: events.oom_kill,
            oom_group_kill: events.oom_group_kill,
        }),
        ..v2::Metrics::default()
    }
}

fn memory_v2(memory: &cgroup::MemoryV2) -> v2::MemoryStat {
    let stat = |name| memory.stat(name);
    v2::MemoryStat {
        anon: stat("anon"),
        file: stat("file"),
        kernel_stack: stat("kernel_stack"),
        slab: stat("slab"),
        sock: stat("sock"),
        shmem: stat("shmem"),
        file_mapped: stat("file_mapped"),
        file_dirty: stat("file_dirty"),
        file_writeback: stat("file_writeback"),
        anon_thp: stat("anon_thp"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        slab_reclaimable: stat("slab_reclaimable"),
        slab_unreclaimable: stat("slab_unreclaimable"),
        pgfault: stat("pgfault"),
        pgmajfault: stat("pgmajfault"),
        workingset_refault: stat("workingset_refault_anon") + stat("workingset_refault_file"),
        workingset_activate: stat("workingset_activate_anon") + stat("workingset_activate_file"),
        workingset_nodereclaim: stat("workingset_nodereclaim"),
        pgrefill: stat("pgrefill"),
        pgscan: stat("pgscan"),
        pgsteal: stat("pgsteal"),
        pgactivate: stat("pgactivate"),
        pgdeactivate: stat("pgdeactivate"),
        pglazyfree: stat("pglazyfree"),
        pglazyfreed: stat("pglazyfreed"),
        thp_fault_alloc: stat("thp_fault_alloc"),
        thp_collapse_alloc: stat("thp_collapse_alloc"),
        usage: memory.usage,
        usage_limit: memory.usage_limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        max_usage: memory.max_usage,
        swap_max_usage: memory.swap_max_usage,
        psi: memory.pressure.as_ref().map(pressure),
    }
}

fn pressure(pressure: &Pressure) -> v2::PsiStats {
    let line = |l: &PressureLine| {
        Some(v2::PsiData {
            avg10: l.avg10,
            avg60: l.avg60,
            avg300: l.avg300,
            total: l.total,
        })
    };
    v2::PsiStats {
        some: line(&pressure.some),
        full: line(&pressure.full),
    }
}
