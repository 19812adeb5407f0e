//! `HostConfig` of the Engine API, from what a container was made with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::container::Around;
use crate::host_config::{HostConfig, MountRequest, Resources};
use crate::limits;
use crate::ports;
use crate::record::Record;
use crate::spec::{MASKED_PATHS, READONLY_PATHS, SHM_BYTES};

fn list_or_null(list: &[String]) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        json!(list)
    }
}

/// Binds that have a source.
fn named(binds: &[String]) -> Vec<String> {
    let binds = binds.iter().filter(|bind| bind.contains(':'));
    binds.cloned().collect()
}

/// The object.
pub(super) fn json(record: &Record, around: &Around<'_>) -> Value {
    let host = &record.host;
    let bare = host.privileged
        || host
            .security_opt
            .iter()
            .any(|option| option.ends_with("systempaths=unconfined"));
    let tmpfs: BTreeMap<&str, &str> = host
        .tmpfs
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .collect();
    let mut object = json!({
        // A path alone is a volume nobody named, and stands in `Config.Volumes`.
        "Binds": list_or_null(&named(&host.binds)),
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": if host.log_driver.is_empty() { "json-file" } else { &host.log_driver },
            "Config": host.log_opts,
        },
        "NetworkMode": around.network_mode,
        "PortBindings": ports::bindings_json(&host.publish),
        "RestartPolicy": { "Name": host.restart.name(), "MaximumRetryCount": host.restart.most() },
        "AutoRemove": record.config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list_or_null(&host.volumes_from),
        "ConsoleSize": [0, 0],
        "CapAdd": list_or_null(&host.cap_add),
        "CapDrop": list_or_null(&host.cap_drop),
        "CgroupnsMode": cgroupns(host, around),
        "Dns": host.dns,
        "DnsOptions": host.dns_options,
        "DnsSearch": host.dns_search,
        "ExtraHosts": list_or_null(&host.extra_hosts),
        "GroupAdd": list_or_null(&host.group_add),
        "IpcMode": if host.ipc.is_empty() { "private" } else { &host.ipc },
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": host.oom_score_adj.unwrap_or(0),
        "PidMode": host.pid,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only,
        "SecurityOpt": list_or_null(&host.security_opt),
        "UTSMode": host.uts,
        "UsernsMode": host.userns,
        "ShmSize": host.shm_bytes.unwrap_or(SHM_BYTES),
        "Runtime": record.config.runtime,
        "Isolation": "",
        "MaskedPaths": if bare { Value::Null } else { json!(MASKED_PATHS) },
        "ReadonlyPaths": if bare { Value::Null } else { json!(READONLY_PATHS) },
    });
    let optional = [
        ("Tmpfs", !tmpfs.is_empty(), json!(tmpfs)),
        ("Sysctls", !host.sysctls.is_empty(), json!(host.sysctls)),
        (
            "Annotations",
            !host.annotations.is_empty(),
            json!(host.annotations),
        ),
        ("Init", host.init, json!(true)),
        (
            "Mounts",
            !host.mounts.is_empty(),
            host.mounts.iter().map(mount).collect(),
        ),
    ];
    for (name, present, value) in optional {
        if present {
            object[name] = value;
        }
    }
    let resources = resources(host, around);
    if let (Value::Object(object), Value::Object(resources)) = (&mut object, resources) {
        object.extend(resources);
    }
    object
}

fn cgroupns<'a>(host: &'a HostConfig, around: &Around<'_>) -> &'a str {
    match host.cgroupns.as_str() {
        "" if around.cgroup2 && !host.privileged => "private",
        "" => "host",
        mode => mode,
    }
}

fn mount(request: &MountRequest) -> Value {
    let mut object = json!({ "Type": request.kind, "Target": request.target });
    if !request.source.is_empty() {
        object["Source"] = json!(request.source);
    }
    if request.read_only {
        object["ReadOnly"] = json!(true);
    }
    if !request.propagation.is_empty() {
        object["BindOptions"] = json!({ "Propagation": request.propagation });
    }
    if request.no_copy {
        object["VolumeOptions"] = json!({ "NoCopy": true });
    }
    object
}

/// `Resources` of the Engine API, which `HostConfig` includes.
fn resources(host: &HostConfig, around: &Around<'_>) -> Value {
    let asked = &host.resources;
    let zero = |value: Option<i64>| value.unwrap_or(0);
    let parent = if host.cgroup_parent.is_empty() {
        around.cgroup_parent
    } else {
        &host.cgroup_parent
    };
    json!({
        "CpuShares": zero(asked.cpu_shares),
        "Memory": zero(asked.memory),
        "NanoCpus": zero(asked.nano_cpus),
        "CgroupParent": parent,
        "BlkioWeight": asked.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": rates(&asked.read_bps),
        "BlkioDeviceWriteBps": rates(&asked.write_bps),
        "BlkioDeviceReadIOps": rates(&asked.read_iops),
        "BlkioDeviceWriteIOps": rates(&asked.write_iops),
        "CpuPeriod": zero(asked.cpu_period),
        "CpuQuota": zero(asked.cpu_quota),
        "CpuRealtimePeriod": zero(asked.rt_period),
        "CpuRealtimeRuntime": zero(asked.rt_runtime),
        "CpusetCpus": asked.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": asked.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices(&host.devices),
        "DeviceCgroupRules": list_or_null(&asked.device_rules),
        "DeviceRequests": null,
        "MemoryReservation": zero(asked.memory_reservation),
        "MemorySwap": limits::swap_limit(asked).unwrap_or(0),
        "MemorySwappiness": asked.memory_swappiness.filter(|value| *value >= 0),
        "OomKillDisable": asked.oom_kill_disable.unwrap_or(false),
        "PidsLimit": asked.pids.filter(|limit| *limit != 0),
        "Ulimits": ulimits(asked),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

fn rates(list: &[String]) -> Value {
    let split = list.iter().filter_map(|text| text.rsplit_once(':'));
    split
        .map(|(path, rate)| json!({ "Path": path, "Rate": rate.parse::<u64>().unwrap_or(0) }))
        .collect()
}

fn devices(list: &[String]) -> Value {
    let shown = list.iter().map(|text| {
        let mut parts = text.split(':');
        let host = parts.next().unwrap_or_default();
        json!({
            "PathOnHost": host,
            "PathInContainer": parts.next().unwrap_or(host),
            "CgroupPermissions": parts.next().unwrap_or("rwm"),
        })
    });
    shown.collect()
}

fn ulimits(asked: &Resources) -> Value {
    let parsed = asked
        .ulimits
        .iter()
        .filter_map(|text| limits::rlimit(text).ok());
    parsed
        .map(|(name, soft, hard)| {
            let signed = |limit: u64| i64::try_from(limit).unwrap_or(-1);
            json!({ "Name": name, "Hard": signed(hard), "Soft": signed(soft) })
        })
        .collect()
}
