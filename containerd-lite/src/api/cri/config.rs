//! What a kubelet says of pods and containers, from the wire and back.

use cri::config::{
    Capabilities, ContainerConfig, Device, Dns, IdMapping, Mode, Mount, NamespaceOptions,
    PodConfig, PodMetadata, PortMapping, Profile, Propagation, Resources, Security, Selinux,
};
use proto::runtime::v1 as wire;
use tonic::Status;

fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

/// A pod.
pub(super) fn pod(config: wire::PodSandboxConfig) -> Result<PodConfig, Status> {
    let linux = config.linux.unwrap_or_default();
    let ports = config.port_mappings.into_iter().map(port);
    Ok(PodConfig {
        metadata: metadata(config.metadata.unwrap_or_default()),
        hostname: config.hostname,
        log_directory: config.log_directory,
        dns: config.dns_config.map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        ports: ports.collect::<Result<_, _>>()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
        security: of_pod(linux.security_context.unwrap_or_default()),
        sysctls: linux.sysctls.into_iter().collect(),
        resources: linux.resources.map(resources),
        overhead: linux.overhead.map(resources),
    })
}

fn metadata(metadata: wire::PodSandboxMetadata) -> PodMetadata {
    PodMetadata {
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
    }
}

fn port(port: wire::PortMapping) -> Result<PortMapping, Status> {
    let number = |number: i32| {
        u16::try_from(number).map_err(|_| invalid(format!("port {number}: expected 0 to 65535")))
    };
    Ok(PortMapping {
        protocol: match port.protocol() {
            wire::Protocol::Tcp => "tcp",
            wire::Protocol::Udp => "udp",
            wire::Protocol::Sctp => "sctp",
        }
        .to_owned(),
        container_port: number(port.container_port)?,
        host_port: number(port.host_port)?,
        host_ip: port.host_ip,
    })
}

fn of_pod(context: wire::LinuxSandboxSecurityContext) -> Security {
    Security {
        strict_groups: context.supplemental_groups_policy()
            == wire::SupplementalGroupsPolicy::Strict,
        privileged: context.privileged,
        namespaces: context
            .namespace_options
            .map(namespaces)
            .unwrap_or_default(),
        selinux: context.selinux_options.map(selinux),
        user: context.run_as_user.map(|user| user.value),
        group: context.run_as_group.map(|group| group.value),
        groups: context.supplemental_groups,
        readonly_rootfs: context.readonly_rootfs,
        seccomp: context.seccomp.map(profile),
        apparmor: context.apparmor.map(profile),
        ..Security::default()
    }
}

#[expect(
    deprecated,
    reason = "kubelets that still say it by the old field are understood"
)]
fn of_container(context: wire::LinuxContainerSecurityContext) -> Security {
    let old_apparmor = match context.apparmor_profile.as_str() {
        "" => None,
        "runtime/default" => Some(Profile::RuntimeDefault),
        "unconfined" => Some(Profile::Unconfined),
        other => Some(Profile::Localhost(
            other.strip_prefix("localhost/").unwrap_or(other).to_owned(),
        )),
    };
    Security {
        strict_groups: context.supplemental_groups_policy()
            == wire::SupplementalGroupsPolicy::Strict,
        privileged: context.privileged,
        namespaces: context
            .namespace_options
            .map(namespaces)
            .unwrap_or_default(),
        selinux: context.selinux_options.map(selinux),
        user: context.run_as_user.map(|user| user.value),
        username: context.run_as_username,
        group: context.run_as_group.map(|group| group.value),
        groups: context.supplemental_groups,
        capabilities: context
            .capabilities
            .map(|caps| Capabilities {
                add: caps.add_capabilities,
                drop: caps.drop_capabilities,
                ambient: caps.add_ambient_capabilities,
            })
            .unwrap_or_default(),
        readonly_rootfs: context.readonly_rootfs,
        no_new_privs: context.no_new_privs,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        seccomp: context.seccomp.map(profile),
        apparmor: context.apparmor.map(profile).or(old_apparmor),
    }
}

