//! Limits of a config turned into control files: which file, which value, in which order.
//!
//! The tables are pure ([`v1`], [`v2`]); [`apply_limits`] writes them. A value of 0 means "not set", as everywhere in runc.

use std::os::fd::AsFd;

use oci_spec::runtime::LinuxResources;

use crate::group::{Cgroup, read, write};
use crate::{Error, Layout, Result, devices};

/// One control file and its value. On v1 the controller says in which directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
}

fn set(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Setting {
    Setting {
        controller,
        file: file.into(),
        value: value.to_string(),
    }
}

/// Limits and device rules.
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    match cgroup.layout() {
        Layout::V1 { .. } => {
            if let (Some(dir), false) = (cgroup.dir("devices"), devices::allows_everything(&rules))
            {
                devices::apply_v1(dir, &rules)?;
            }
        }
        Layout::V2 => {
            if let (Some(dir), false) = (cgroup.unified_dir(), devices::allows_everything(&rules)) {
                let bpf = |e| Error::new("attach device rules", e);
                let program =
                    kernel::filter::load_device_program(&devices::program(&rules)).map_err(bpf)?;
                let group = kernel::path::open_dir(dir).map_err(bpf)?;
                kernel::filter::attach_device_program(program.as_fd(), group.as_fd())
                    .map_err(bpf)?;
            }
        }
    }
    apply_limits(cgroup, resources)
}

/// Limits alone.
pub(crate) fn apply_limits(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let settings = match cgroup.layout() {
        Layout::V1 { .. } => v1(resources),
        Layout::V2 => v2(resources)?,
    };
    for setting in settings {
        let dir = match cgroup.layout() {
            Layout::V1 { .. } => cgroup.dir(setting.controller),
            Layout::V2 => cgroup.unified_dir(),
        };
        let Some(dir) = dir else {
            return Err(Error::refused(format!(
                "set {} to {:?}: the {} controller is not available here",
                setting.file, setting.value, setting.controller
            )));
        };
        let file = dir.join(&setting.file);
        if setting.file == "memory.limit_in_bytes" {
            write_memory_v1(cgroup, &file, &setting.value, resources)?;
        } else {
            write(&file, &setting.value)?;
        }
    }
    Ok(())
}

/// The kernel keeps limit ≤ limit of memory and swap at every moment, so growing past the old one needs the other order.
fn write_memory_v1(
    cgroup: &Cgroup,
    file: &std::path::Path,
    value: &str,
    resources: &LinuxResources,
) -> Result<()> {
    match write(file, value) {
        Err(e) if e.errno() == Some(22) => {
            let swap = resources
                .memory()
                .as_ref()
                .and_then(|m| m.swap())
                .filter(|s| *s != 0);
            let (Some(swap), Some(dir)) = (swap, cgroup.dir("memory")) else {
                return Err(e);
            };
            write(&dir.join("memory.memsw.limit_in_bytes"), &swap.to_string())?;
            write(file, value)
        }
        Err(e) if e.errno() == Some(16) => {
            let usage = cgroup
                .dir("memory")
                .and_then(|d| read(&d.join("memory.usage_in_bytes")).ok());
            Err(Error::refused(format!(
                "unable to set memory limit to {value} (current usage: {})",
                usage.as_deref().map_or("unknown", str::trim)
            )))
        }
        other => other,
    }
}

/// pids: 0 is turned into 1, as the kernel's own 0 would keep the first process from being forked; below means no limit.
fn pids_limit(limit: i64) -> String {
    match limit {
        0 => "1".to_owned(),
        n if n < 0 => "max".to_owned(),
        n => n.to_string(),
    }
}

