//! Limits of a config turned into control files: which file, which value, in which order.
//!
//! The tables are pure ([`v1::settings`], [`v2::settings`]); [`apply_limits`] writes them. A value of 0 means "not set", as
//! everywhere in runc.

mod v1;
mod v2;

use std::io;
use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use crate::group::{Cgroup, read, write};
use crate::{Error, Layout, Result, devices};

pub(crate) use v2::{DEFAULT_PERIOD, cpu_weight, swap_alone};

/// One control file and its value. On v1 the controller says in which directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    unless: Unless,
}

/// When a refusal is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unless {
    /// Never.
    Never,
    /// The kernel has no such file, and the value asks for nothing that it does not do anyway.
    Missing,
    /// The value is out of proportion to another of the same group (`EINVAL`) which may be about to change: it is written again
    /// after the others.
    Early,
}

fn set(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Setting {
    Setting {
        controller,
        file: file.into(),
        value: value.to_string(),
        unless: Unless::Never,
    }
}

impl Setting {
    fn unless(self, unless: Unless) -> Self {
        Self { unless, ..self }
    }
}

/// Limits and device rules.
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    devices::apply(cgroup, resources)?;
    apply_limits(cgroup, resources)
}

/// Limits alone.
pub(crate) fn apply_limits(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let settings = match cgroup.layout() {
        Layout::V1 { .. } => v1::settings(resources)?,
        Layout::V2 => {
            check_usage(cgroup, resources)?;
            let bfq = cgroup
                .unified_dir()
                .is_some_and(|dir| dir.join("io.bfq.weight").exists());
            v2::settings(resources, bfq)?
        }
    };
    let mut later = Vec::new();
    for setting in &settings {
        match write_one(cgroup, setting, resources) {
            Err(e) if setting.unless == Unless::Early && e.errno() == Some(22) => {
                later.push(setting);
            }
            other => other?,
        }
    }
    for setting in later {
        write_one(cgroup, setting, resources)?;
    }
    Ok(())
}

fn write_one(cgroup: &Cgroup, setting: &Setting, resources: &LinuxResources) -> Result<()> {
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
        return write_memory_v1(cgroup, &file, &setting.value, resources);
    }
    // A file with a line for each device takes one line a write.
    for line in setting.value.lines() {
        match write(&file, line) {
            Err(e)
                if setting.unless == Unless::Missing
                    && e.kind() == Some(io::ErrorKind::NotFound) => {}
            Err(e)
                if cgroup.layout() == Layout::V2
                    && (e.is_permission() || e.kind() == Some(io::ErrorKind::NotFound)) =>
            {
                return Err(explain(dir, setting, e));
            }
            other => other?,
        }
    }
    Ok(())
}

/// Why a v2 file is not there: its controller is not handed down to this group, or the kernel knows none of that name.
fn explain(dir: &Path, setting: &Setting, error: Error) -> Error {
    let file = &setting.file;
    let Some((controller, _)) = file.split_once('.') else {
        return Error::refused(format!(
            "unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
        ));
    };
    let available = read(&dir.join("cgroup.controllers")).unwrap_or_default();
    if controller == "cgroup" || available.split_whitespace().any(|c| c == controller) {
        return error;
    }
    let what = if setting.controller == "unified" {
        "unified resource "
    } else {
        ""
    };
    Error::refused(format!(
        "{what}{file:?} can't be set: controller {controller:?} not available"
    ))
}

