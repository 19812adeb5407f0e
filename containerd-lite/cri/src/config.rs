//! What a kubelet says of pods and containers, as it is kept: the form in
//! which records hold it in the database, so names of fields stay as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A pod as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodConfig {
    /// Who it is.
    pub metadata: PodMetadata,
    /// Its host name; empty: not said.
    pub hostname: String,
    /// Where logs of its containers are.
    pub log_directory: String,
    /// How names are resolved; `None`: as on the host.
    pub dns: Option<Dns>,
    /// Ports of the host that lead into it.
    pub ports: Vec<PortMapping>,
    /// For selecting.
    pub labels: BTreeMap<String, String>,
    /// For others.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup of the pod: a path, or the name of a slice.
    pub cgroup_parent: String,
    /// What it may do, and what it shares with the host.
    pub security: Security,
    /// Settings of the kernel in its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What its containers may use together.
    pub resources: Option<Resources>,
    /// What the sandbox may use beside them.
    pub overhead: Option<Resources>,
}

/// What tells one sandbox from all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's unique id.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Which of the pod's sandboxes it is.
    pub attempt: u32,
}

impl PodMetadata {
    /// No two sandboxes at a time have the same.
    pub(crate) fn unique_name(&self) -> String {
        let Self {
            name,
            uid,
            namespace,
            attempt,
        } = self;
        format!("{name}_{namespace}_{uid}_{attempt}")
    }
}

/// What `resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Domains to look in.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// A port of the host that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// In the pod.
    pub container_port: u16,
    /// The host's; zero: none.
    pub host_port: u16,
    /// The host's address; empty: all.
    pub host_ip: String,
}

/// Whose namespace of a kind is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The pod's, which all of its containers share.
    #[default]
    Pod,
    /// One of the container's own.
    Container,
    /// The host's.
    Node,
    /// That of another container of the pod.
    Target,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id outside.
    pub host: u32,
    /// First id inside.
    pub container: u32,
    /// How many.
    pub length: u32,
}

/// The namespaces that are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOptions {
    /// Network.
    pub network: Mode,
    /// Process ids.
    pub pid: Mode,
    /// IPC.
    pub ipc: Mode,
    /// The container that `Target` means.
    pub target: String,
    /// Users of a pod with a user namespace; empty: the host's.
    pub uids: Vec<IdMapping>,
    /// Groups of one.
    pub gids: Vec<IdMapping>,
}

/// A profile of seccomp or AppArmor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file, or a profile that is loaded.
    Localhost(String),
}

/// A label of SELinux.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selinux {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

impl Selinux {
    /// `user:role:type:level`; `None` where nothing is said.
    pub(crate) fn label(&self) -> Option<String> {
        let parts = [&self.user, &self.role, &self.kind, &self.level];
        if parts.iter().all(|part| part.is_empty()) {
            return None;
        }
        Some(parts.map(String::as_str).join(":"))
    }
}

/// Changes of the default capabilities, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Added; `ALL` means all.
    pub add: Vec<String>,
    /// Taken away; `ALL` means all.
    pub drop: Vec<String>,
    /// Added, and kept over an exec by whoever is not root.
    pub ambient: Vec<String>,
}

/// What a pod or a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Everything.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// Label.
    pub selinux: Option<Selinux>,
    /// User by number.
    pub user: Option<i64>,
    /// User by name.
    pub username: String,
    /// Group by number.
    pub group: Option<i64>,
    /// Further groups.
    pub groups: Vec<i64>,
    /// Groups that the image gives the user do not count.
    pub strict_groups: bool,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// Programs cannot gain rights.
    pub no_new_privs: bool,
    /// Paths that read as empty.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// System calls; `None`: as Unconfined.
    pub seccomp: Option<Profile>,
    /// AppArmor; `None`: not said.
    pub apparmor: Option<Profile>,
}

/// Limits; zero and empty mean that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds in each period.
    pub cpu_quota: i64,
    /// Weight.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap.
    pub memory_swap: i64,
    /// From -1000 to 1000.
    pub oom_score_adj: i64,
    /// Processors.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Bytes by page size.
    pub hugepages: Vec<(String, u64)>,
    /// Files of cgroup v2.
    pub unified: BTreeMap<String, String>,
}

/// Which way mounts below a mount travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both.
    Bidirectional,
}

/// A mount into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where.
    pub container_path: String,
    /// What; empty where it is an image.
    pub host_path: String,
    /// It cannot be written.
    pub readonly: bool,
    /// Nor can what is mounted below it.
    pub recursive_readonly: bool,
    /// It gets the container's label.
    pub selinux_relabel: bool,
    /// Mounts below it.
    pub propagation: Propagation,
    /// The content of this image.
    pub image: String,
    /// The part of the image.
    pub image_sub_path: String,
    /// Users of the mount, where they are mapped.
    pub uids: Vec<IdMapping>,
    /// Groups of it.
    pub gids: Vec<IdMapping>,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Where.
    pub container_path: String,
    /// Which.
    pub host_path: String,
    /// Out of `rwm`.
    pub permissions: String,
}

/// A container as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Its name in the pod.
    pub name: String,
    /// Which of the containers of that name it is.
    pub attempt: u32,
    /// The image, by reference or id.
    pub image: String,
    /// The image as the pod's author wrote it.
    pub user_specified_image: String,
    /// In place of the image's entrypoint.
    pub command: Vec<String>,
    /// In place of the image's command.
    pub args: Vec<String>,
    /// Empty: the image's.
    pub working_dir: String,
    /// Environment.
    pub envs: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// For selecting.
    pub labels: BTreeMap<String, String>,
    /// For others.
    pub annotations: BTreeMap<String, String>,
    /// Below the pod's log directory; empty: nowhere.
    pub log_path: String,
    /// It has a standard input.
    pub stdin: bool,
    /// Which ends with the first client.
    pub stdin_once: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Rights.
    pub security: Security,
    /// The signal that asks it to end, by number; `None`: the image's.
    pub stop_signal: Option<u32>,
    /// Devices by their names in CDI.
    pub cdi_devices: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_older_daemon_is_read_with_defaults() {
        let config: PodConfig = serde_json::from_str(r#"{"hostname":"h","later":1}"#).unwrap();
        assert_eq!(config.hostname, "h");
        assert_eq!(config.security.namespaces.pid, Mode::Pod);
    }

    #[test]
    fn a_label_needs_something_to_say() {
        assert_eq!(Selinux::default().label(), None);
        let typed = Selinux {
            level: "s0".to_owned(),
            ..Selinux::default()
        };
        assert_eq!(typed.label().unwrap(), ":::s0");
    }
}