fn v1(resources: &LinuxResources) -> Vec<Setting> {
    let mut out = Vec::new();
    if let Some(cpu) = resources.cpu() {
        let some = |v: Option<u64>| v.filter(|v| *v != 0);
        out.extend(some(cpu.shares()).map(|v| set("cpu", "cpu.shares", v)));
        out.extend(some(cpu.realtime_period()).map(|v| set("cpu", "cpu.rt_period_us", v)));
        out.extend(
            cpu.realtime_runtime()
                .filter(|v| *v != 0)
                .map(|v| set("cpu", "cpu.rt_runtime_us", v)),
        );
        out.extend(some(cpu.period()).map(|v| set("cpu", "cpu.cfs_period_us", v)));
        out.extend(
            cpu.quota()
                .filter(|v| *v != 0)
                .map(|v| set("cpu", "cpu.cfs_quota_us", v)),
        );
        out.extend(cpu.burst().map(|v| set("cpu", "cpu.cfs_burst_us", v)));
        out.extend(cpu.idle().map(|v| set("cpu", "cpu.idle", v)));
        out.extend(
            cpu.cpus()
                .as_ref()
                .filter(|v| !v.is_empty())
                .map(|v| set("cpuset", "cpuset.cpus", v)),
        );
        out.extend(
            cpu.mems()
                .as_ref()
                .filter(|v| !v.is_empty())
                .map(|v| set("cpuset", "cpuset.mems", v)),
        );
    }
    if let Some(memory) = resources.memory() {
        let some = |v: Option<i64>| v.filter(|v| *v != 0);
        out.extend(some(memory.limit()).map(|v| set("memory", "memory.limit_in_bytes", v)));
        out.extend(some(memory.swap()).map(|v| set("memory", "memory.memsw.limit_in_bytes", v)));
        out.extend(
            some(memory.reservation()).map(|v| set("memory", "memory.soft_limit_in_bytes", v)),
        );
        out.extend(
            some(memory.kernel_tcp()).map(|v| set("memory", "memory.kmem.tcp.limit_in_bytes", v)),
        );
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
    out.extend(
        resources
            .pids()
            .as_ref()
            .map(|p| set("pids", "pids.max", pids_limit(p.limit()))),
    );
    if let Some(io) = resources.block_io() {
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
        for (file, list) in throttles(io) {
            for (major, minor, rate) in list {
                out.push(set(
                    "blkio",
                    format!("blkio.throttle.{file}_device"),
                    format!("{major}:{minor} {rate}"),
                ));
            }
        }
    }
    for page in resources.hugepage_limits().iter().flatten() {
        out.push(set(
            "hugetlb",
            format!("hugetlb.{}.limit_in_bytes", page.page_size()),
            page.limit(),
        ));
    }
    out.extend(rdma(resources));
    if let Some(network) = resources.network() {
        out.extend(
            network
                .class_id()
                .map(|v| set("net_cls", "net_cls.classid", v)),
        );
        for priority in network.priorities().iter().flatten() {
            out.push(set(
                "net_prio",
                "net_prio.ifpriomap",
                format!("{} {}", priority.name(), priority.priority()),
            ));
        }
    }
    out
}

/// Limits on RDMA adapters, the same file on v1 and v2.
fn rdma(resources: &LinuxResources) -> impl Iterator<Item = Setting> + '_ {
    resources.rdma().iter().flatten().map(|(device, limits)| {
        let or_max = |n: Option<u32>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let (handles, objects) = (or_max(limits.hca_handles()), or_max(limits.hca_objects()));
        let value = format!("{device} hca_handle={handles} hca_object={objects}");
        set("rdma", "rdma.max", value)
    })
}

/// The weight's file has BFQ's name where that scheduler is built in.
fn weight_file() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/blkio/blkio.bfq.weight").exists() {
        "blkio.bfq.weight"
    } else {
        "blkio.weight"
    }
}