/// With `checkBeforeUpdate`, a memory limit below what is used now is refused, as it would make the kernel kill.
pub(crate) fn check_usage(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources
        .memory()
        .as_ref()
        .filter(|m| m.check_before_update() == Some(true))
    else {
        return Ok(());
    };
    let (Layout::V2, Some(dir)) = (cgroup.layout(), cgroup.unified_dir()) else {
        return Ok(());
    };
    let used = |file: &str| -> i64 {
        read(&dir.join(file))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    let limit = memory.limit().unwrap_or(0);
    let usage = used("memory.current");
    if limit > 0 && limit < usage {
        return Err(Error::refused(format!(
            "rejecting memory limit {limit}: it is below the usage {usage}"
        )));
    }
    let both = memory.swap().unwrap_or(0);
    let usage = usage + used("memory.swap.current");
    if both > 0 && both < usage {
        return Err(Error::refused(format!(
            "rejecting memory+swap limit {both}: it is below the usage {usage}"
        )));
    }
    Ok(())
}

/// The kernel keeps limit ≤ limit of memory and swap at every moment, so growing past the old one needs the other order.
fn write_memory_v1(
    cgroup: &Cgroup,
    file: &Path,
    value: &str,
    resources: &LinuxResources,
) -> Result<()> {
    let both = cgroup
        .dir("memory")
        .map(|dir| dir.join("memory.memsw.limit_in_bytes"));
    let swap = resources.memory().as_ref().and_then(|m| m.swap());
    if let ("-1", None | Some(0), Some(both)) = (value, swap, both.as_ref()) {
        // Unlimited memory without a word about swap means both; a kernel that does not count swap has no such file.
        match write(both, "-1") {
            Err(e) if e.kind() == Some(io::ErrorKind::NotFound) => {}
            other => other?,
        }
    }
    match write(file, value) {
        Err(e) if e.errno() == Some(22) => {
            let (Some(swap), Some(both)) = (swap.filter(|s| *s != 0), both) else {
                return Err(e);
            };
            write(&both, &swap.to_string())?;
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

/// Limits on RDMA adapters, the same file on v1 and v2.
fn rdma(resources: &LinuxResources) -> impl Iterator<Item = Setting> + '_ {
    resources.rdma().iter().flatten().map(|(device, limits)| {
        let or_max = |n: Option<u32>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let (handles, objects) = (or_max(limits.hca_handles()), or_max(limits.hca_objects()));
        let value = format!("{device} hca_handle={handles} hca_object={objects}");
        set("rdma", "rdma.max", value)
    })
}

/// Limits on huge pages, those in use and those reserved; a kernel without the second kind keeps to the first.
fn huge_pages<'a>(
    resources: &'a LinuxResources,
    file: &'a str,
) -> impl Iterator<Item = Setting> + 'a {
    resources
        .hugepage_limits()
        .iter()
        .flatten()
        .flat_map(move |page| {
            let of = |kind: &str| {
                let name = format!("hugetlb.{}{kind}.{file}", page.page_size());
                set("hugetlb", name, page.limit())
            };
            [of(""), of(".rsvd").unless(Unless::Missing)]
        })
}

type Throttles = [(&'static str, Vec<(i64, i64, u64)>); 4];

/// Rates by device: v2's key, and major, minor and rate.
fn throttles(io: &LinuxBlockIo) -> Throttles {
    let list = |v: &Option<Vec<LinuxThrottleDevice>>| {
        v.iter()
            .flatten()
            .map(|d| (d.major(), d.minor(), d.rate()))
            .collect()
    };
    [
        ("rbps", list(io.throttle_read_bps_device())),
        ("wbps", list(io.throttle_write_bps_device())),
        ("riops", list(io.throttle_read_iops_device())),
        ("wiops", list(io.throttle_write_iops_device())),
    ]
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
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0-1"},
        "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
        "pids": {"limit": 0},
        "blockIO": {"weight": 750, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
        "rdma": {"mlx5_1": {"hcaHandles": 3}}
    }"#;

    #[test]
    fn limits_become_v1_files() {
        let without_weight = LIMITS.replace(r#""weight": 750, "#, "");
        assert_eq!(
            lines(&v1::settings(&resources(&without_weight)).unwrap()),
            [
                "cpu.shares 1024",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_burst_us 1000",
                "cpu.cfs_quota_us 50000",
                "cpuset.cpus 0-1",
                "memory.limit_in_bytes 67108864",
                "memory.memsw.limit_in_bytes 134217728",
                "memory.soft_limit_in_bytes 33554432",
                "pids.max 1",
                "blkio.throttle.read_bps_device 8:0 1000",
                "hugetlb.2MB.limit_in_bytes 2097152",
                "hugetlb.2MB.rsvd.limit_in_bytes 2097152",
                "rdma.max mlx5_1 hca_handle=3 hca_object=max",
            ]
        );
    }

    #[test]
    fn limits_become_v2_files() {
        assert_eq!(
            lines(&v2::settings(&resources(LIMITS), false).unwrap()),
            [
                "cpu.weight 100",
                "cpu.max.burst 1000",
                "cpu.max 50000 100000",
                "cpuset.cpus 0-1",
                "memory.swap.max 67108864",
                "memory.max 67108864",
                "memory.low 33554432",
                "pids.max 1",
                "io.weight 7475",
                "io.max 8:0 rbps=1000",
                "hugetlb.2MB.max 2097152",
                "hugetlb.2MB.rsvd.max 2097152",
                "rdma.max mlx5_1 hca_handle=3 hca_object=max",
            ]
        );
    }

    #[test]
    fn unified_files_come_last_and_belong_to_v2() {
        let both = resources(
            r#"{"pids": {"limit": 9}, "unified": {"pids.max": "7", "memory.high": "1\n"}}"#,
        );
        assert_eq!(
            lines(&v2::settings(&both, false).unwrap()),
            ["pids.max 9", "memory.high 1\n", "pids.max 7"]
        );
        assert!(v1::settings(&both).is_err());
        let path = resources(r#"{"unified": {"../pids.max": "7"}}"#);
        assert!(v2::settings(&path, false).is_err());
    }
}
