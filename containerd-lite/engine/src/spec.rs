//! The runtime-spec configuration of a container: one pure function of the
//! container's configuration, its user and the facts of the host, with
//! Docker's defaults for everything nobody asked to change.

mod mounts;
mod process;

use std::path::Path;

use serde_json::{Value, json};

use crate::devices::Device;
use crate::host_config::HostConfig;
use crate::limits::{self, Capacity};
use crate::mounts::{MountPoint, rootfs_propagation};
use crate::record::Config;
use crate::rights::{Rights, Seccomp};
use crate::user::User;
use lite_core::seccomp;

pub(crate) use mounts::stubs;
pub use process::{Process, Window, process_json};

/// What the host is like, as far as a spec depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Controllers are on the unified hierarchy.
    pub cgroup2: bool,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Go's name of the machine: `amd64`.
    pub arch: String,
    /// Processors and swap.
    pub capacity: Capacity,
    /// It has message queues mounted.
    pub mqueue: bool,
    /// Number of the kernel's last capability.
    pub last_capability: usize,
}

/// A namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// A new one.
    Own,
    /// The host's.
    Host,
    /// The one at this path.
    At(String),
}

/// The namespaces that can be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spaces {
    /// Network.
    pub network: Space,
    /// Process ids.
    pub pid: Space,
    /// IPC.
    pub ipc: Space,
}

/// Everything a spec is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The container's configuration.
    pub config: &'a Config,
    /// What it has of the host.
    pub host_config: &'a HostConfig,
    /// What it may do.
    pub rights: &'a Rights,
    /// What is mounted beside the image, sources resolved.
    pub mounts: &'a [MountPoint],
    /// Devices beside Docker's.
    pub devices: &'a [Device],
    /// Shared namespaces.
    pub spaces: &'a Spaces,
    /// Who the main process runs as.
    pub user: &'a User,
    /// The host.
    pub host: &'a HostFacts,
    /// `/<parent>/<id>`.
    pub cgroups_path: &'a str,
    /// Where `hosts`, `hostname` and `resolv.conf` of this container are.
    pub files: &'a Path,
    /// The program that is mounted as the container's init, where one is wanted.
    pub init: Option<&'a Path>,
}

/// Where the init program is in a container, as in Docker.
pub const INIT: &str = "/sbin/docker-init";

/// Paths that read as empty inside.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that cannot be written inside.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Size of `/dev/shm`.
pub const SHM_BYTES: u64 = 64 << 20;

/// The whole `config.json`.
///
/// # Errors
/// InvalidArgument for a seccomp profile or a limit that cannot be read.
pub fn build(inputs: &Inputs<'_>) -> lite_core::Result<Value> {
    let host = inputs.host_config;
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": process::main(inputs)?,
        "root": { "path": "rootfs", "readonly": host.read_only },
        "mounts": mounts::all(inputs),
        "linux": linux(inputs)?,
    });
    if host.uts != "host" {
        spec["hostname"] = json!(inputs.config.hostname);
        if !inputs.config.domainname.is_empty() {
            spec["domainname"] = json!(inputs.config.domainname);
        }
    }
    if !host.annotations.is_empty() {
        spec["annotations"] = json!(host.annotations);
    }
    Ok(spec)
}

