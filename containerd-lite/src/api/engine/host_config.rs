//! What a container has of the host, from wire types to the engine's.

use engine::host_config::{
    Attachment, HealthCheck, HostConfig, MountRequest, Resources, RestartPolicy,
};
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;

pub(super) fn host_config(host: wire::HostConfig) -> Result<HostConfig> {
    Ok(HostConfig {
        binds: host.binds,
        mounts: host.mounts.into_iter().map(mount).collect::<Result<_>>()?,
        tmpfs: host.tmpfs,
        volumes_from: host.volumes_from,
        resources: resources(host.resources.unwrap_or_default())?,
        restart: restart(&host.restart)?,
        cap_add: host.cap_add,
        cap_drop: host.cap_drop,
        privileged: host.privileged,
        security_opt: host.security_opt,
        read_only: host.read_only,
        init: host.init,
        devices: host.devices,
        sysctls: host.sysctls.into_iter().collect(),
        shm_bytes: host.shm_bytes.map(positive).transpose()?,
        pid: host.pid,
        ipc: host.ipc,
        uts: host.uts,
        cgroupns: host.cgroupns,
        cgroup_parent: host.cgroup_parent,
        group_add: host.group_add,
        oom_score_adj: host.oom_score_adj,
        annotations: host.annotations.into_iter().collect(),
        log_driver: host.log_driver,
        log_opts: host.log_opts.into_iter().collect(),
        networks: host.networks.into_iter().map(attachment).collect(),
        publish: host.publish,
        publish_all: host.publish_all,
        dns: host.dns,
        dns_search: host.dns_search,
        dns_options: host.dns_options,
        extra_hosts: host.extra_hosts,
        userns: host.userns,
    })
}

pub(super) fn positive(bytes: i64) -> Result<u64> {
    u64::try_from(bytes).map_err(|_| {
        Kind::InvalidArgument.error(format!("size {bytes}: expected a number of bytes"))
    })
}

pub(super) fn restart(typed: &str) -> Result<RestartPolicy> {
    typed
        .parse()
        .map_err(|err| Kind::InvalidArgument.error(format!("{err}")))
}

fn mount(mount: wire::MountRequest) -> Result<MountRequest> {
    Ok(MountRequest {
        kind: mount.r#type,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        propagation: mount.propagation,
        non_recursive: mount.non_recursive,
        no_copy: mount.no_copy,
        labels: mount.labels.into_iter().collect(),
        driver: mount.driver,
        subpath: mount.subpath,
        tmpfs_bytes: mount.tmpfs_bytes.map(positive).transpose()?,
        tmpfs_mode: mount.tmpfs_mode,
        create_source: mount.create_source,
    })
}

pub(super) fn attachment(attachment: wire::Attachment) -> Attachment {
    Attachment {
        network: attachment.network,
        aliases: attachment.aliases,
        ip: attachment.ip,
        ip6: attachment.ip6,
        mac: attachment.mac,
    }
}

pub(super) fn resources(limits: wire::Resources) -> Result<Resources> {
    let weight = limits.blkio_weight.map(|weight| {
        u16::try_from(weight)
            .map_err(|_| Kind::InvalidArgument.error("Range of blkio weight is from 10 to 1000"))
    });
    Ok(Resources {
        memory: limits.memory_bytes,
        memory_reservation: limits.memory_reservation_bytes,
        memory_swap: limits.memory_swap_bytes,
        memory_swappiness: limits.memory_swappiness,
        oom_kill_disable: limits.oom_kill_disable,
        nano_cpus: limits.nano_cpus,
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        pids: limits.pids_limit,
        ulimits: limits.ulimits,
        blkio_weight: weight.transpose()?,
        read_bps: limits.device_read_bps,
        write_bps: limits.device_write_bps,
        read_iops: limits.device_read_iops,
        write_iops: limits.device_write_iops,
        device_rules: limits.device_cgroup_rules,
        rt_period: limits.cpu_rt_period,
        rt_runtime: limits.cpu_rt_runtime,
    })
}

pub(super) fn health(check: wire::HealthCheck) -> HealthCheck {
    HealthCheck {
        test: check.test,
        interval_ns: check.interval_ns,
        timeout_ns: check.timeout_ns,
        start_period_ns: check.start_period_ns,
        start_interval_ns: check.start_interval_ns,
        retries: check.retries,
    }
}
