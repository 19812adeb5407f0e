//! `ContainerInspectResponse` of the Engine API.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{list_or_null, set_or_null};
use crate::record::Record;
use crate::rfc3339::{self, NEVER};
use crate::spec::{MASKED_PATHS, READONLY_PATHS, SHM_BYTES};
use crate::state::Phase;

/// What an inspection shows beside the record.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// `<root>/containers/<id>`.
    pub files: &'a Path,
    /// The json-file log.
    pub log: &'a Path,
    /// Name of the parent cgroup.
    pub cgroup_parent: &'a str,
    /// Where the host's cgroups are v2, containers have their own namespace.
    pub cgroup2: bool,
}

/// The object, as `docker inspect` prints it inside its list.
#[must_use]
pub fn json(record: &Record, around: &Around<'_>) -> Value {
    let argv = record.config.argv();
    let ran = record.run.started_at.is_some();
    let file = |name: &str| {
        if ran {
            json!(around.files.join(name))
        } else {
            json!("")
        }
    };
    let mut object = json!({
        "Id": record.id,
        "Created": time(record.created_at),
        "Path": argv.first().cloned().unwrap_or_default(),
        "Args": argv.get(1..).unwrap_or_default(),
        "State": state(record),
        "Image": record.image.id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": around.log,
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Driver": "overlayfs",
        "Platform": record.image.platform_os,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(record, around),
        "GraphDriver": { "Data": null, "Name": "overlayfs" },
        "Mounts": [],
        "Config": config(record),
        "NetworkSettings": network_settings(record),
    });
    if let Some(manifest) = &record.image.manifest {
        object["ImageManifestDescriptor"] = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
        });
    }
    object
}

fn time(time: Option<SystemTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), rfc3339::format)
}

fn state(record: &Record) -> Value {
    json!({
        "Status": record.phase.word(),
        "Running": record.phase == Phase::Running,
        "Paused": false,
        "Restarting": false,
        "OOMKilled": false,
        "Dead": record.phase == Phase::Dead,
        "Pid": record.run.pid,
        "ExitCode": record.run.exit_code,
        "Error": record.run.error,
        "StartedAt": time(record.run.started_at),
        "FinishedAt": time(record.run.finished_at),
    })
}

fn config(record: &Record) -> Value {
    let config = &record.config;
    let mut object = json!({
        "Hostname": config.hostname,
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": list_or_null(config.cmd.as_ref()),
        "Image": record.image.typed,
        "Volumes": set_or_null(&config.volumes),
        "WorkingDir": config.workdir,
        "Entrypoint": list_or_null(config.entrypoint.as_ref()),
        "OnBuild": null,
        "Labels": config.labels,
    });
    if !config.exposed_ports.is_empty() {
        object["ExposedPorts"] = set_or_null(&config.exposed_ports);
    }
    if let Some(signal) = &config.stop_signal {
        object["StopSignal"] = json!(signal);
    }
    if let Some(seconds) = config.stop_timeout_s {
        object["StopTimeout"] = json!(seconds);
    }
    object
}

fn host_config(record: &Record, around: &Around<'_>) -> Value {
    let mut object = json!({
        "Binds": null,
        "ContainerIDFile": "",
        "LogConfig": { "Type": "json-file", "Config": {} },
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": record.config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": null,
        "CapDrop": null,
        "CgroupnsMode": if around.cgroup2 { "private" } else { "host" },
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": null,
        "GroupAdd": null,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": false,
        "PublishAllPorts": false,
        "ReadonlyRootfs": false,
        "SecurityOpt": null,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": SHM_BYTES,
        "Runtime": record.config.runtime,
        "Isolation": "",
        "MaskedPaths": MASKED_PATHS,
        "ReadonlyPaths": READONLY_PATHS,
    });
    let resources = resources(around);
    if let (Value::Object(object), Value::Object(resources)) = (&mut object, resources) {
        object.extend(resources);
    }
    object
}

/// `Resources` of the Engine API, which `HostConfig` includes: no limits.
fn resources(around: &Around<'_>) -> Value {
    json!({
        "CpuShares": 0,
        "Memory": 0,
        "NanoCpus": 0,
        "CgroupParent": around.cgroup_parent,
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": null,
        "OomKillDisable": false,
        "PidsLimit": null,
        "Ulimits": [],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

fn network_settings(record: &Record) -> Value {
    let sandbox = if record.phase == Phase::Running {
        record.id.as_str()
    } else {
        ""
    };
    let key = if record.run.pid == 0 {
        String::new()
    } else {
        format!("/proc/{}/ns/net", record.run.pid)
    };
    json!({
        "SandboxID": sandbox,
        "SandboxKey": key,
        "Ports": {},
        "Networks": {
            "none": {
                "IPAMConfig": null,
                "Links": null,
                "Aliases": null,
                "MacAddress": "",
                "DriverOpts": null,
                "GwPriority": 0,
                "NetworkID": "",
                "EndpointID": "",
                "Gateway": "",
                "IPAddress": "",
                "IPPrefixLen": 0,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
                "DNSNames": null,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn inspected(record: &Record) -> Value {
        let files = Path::new("/var/lib/containerd-lite/containers/0123");
        json(
            record,
            &Around {
                files,
                log: &files.join("0123-json.log"),
                cgroup_parent: "containerd-lite",
                cgroup2: false,
            },
        )
    }

    #[test]
    fn a_container_that_ended() {
        let mut record = sample();
        record.phase = Phase::Exited;
        record.run.exit_code = 3;
        record.run.started_at = record.created_at;
        record.run.finished_at = record.created_at;
        insta::assert_snapshot!(serde_json::to_string_pretty(&inspected(&record)).unwrap());
    }

    #[test]
    fn what_never_ran_says_never() {
        let object = inspected(&sample());
        assert_eq!(object["State"]["Status"], "created");
        assert_eq!(object["State"]["StartedAt"], NEVER);
        assert_eq!(object["Path"], "sh");
        assert_eq!(object["Args"], json!(["-c", "echo hi"]));
        assert_eq!(object["Name"], "/brave_curie");
    }
}
