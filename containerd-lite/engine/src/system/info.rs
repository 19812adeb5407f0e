//! What daemon and host are, in the shape of Docker's `/info`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lite_core::Result;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::state::Phase;
use crate::{images, list, rfc3339};

/// The daemon's own version is told by whoever puts it together.
///
/// # Errors
/// Those of storage.
pub async fn info(engine: &Engine, version: &str) -> Result<Value> {
    let (engine, version) = (engine.clone(), version.to_owned());
    lite_core::blocking(move || {
        let ids: BTreeSet<String> = images::catalog(&engine)?
            .iter()
            .map(|found| found.id().to_owned())
            .collect();
        Ok(describe(&engine, &version, ids.len()))
    })
    .await
}

fn describe(engine: &Engine, version: &str, images: usize) -> Value {
    let records = list::all(engine);
    let count = |wanted: fn(&crate::record::Record) -> bool| {
        records.iter().filter(|record| wanted(record)).count()
    };
    let config = engine.config();
    let mut info = json!({
        "ID": machine_id(),
        "Containers": records.len(),
        "ContainersRunning": count(|record| record.phase == Phase::Running && !record.run.paused),
        "ContainersPaused": count(|record| record.phase == Phase::Running && record.run.paused),
        "ContainersStopped": count(|record| record.phase != Phase::Running),
        "Images": images,
        "Driver": "overlayfs",
        "DriverStatus": [["Backing Filesystem", file_system(&config.root)]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "Debug": false,
        "NFd": fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "SystemTime": rfc3339::format(std::time::SystemTime::now()),
        "LoggingDriver": "json-file",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "DockerRootDir": config.root.display().to_string(),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": version,
        "Runtimes": { config.default_runtime.as_str(): { "path": "runc-rs" } },
        "DefaultRuntime": config.default_runtime,
        "Swarm": { "NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": false },
        // Containers go on without the daemon, always.
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "containerd-lite",
    });
    if let (Some(info), Value::Object(host)) = (info.as_object_mut(), host(engine)) {
        info.extend(host);
    }
    info
}

/// What the host is and can.
fn host(engine: &Engine) -> Value {
    let host = engine.host();
    let uname = nix::sys::utsname::uname().ok();
    let of_uname = |text: Option<&std::ffi::OsStr>| {
        text.map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let release = os_release();
    let of_release = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let swap = host.capacity.swap;
    let forwarding = fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    json!({
        "MemoryLimit": true,
        "SwapLimit": swap,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": !host.cgroup2,
        "IPv4Forwarding": forwarding.is_ok_and(|on| on.trim() == "1"),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if host.cgroup2 { "2" } else { "1" },
        "KernelVersion": of_uname(uname.as_ref().map(|uname| uname.release())),
        "OperatingSystem": of_release("PRETTY_NAME="),
        "OSVersion": of_release("VERSION_ID="),
        "OSType": "linux",
        "Architecture": of_uname(uname.as_ref().map(|uname| uname.machine())),
        "NCPU": host.capacity.cpus,
        "MemTotal": memory(),
        "Name": of_uname(uname.as_ref().map(|uname| uname.nodename())),
        "SecurityOptions": security(host.cgroup2),
        "Warnings": if swap { json!([]) } else { json!(["WARNING: No swap limit support"]) },
    })
}

fn security(cgroup2: bool) -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if lsm("apparmor") {
        options.insert(0, "name=apparmor");
    }
    if lsm("selinux") {
        options.push("name=selinux");
    }
    if cgroup2 {
        options.push("name=cgroupns");
    }
    options
}

/// Whether the kernel has this security module active.
pub(super) fn lsm(name: &str) -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|all| all.trim().split(',').any(|active| active == name))
}

fn os_release() -> String {
    let read = fs::read_to_string("/etc/os-release");
    read.or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default()
}

fn machine_id() -> String {
    let read = fs::read_to_string("/etc/machine-id");
    read.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Bytes of memory of the machine.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The kind of file system that holds `path`, by the longest mount point above it.
fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, String::new());
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(_), Some(at), Some(kind)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if path.starts_with(at) && at.len() >= best.0 {
            best = (at.len(), kind.to_owned());
        }
    }
    best.1
}