fn linux(inputs: &Inputs<'_>) -> lite_core::Result<Value> {
    let (host, rights) = (inputs.host_config, inputs.rights);
    let mut linux = json!({
        "sysctl": sysctls(inputs),
        "resources": resources(inputs),
        "cgroupsPath": inputs.cgroups_path,
        "namespaces": namespaces(inputs),
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": READONLY_PATHS,
    });
    if rights.bare_paths {
        linux["maskedPaths"] = json!([]);
        linux["readonlyPaths"] = json!([]);
    }
    let facts = seccomp::Facts {
        arch: &inputs.host.arch,
        kernel: inputs.host.kernel,
        caps: &rights.capabilities,
    };
    match &rights.seccomp {
        Seccomp::Unconfined => {}
        Seccomp::Default => linux["seccomp"] = seccomp::resolve(&facts),
        Seccomp::Custom(text) => linux["seccomp"] = seccomp::custom(text, &facts)?,
    }
    if !inputs.devices.is_empty() {
        linux["devices"] = inputs.devices.iter().map(Device::oci).collect();
    }
    if let Some(propagation) = rootfs_propagation(inputs.mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    if host.cgroupns == "private" && !inputs.host.cgroup2 {
        // Asked for by name, it is had on v1, too.
        if let Some(kinds) = linux["namespaces"].as_array_mut() {
            kinds.push(json!({ "type": "cgroup" }));
        }
    }
    Ok(linux)
}

/// With its own network namespace a container may open low ports and send
/// pings without a capability; nobody else is affected.
fn sysctls(inputs: &Inputs<'_>) -> Value {
    let mut sysctls = json!({});
    if inputs.spaces.network != Space::Host && !inputs.rights.privileged {
        sysctls["net.ipv4.ip_unprivileged_port_start"] = json!("0");
        sysctls["net.ipv4.ping_group_range"] = json!("0 2147483647");
    }
    for (key, value) in &inputs.host_config.sysctls {
        sysctls[key] = json!(value);
    }
    sysctls
}

fn resources(inputs: &Inputs<'_>) -> Value {
    let host = inputs.host_config;
    let mut resources = limits::resources(&host.resources, inputs.host.capacity);
    let mut rules = if inputs.rights.privileged {
        vec![json!({ "allow": true, "access": "rwm" })]
    } else {
        lite_core::devices::default_rules()
    };
    if !inputs.rights.privileged {
        rules.extend(inputs.devices.iter().map(Device::rule));
        rules.extend(
            host.resources
                .device_rules
                .iter()
                .filter_map(|text| crate::devices::rule(text).ok()),
        );
    }
    resources["devices"] = json!(rules);
    let throttle = crate::devices::throttle(&host.resources);
    if let Some(fields) = throttle.as_object() {
        for (name, value) in fields {
            resources["blockIO"][name] = value.clone();
        }
    }
    resources
}

fn namespaces(inputs: &Inputs<'_>) -> Vec<Value> {
    let host = inputs.host_config;
    let mut kinds = vec![json!({ "type": "mount" })];
    let mut add = |kind: &str, space: &Space| match space {
        Space::Own => kinds.push(json!({ "type": kind })),
        Space::At(path) => kinds.push(json!({ "type": kind, "path": path })),
        Space::Host => {}
    };
    add("network", &inputs.spaces.network);
    let own_or_host = |mode: &str| {
        if mode == "host" {
            Space::Host
        } else {
            Space::Own
        }
    };
    add("uts", &own_or_host(&host.uts));
    add("pid", &inputs.spaces.pid);
    add("ipc", &inputs.spaces.ipc);
    // On v1 a private cgroup namespace would hide the controllers' paths from
    // programs that look themselves up, so Docker shares the host's there.
    if inputs.host.cgroup2 && host.cgroupns != "host" && !inputs.rights.privileged {
        kinds.push(json!({ "type": "cgroup" }));
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn built(cgroup2: bool, change: impl FnOnce(&mut Config, &mut User)) -> Value {
        let mut config = sample().config;
        let mut user = User {
            uid: 0,
            gid: 0,
            groups: vec![0, 10],
        };
        change(&mut config, &mut user);
        let host = HostFacts {
            cgroup2,
            kernel: (6, 1),
            arch: "amd64".to_owned(),
            capacity: Capacity {
                cpus: 2,
                swap: true,
            },
            mqueue: true,
            last_capability: 40,
        };
        let host_config = HostConfig::default();
        build(&Inputs {
            config: &config,
            host_config: &host_config,
            rights: &Rights::of(&host_config, 40).unwrap(),
            mounts: &[],
            devices: &[],
            spaces: &Spaces {
                network: Space::Own,
                pid: Space::Own,
                ipc: Space::Own,
            },
            user: &user,
            host: &host,
            cgroups_path: "/containerd-lite/0123",
            files: Path::new("/var/lib/containerd-lite/containers/0123"),
            init: None,
        })
        .unwrap()
    }

    #[test]
    fn a_plain_container() {
        let mut spec = built(false, |_, _| {});
        // The profile has tests of its own.
        let calls = spec["linux"]["seccomp"]["syscalls"].take();
        assert!(calls.as_array().unwrap().len() > 10);
        insta::assert_snapshot!(serde_json::to_string_pretty(&spec).unwrap());
    }

    #[test]
    fn the_runtime_spec_library_reads_it() {
        let text = serde_json::to_string(&built(true, |config, _| config.tty = true)).unwrap();
        let spec: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
    }

    #[test]
    fn a_terminal_brings_term() {
        let spec = built(false, |config, _| config.tty = true);
        assert_eq!(spec["process"]["terminal"], true);
        assert!(
            spec["process"]["env"]
                .as_array()
                .unwrap()
                .contains(&json!("TERM=xterm"))
        );
    }

    #[test]
    fn a_user_who_is_not_root_has_no_capability_in_effect() {
        let spec = built(false, |config, user| {
            config.workdir = "/srv".to_owned();
            *user = User {
                uid: 33,
                gid: 34,
                groups: vec![34],
            };
        });
        let caps = &spec["process"]["capabilities"];
        assert_eq!(caps["effective"], json!([]));
        assert_eq!(caps["permitted"], json!([]));
        assert_eq!(caps["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(spec["process"]["cwd"], "/srv");
    }

    #[test]
    fn only_the_unified_hierarchy_gets_a_cgroup_namespace() {
        let has = |spec: &Value| {
            spec["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!({"type": "cgroup"}))
        };
        assert!(has(&built(true, |_, _| {})));
        assert!(!has(&built(false, |_, _| {})));
    }
}
