//! The files of the v1 controllers.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Setting, Unless, huge_pages, pids_limit, rdma, set, throttles};
use crate::{Error, Result};

pub(super) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>> {
    if resources
        .unified()
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return Err(Error::refused(
            "invalid configuration: unified resources need cgroup v2",
        ));
    }
    let mut out = Vec::new();
    if let Some(cpu) = resources.cpu() {
        processors(cpu, &mut out);
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &mut out);
    }
    out.extend(
        resources
            .pids()
            .as_ref()
            .map(|p| set("pids", "pids.max", pids_limit(p.limit()))),
    );
    if let Some(io) = resources.block_io() {
        block(io, &mut out);
    }
    out.extend(huge_pages(resources, "limit_in_bytes"));
    out.extend(rdma(resources));
    if let Some(network) = resources.network() {
        out.extend(
            network
                .class_id()
                .map(|v| set("net_cls", "net_cls.classid", v)),
        );
        for priority in network.priorities().iter().flatten() {
            let line = format!("{} {}", priority.name(), priority.priority());
            out.push(set("net_prio", "net_prio.ifpriomap", line));
        }
    }
    Ok(out)
}

fn processors(cpu: &LinuxCpu, out: &mut Vec<Setting>) {
    let some = |v: Option<u64>| v.filter(|v| *v != 0);
    let signed = |v: Option<i64>| v.filter(|v| *v != 0);
    let text = |v: &Option<String>| v.clone().filter(|v| !v.is_empty());
    out.extend(some(cpu.shares()).map(|v| set("cpu", "cpu.shares", v)));
    out.extend(
        some(cpu.realtime_period())
            .map(|v| set("cpu", "cpu.rt_period_us", v).unless(Unless::Early)),
    );
    out.extend(signed(cpu.realtime_runtime()).map(|v| set("cpu", "cpu.rt_runtime_us", v)));
    out.extend(
        some(cpu.period()).map(|v| set("cpu", "cpu.cfs_period_us", v).unless(Unless::Early)),
    );
    out.extend(
        cpu.burst()
            .map(|v| set("cpu", "cpu.cfs_burst_us", v).unless(Unless::Early)),
    );
    out.extend(signed(cpu.quota()).map(|v| set("cpu", "cpu.cfs_quota_us", v)));
    out.extend(cpu.idle().map(|v| set("cpu", "cpu.idle", v)));
    out.extend(text(cpu.cpus()).map(|v| set("cpuset", "cpuset.cpus", v)));
    out.extend(text(cpu.mems()).map(|v| set("cpuset", "cpuset.mems", v)));
}

fn memory(memory: &LinuxMemory, out: &mut Vec<Setting>) {
    let some = |v: Option<i64>| v.filter(|v| *v != 0);
    let number = |file: &'static str, v: i64| set("memory", file, v);
    out.extend(some(memory.limit()).map(|v| number("memory.limit_in_bytes", v)));
    out.extend(some(memory.swap()).map(|v| number("memory.memsw.limit_in_bytes", v)));
    out.extend(some(memory.reservation()).map(|v| number("memory.soft_limit_in_bytes", v)));
    out.extend(some(memory.kernel_tcp()).map(|v| number("memory.kmem.tcp.limit_in_bytes", v)));
    out.extend(
        memory
            .swappiness()
            .filter(|v| *v <= 100)
            .map(|v| set("memory", "memory.swappiness", v)),
    );
    out.extend(
        memory
            .disable_oom_killer()
            .filter(|v| *v)
            .map(|_| set("memory", "memory.oom_control", 1)),
    );
}

fn block(io: &LinuxBlockIo, out: &mut Vec<Setting>) {
    out.extend(
        io.weight()
            .filter(|v| *v != 0)
            .map(|v| set("blkio", weight_file(), v)),
    );
    for device in io.weight_device().iter().flatten() {
        out.extend(device.weight().map(|weight| {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            set("blkio", format!("{}_device", weight_file()), value)
        }));
    }
    for (key, list) in throttles(io) {
        let file = match key {
            "rbps" => "read_bps",
            "wbps" => "write_bps",
            "riops" => "read_iops",
            _ => "write_iops",
        };
        for (major, minor, rate) in list {
            let value = format!("{major}:{minor} {rate}");
            out.push(set("blkio", format!("blkio.throttle.{file}_device"), value));
        }
    }
}

/// The weight's file has BFQ's name where that scheduler is built in.
fn weight_file() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/blkio/blkio.bfq.weight").exists() {
        "blkio.bfq.weight"
    } else {
        "blkio.weight"
    }
}