fn profile(profile: wire::SecurityProfile) -> Profile {
    use wire::security_profile::ProfileType;
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Profile::RuntimeDefault,
        ProfileType::Unconfined => Profile::Unconfined,
        ProfileType::Localhost => Profile::Localhost(profile.localhost_ref),
    }
}

fn selinux(label: wire::SeLinuxOption) -> Selinux {
    Selinux {
        user: label.user,
        role: label.role,
        kind: label.r#type,
        level: label.level,
    }
}

fn namespaces(options: wire::NamespaceOption) -> NamespaceOptions {
    let (network, pid, ipc) = (options.network(), options.pid(), options.ipc());
    let users = options
        .userns_options
        .filter(|users| users.mode() == wire::NamespaceMode::Pod);
    let users = users.unwrap_or_default();
    NamespaceOptions {
        network: mode(network),
        pid: mode(pid),
        ipc: mode(ipc),
        target: options.target_id,
        uids: users.uids.into_iter().map(mapping).collect(),
        gids: users.gids.into_iter().map(mapping).collect(),
    }
}

fn mode(mode: wire::NamespaceMode) -> Mode {
    match mode {
        wire::NamespaceMode::Pod => Mode::Pod,
        wire::NamespaceMode::Container => Mode::Container,
        wire::NamespaceMode::Node => Mode::Node,
        wire::NamespaceMode::Target => Mode::Target,
    }
}

fn to_mode(mode: Mode) -> i32 {
    match mode {
        Mode::Pod => wire::NamespaceMode::Pod,
        Mode::Container => wire::NamespaceMode::Container,
        Mode::Node => wire::NamespaceMode::Node,
        Mode::Target => wire::NamespaceMode::Target,
    }
    .into()
}

fn mapping(ids: wire::IdMapping) -> IdMapping {
    IdMapping {
        host: ids.host_id,
        container: ids.container_id,
        length: ids.length,
    }
}

fn to_mapping(ids: &IdMapping) -> wire::IdMapping {
    wire::IdMapping {
        host_id: ids.host,
        container_id: ids.container,
        length: ids.length,
    }
}

/// The namespaces of a pod, as its status tells them.
pub(super) fn to_namespaces(options: &NamespaceOptions) -> wire::NamespaceOption {
    let mapped = !options.uids.is_empty();
    wire::NamespaceOption {
        network: to_mode(options.network),
        pid: to_mode(options.pid),
        ipc: to_mode(options.ipc),
        target_id: options.target.clone(),
        userns_options: mapped.then(|| wire::UserNamespace {
            mode: wire::NamespaceMode::Pod.into(),
            uids: options.uids.iter().map(to_mapping).collect(),
            gids: options.gids.iter().map(to_mapping).collect(),
        }),
    }
}

/// Limits.
pub(super) fn resources(limits: wire::LinuxContainerResources) -> Resources {
    Resources {
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        memory: limits.memory_limit_in_bytes,
        memory_swap: limits.memory_swap_limit_in_bytes,
        oom_score_adj: limits.oom_score_adj,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        hugepages: limits
            .hugepage_limits
            .into_iter()
            .map(|limit| (limit.page_size, limit.limit))
            .collect(),
        unified: limits.unified.into_iter().collect(),
    }
}

/// Limits, as a status tells them.
pub(super) fn to_resources(limits: &Resources) -> wire::LinuxContainerResources {
    let pages = limits
        .hugepages
        .iter()
        .map(|(size, limit)| wire::HugepageLimit {
            page_size: size.clone(),
            limit: *limit,
        });
    wire::LinuxContainerResources {
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        memory_limit_in_bytes: limits.memory,
        memory_swap_limit_in_bytes: limits.memory_swap,
        oom_score_adj: limits.oom_score_adj,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        hugepage_limits: pages.collect(),
        unified: limits.unified.clone().into_iter().collect(),
    }
}

