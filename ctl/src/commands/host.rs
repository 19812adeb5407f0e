//! What a container has of the host, as the daemon is asked for it.
//!
//! The client does what only it can: paths relative to where they were typed
//! become absolute, files that are named are read.

use std::path::Path;

use proto::engine::v1::{Attachment, HealthCheck, HostConfig, Resources};

use crate::cli::host::{HostFlags, LimitFlags};
use crate::failure::{Failure, reason};

/// The limits that were typed.
pub(super) fn limits(flags: &LimitFlags) -> Resources {
    Resources {
        memory_bytes: flags.memory.map(|bytes| bytes.0),
        memory_reservation_bytes: flags.memory_reservation.map(|bytes| bytes.0),
        memory_swap_bytes: flags.memory_swap.map(|bytes| bytes.0),
        nano_cpus: flags.cpus.map(|cpus| cpus.0),
        cpu_shares: flags.cpu_shares,
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpu_rt_period: flags.cpu_rt_period,
        cpu_rt_runtime: flags.cpu_rt_runtime,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        pids_limit: flags.pids_limit,
        blkio_weight: flags.blkio_weight.map(u32::from),
        ..Resources::default()
    }
}

/// Everything that was typed.
pub(super) fn host_config(flags: &HostFlags) -> Result<HostConfig, Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let resources = Resources {
        memory_swappiness: flags.memory_swappiness,
        oom_kill_disable: flags.oom_kill_disable.then_some(true),
        ulimits: flags.ulimit.clone(),
        device_read_bps: flags
            .device_read_bps
            .iter()
            .map(|rate| in_bytes(rate))
            .collect(),
        device_write_bps: flags
            .device_write_bps
            .iter()
            .map(|rate| in_bytes(rate))
            .collect(),
        device_read_iops: flags.device_read_iops.clone(),
        device_write_iops: flags.device_write_iops.clone(),
        device_cgroup_rules: flags.device_cgroup_rule.clone(),
        ..limits(&flags.limits)
    };
    Ok(HostConfig {
        binds: flags
            .volume
            .iter()
            .map(|bind| absolute_bind(bind))
            .collect::<Result<_, _>>()?,
        mounts: mounts(flags)?,
        tmpfs: flags.tmpfs.clone(),
        volumes_from: flags.volumes_from.clone(),
        resources: Some(resources),
        restart: text(&flags.limits.restart),
        cap_add: flags.cap_add.clone(),
        cap_drop: flags.cap_drop.clone(),
        privileged: flags.privileged,
        security_opt: security_opts(&flags.security_opt)?,
        read_only: flags.read_only,
        init: flags.init,
        devices: flags.device.clone(),
        sysctls: flags.sysctl.iter().cloned().collect(),
        shm_bytes: flags.shm_size.map(|bytes| bytes.0),
        pid: text(&flags.pid),
        ipc: text(&flags.ipc),
        uts: text(&flags.uts),
        cgroupns: text(&flags.cgroupns),
        cgroup_parent: text(&flags.cgroup_parent),
        group_add: flags.group_add.clone(),
        oom_score_adj: flags.oom_score_adj,
        annotations: flags.annotation.iter().cloned().collect(),
        log_driver: text(&flags.log_driver),
        log_opts: flags.log_opt.iter().cloned().collect(),
        networks: networks(flags),
        publish: flags.publish.clone(),
        publish_all: flags.publish_all,
        dns: flags.dns.clone(),
        dns_search: flags.dns_search.clone(),
        dns_options: flags.dns_option.clone(),
        extra_hosts: flags.add_host.clone(),
        userns: text(&flags.userns),
    })
}

/// The first network takes what was typed without naming one.
fn networks(flags: &HostFlags) -> Vec<Attachment> {
    let mut networks: Vec<Attachment> = flags
        .network
        .iter()
        .map(|network| network.0.clone())
        .collect();
    let typed = !flags.network_alias.is_empty()
        || flags.ip.is_some()
        || flags.ip6.is_some()
        || flags.mac_address.is_some();
    if networks.is_empty() && typed {
        networks.push(Attachment::default());
    }
    if let Some(first) = networks.first_mut() {
        first.aliases.extend(flags.network_alias.iter().cloned());
        let over = |field: &mut String, typed: &Option<String>| {
            if let Some(typed) = typed {
                field.clone_from(typed);
            }
        };
        over(&mut first.ip, &flags.ip);
        over(&mut first.ip6, &flags.ip6);
        over(&mut first.mac, &flags.mac_address);
    }
    networks
}

