//! `ContainerInspectResponse` of the Engine API.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{host_config, list_or_null, set_or_null};
use crate::host_config::HealthCheck;
use crate::networks::Attached;
use crate::record::Record;
use crate::rfc3339::{self, NEVER};
use crate::state::Phase;
use crate::volumes;

/// What an inspection shows beside the record.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// `<root>/containers/<id>`.
    pub files: &'a Path,
    /// The json-file log.
    pub log: &'a Path,
    /// Name of the parent cgroup.
    pub cgroup_parent: &'a str,
    /// Where the host's cgroups are v2, containers have their own namespace.
    pub cgroup2: bool,
    /// `HostConfig.NetworkMode`.
    pub network_mode: &'a str,
    /// `NetworkSettings`.
    pub network_settings: Value,
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
        "RestartCount": record.run.restarts,
        "Driver": "overlayfs",
        "Platform": record.image.platform_os,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::json(record, around),
        "GraphDriver": { "Data": null, "Name": "overlayfs" },
        "Mounts": volumes::inspect_mounts(&record.mounts),
        "Config": config(record),
        "NetworkSettings": around.network_settings,
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
    let run = &record.run;
    let mut object = json!({
        "Status": record.status_word(),
        // One that waits for its next start counts as running, as in Docker.
        "Running": record.phase == Phase::Running || run.restarting,
        "Paused": run.paused,
        "Restarting": run.restarting,
        "OOMKilled": run.oom_killed,
        "Dead": record.phase == Phase::Dead,
        "Pid": record.run.pid,
        "ExitCode": record.run.exit_code,
        "Error": record.run.error,
        "StartedAt": time(record.run.started_at),
        "FinishedAt": time(record.run.finished_at),
    });
    if let Some(health) = &run.health {
        object["Health"] = health.json();
    }
    object
}

fn config(record: &Record) -> Value {
    let config = &record.config;
    let mut object = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
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
        "Volumes": set_or_null(&declared(record)),
        "WorkingDir": config.workdir,
        "Entrypoint": list_or_null(config.entrypoint.as_ref()),
        "OnBuild": null,
        "Labels": config.labels,
    });
    if !config.exposed_ports.is_empty() {
        object["ExposedPorts"] = set_or_null(&config.exposed_ports);
    }
    if let Some(health) = &config.health {
        object["Healthcheck"] = healthcheck(health);
    }
    if let Some(signal) = &config.stop_signal {
        object["StopSignal"] = json!(signal);
    }
    if let Some(seconds) = config.stop_timeout_s {
        object["StopTimeout"] = json!(seconds);
    }
    object
}

/// Volumes of the image, and those that the user did not name.
fn declared(record: &Record) -> Vec<String> {
    let mut all = record.config.volumes.clone();
    let own = record.mounts.iter().filter(|mount| mount.anonymous);
    all.extend(own.map(|mount| mount.destination.clone()));
    all
}

fn healthcheck(check: &HealthCheck) -> Value {
    let mut object = json!({ "Test": check.test });
    let numbers = [
        ("Interval", check.interval_ns),
        ("Timeout", check.timeout_ns),
        ("StartPeriod", check.start_period_ns),
        ("StartInterval", check.start_interval_ns),
        ("Retries", i64::from(check.retries)),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        object[name] = json!(number);
    }
    object
}

/// `NetworkSettings` of the Engine API.
pub(super) fn network_settings(
    record: &Record,
    ports: Value,
    networks: Value,
    attached: &Attached,
) -> Value {
    let sandbox = if record.phase == Phase::Running {
        record.id.as_str()
    } else {
        ""
    };
    let key = match (record.run.pid, attached.netns.as_os_str().is_empty()) {
        (0, _) => String::new(),
        (pid, true) => format!("/proc/{pid}/ns/net"),
        (_, false) => attached.netns.display().to_string(),
    };
    // What Docker had before there were networks: of the default bridge.
    let of_bridge = |field: &str, none: Value| match &networks["bridge"][field] {
        Value::Null => none,
        known => known.clone(),
    };
    json!({
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": key,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": of_bridge("EndpointID", json!("")),
        "Gateway": of_bridge("Gateway", json!("")),
        "GlobalIPv6Address": of_bridge("GlobalIPv6Address", json!("")),
        "GlobalIPv6PrefixLen": of_bridge("GlobalIPv6PrefixLen", json!(0)),
        "IPAddress": of_bridge("IPAddress", json!("")),
        "IPPrefixLen": of_bridge("IPPrefixLen", json!(0)),
        "IPv6Gateway": of_bridge("IPv6Gateway", json!("")),
        "MacAddress": of_bridge("MacAddress", json!("")),
        // Only of what runs, as in Docker.
        "Ports": if record.phase == Phase::Running { ports } else { json!({}) },
        "Networks": networks,
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
                network_mode: "none",
                network_settings: json!({}),
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