/// A container.
pub(super) fn container(config: wire::ContainerConfig) -> Result<ContainerConfig, Status> {
    let stop_signal = signal(config.stop_signal())?;
    let metadata = config.metadata.unwrap_or_default();
    let image = config.image.unwrap_or_default();
    let linux = config.linux.unwrap_or_default();
    let envs = config.envs.into_iter().map(|env| {
        let value = String::from_utf8(env.value)
            .map_err(|_| invalid(format!("environment variable {}: no UTF-8", env.key)))?;
        Ok::<_, Status>((env.key, value))
    });
    let devices = config.devices.into_iter().map(|device| Device {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    });
    Ok(ContainerConfig {
        name: metadata.name,
        attempt: metadata.attempt,
        image: image.image,
        user_specified_image: image.user_specified_image,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        envs: envs.collect::<Result<_, _>>()?,
        mounts: config.mounts.into_iter().map(mount).collect(),
        devices: devices.collect(),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: linux.resources.map(resources).unwrap_or_default(),
        security: linux.security_context.map(of_container).unwrap_or_default(),
        stop_signal,
        cdi_devices: config.cdi_devices.into_iter().map(|one| one.name).collect(),
    })
}

fn mount(mount: wire::Mount) -> Mount {
    let propagation = match mount.propagation() {
        wire::MountPropagation::PropagationPrivate => Propagation::Private,
        wire::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        wire::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation,
        image: mount.image.map(|image| image.image).unwrap_or_default(),
        image_sub_path: mount.image_sub_path,
        uids: mount.uid_mappings.into_iter().map(mapping).collect(),
        gids: mount.gid_mappings.into_iter().map(mapping).collect(),
    }
}

/// A mount, as a status tells it.
pub(super) fn to_mount(mount: &Mount) -> wire::Mount {
    wire::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            Propagation::Private => wire::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => wire::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => wire::MountPropagation::PropagationBidirectional,
        }
        .into(),
        image: (!mount.image.is_empty()).then(|| wire::ImageSpec {
            image: mount.image.clone(),
            ..Default::default()
        }),
        image_sub_path: mount.image_sub_path.clone(),
        uid_mappings: mount.uids.iter().map(to_mapping).collect(),
        gid_mappings: mount.gids.iter().map(to_mapping).collect(),
    }
}

/// Signals in the wire's order, from 1; its numbers are not the kernel's.
const SIGNALS: [u32; 65] = [
    6, 14, 7, 17, 17, 18, 8, 1, 4, 2, 29, 6, 9, 13, 29, 27, 30, 3, 11, 16, 19, 31, 15, 5, 20, 21,
    22, 23, 10, 12, 26, 28, 24, 25, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
];

/// The kernel's number of a signal; `None`: not said.
fn signal(signal: wire::Signal) -> Result<Option<u32>, Status> {
    let number = usize::try_from(i32::from(signal)).unwrap_or_default();
    match number.checked_sub(1) {
        None => Ok(None),
        Some(at) => SIGNALS
            .get(at)
            .map(|number| Some(*number))
            .ok_or_else(|| invalid(format!("signal {number} is none"))),
    }
}

/// The wire's number of a signal of the kernel.
pub(super) fn to_signal(number: u32) -> i32 {
    let at = SIGNALS.iter().position(|other| *other == number);
    at.and_then(|at| i32::try_from(at + 1).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_kernels_numbers() {
        let check = |of_wire: wire::Signal, number: u32| {
            assert_eq!(signal(of_wire).unwrap(), Some(number), "{of_wire:?}");
        };
        check(wire::Signal::Sigterm, 15);
        check(wire::Signal::Sigkill, 9);
        check(wire::Signal::Sighup, 1);
        check(wire::Signal::Sigusr1, 10);
        check(wire::Signal::Sigusr2, 12);
        check(wire::Signal::Sigquit, 3);
        check(wire::Signal::Sigwinch, 28);
        check(wire::Signal::Sigrtmin, 34);
        check(wire::Signal::Sigrtminplus1, 35);
        check(wire::Signal::Sigrtmax, 64);
        assert_eq!(signal(wire::Signal::RuntimeDefault).unwrap(), None);
        assert_eq!(to_signal(15), i32::from(wire::Signal::Sigterm));
        assert_eq!(to_signal(64), i32::from(wire::Signal::Sigrtmax));
    }
}