fn mounts(flags: &HostFlags) -> Result<Vec<proto::engine::v1::MountRequest>, Failure> {
    let mut mounts = Vec::new();
    for mount in &flags.mount {
        let mut mount = mount.0.clone();
        if mount.r#type == "bind" && mount.source.starts_with('.') {
            mount.source = absolute(&mount.source)?;
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// `./a:/b` with its source made absolute; a name stays what it is.
fn absolute_bind(typed: &str) -> Result<String, Failure> {
    match typed.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            Ok(format!("{}:{rest}", absolute(source)?))
        }
        _ => Ok(typed.to_owned()),
    }
}

fn absolute(path: &str) -> Result<String, Failure> {
    let absolute = std::path::absolute(Path::new(path))
        .map_err(|err| Failure::io(format!("make {path} absolute"), &err))?;
    Ok(absolute.display().to_string())
}

/// `/dev/sda:1mb` with the rate in bytes; what is no size is the daemon's to
/// refuse.
fn in_bytes(typed: &str) -> String {
    match typed.rsplit_once(':') {
        Some((device, rate)) => match rate.parse::<crate::parse::size::Bytes>() {
            Ok(bytes) => format!("{device}:{}", bytes.0),
            Err(_) => typed.to_owned(),
        },
        None => typed.to_owned(),
    }
}

/// A seccomp profile is a file on the client's side; the daemon gets its text.
fn security_opts(typed: &[String]) -> Result<Vec<String>, Failure> {
    let mut opts = Vec::new();
    for opt in typed {
        let path = opt
            .strip_prefix("seccomp=")
            .or_else(|| opt.strip_prefix("seccomp:"));
        match path.filter(|path| !matches!(*path, "unconfined" | "builtin")) {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|err| {
                    Failure::Typed(format!(
                        "opening seccomp profile ({path}) failed: {}",
                        reason(&err)
                    ))
                })?;
                opts.push(format!("seccomp={text}"));
            }
            None => opts.push(opt.clone()),
        }
    }
    Ok(opts)
}

/// The health check that was typed, where there is one.
pub(super) fn health(flags: &HostFlags) -> Result<Option<HealthCheck>, Failure> {
    let typed = flags.health_cmd.is_some()
        || flags.health_interval.is_some()
        || flags.health_timeout.is_some()
        || flags.health_start_period.is_some()
        || flags.health_start_interval.is_some()
        || flags.health_retries.is_some();
    if flags.no_healthcheck {
        if typed {
            return Err(Failure::Typed(
                "--no-healthcheck conflicts with --health-* options".to_owned(),
            ));
        }
        return Ok(Some(HealthCheck {
            test: vec!["NONE".to_owned()],
            ..HealthCheck::default()
        }));
    }
    let nanos = |duration: Option<crate::parse::size::GoDuration>| duration.map_or(0, |d| d.0);
    Ok(typed.then(|| HealthCheck {
        test: flags
            .health_cmd
            .iter()
            .flat_map(|line| ["CMD-SHELL".to_owned(), line.clone()])
            .collect(),
        interval_ns: nanos(flags.health_interval),
        timeout_ns: nanos(flags.health_timeout),
        start_period_ns: nanos(flags.health_start_period),
        start_interval_ns: nanos(flags.health_start_interval),
        retries: flags.health_retries.unwrap_or(0),
    }))
}

/// Labels of files, over which those of flags go.
pub(super) fn labels(
    flags: &HostFlags,
    typed: &[(String, String)],
) -> Result<std::collections::HashMap<String, String>, Failure> {
    let mut labels = std::collections::HashMap::new();
    for file in &flags.label_file {
        let text = std::fs::read_to_string(file)
            .map_err(|err| Failure::Typed(format!("open {}: {}", file.display(), reason(&err))))?;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels.extend(typed.iter().cloned());
    Ok(labels)
}