type Throttles = [(&'static str, Vec<(i64, i64, u64)>); 4];

fn throttles(io: &oci_spec::runtime::LinuxBlockIo) -> Throttles {
    let list = |v: &Option<Vec<oci_spec::runtime::LinuxThrottleDevice>>| {
        v.iter()
            .flatten()
            .map(|d| (d.major(), d.minor(), d.rate()))
            .collect()
    };
    [
        ("read_bps", list(io.throttle_read_bps_device())),
        ("write_bps", list(io.throttle_write_bps_device())),
        ("read_iops", list(io.throttle_read_iops_device())),
        ("write_iops", list(io.throttle_write_iops_device())),
    ]
}

/// CPU shares (2 to 262144) on the scale of `cpu.weight` (1 to 10000), linear as Kubernetes and runc have it.
fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

fn v2(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    if let Some(cpu) = resources.cpu() {
        out.extend(cpu.idle().map(|v| set("cpu", "cpu.idle", v)));
        let idle = cpu.idle() == Some(1);
        out.extend(
            cpu.shares()
                .filter(|v| *v != 0 && !idle)
                .map(|v| set("cpu", "cpu.weight", cpu_weight(v))),
        );
        let (quota, period) = (
            cpu.quota().filter(|v| *v != 0),
            cpu.period().filter(|v| *v != 0),
        );
        if quota.is_some() || period.is_some() {
            let quota = quota
                .filter(|q| *q > 0)
                .map_or_else(|| "max".to_owned(), |q| q.to_string());
            out.push(set(
                "cpu",
                "cpu.max",
                format!("{quota} {}", period.unwrap_or(100_000)),
            ));
        }
        out.extend(cpu.burst().map(|v| set("cpu", "cpu.max.burst", v)));
        out.extend(
            cpu.cpus()
                .as_ref()
                .filter(|v| !v.is_empty())
                .map(|v| set("cpuset", "cpuset.cpus", v)),
        );
        out.extend(
            cpu.mems()
                .as_ref()
                .filter(|v| !v.is_empty())
                .map(|v| set("cpuset", "cpuset.mems", v)),
        );
    }
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|v| *v != 0);
        if let Some(swap) = memory.swap().filter(|v| *v != 0) {
            out.push(set("memory", "memory.swap.max", swap_alone(limit, swap)?));
        }
        out.extend(limit.map(|v| set("memory", "memory.max", or_max(v))));
        out.extend(
            memory
                .reservation()
                .filter(|v| *v != 0)
                .map(|v| set("memory", "memory.low", or_max(v))),
        );
    }
    out.extend(
        resources
            .pids()
            .as_ref()
            .map(|p| set("pids", "pids.max", pids_limit(p.limit()))),
    );
    if let Some(io) = resources.block_io() {
        out.extend(io.weight().filter(|v| *v != 0).map(|v| {
            set(
                "io",
                "io.weight",
                1 + (u64::from(v.clamp(10, 1000)) - 10) * 9999 / 990,
            )
        }));
        for device in io.weight_device().iter().flatten() {
            out.extend(device.weight().map(|weight| {
                let value = format!("{}:{} {weight}", device.major(), device.minor());
                set("io", "io.bfq.weight", value)
            }));
        }
        for ((file, _), (_, list)) in [("rbps", 0), ("wbps", 1), ("riops", 2), ("wiops", 3)]
            .into_iter()
            .zip(throttles(io))
        {
            for (major, minor, rate) in list {
                out.push(set(
                    "io",
                    "io.max",
                    format!("{major}:{minor} {file}={rate}"),
                ));
            }
        }
    }
    for page in resources.hugepage_limits().iter().flatten() {
        out.push(set(
            "hugetlb",
            format!("hugetlb.{}.max", page.page_size()),
            page.limit(),
        ));
    }
    out.extend(rdma(resources));
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

/// The config's swap counts memory as well; v2's does not.
fn swap_alone(limit: Option<i64>, swap: i64) -> Result<String> {
    match limit {
        _ if swap < 0 => Ok("max".to_owned()),
        Some(limit) if limit > 0 && swap >= limit => Ok((swap - limit).to_string()),
        Some(limit) if limit > 0 => Err(Error::refused(format!(
            "memory+swap limit {swap} is below the memory limit {limit}"
        ))),
        _ => Err(Error::refused(format!(
            "memory+swap limit {swap} needs a memory limit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings
            .iter()
            .map(|s| format!("{} {}", s.file, s.value))
            .collect()
    }

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    const LIMITS: &str = r#"{
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
        "pids": {"limit": 0},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3}}
    }"#;

    #[test]
    fn limits_become_v1_files() {
        assert_eq!(
            lines(&v1(&resources(LIMITS))),
            [
                "cpu.shares 1024",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 50000",
                "cpuset.cpus 0-1",
                "memory.limit_in_bytes 67108864",
                "memory.memsw.limit_in_bytes 134217728",
                "memory.soft_limit_in_bytes 33554432",
                "pids.max 1",
                "blkio.throttle.read_bps_device 8:0 1000",
                "rdma.max mlx5_1 hca_handle=3 hca_object=max",
            ]
        );
    }

    #[test]
    fn limits_become_v2_files() {
        assert_eq!(
            lines(&v2(&resources(LIMITS)).unwrap()),
            [
                "cpu.weight 39",
                "cpu.max 50000 100000",
                "cpuset.cpus 0-1",
                "memory.swap.max 67108864",
                "memory.max 67108864",
                "memory.low 33554432",
                "pids.max 1",
                "io.max 8:0 rbps=1000",
                "rdma.max mlx5_1 hca_handle=3 hca_object=max",
            ]
        );
    }

    #[test]
    fn swap_below_memory_is_refused() {
        assert!(v2(&resources(r#"{"memory": {"limit": 100, "swap": 50}}"#)).is_err());
    }
}
