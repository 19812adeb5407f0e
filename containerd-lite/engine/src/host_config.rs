//! What a container has of the host: mounts, limits, rights, networks, and
//! what is to happen when it ends. Mirrors Docker's `HostConfig`; kept as JSON
//! in the container's record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// As asked for. Empty and `None` mean "not asked for".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// `source:target[:options]`, as typed with `-v`.
    pub binds: Vec<String>,
    /// As typed with `--mount`.
    pub mounts: Vec<MountRequest>,
    /// `target[:options]`.
    pub tmpfs: Vec<String>,
    /// `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Capabilities beyond Docker's set.
    pub cap_add: Vec<String>,
    /// Capabilities to go without.
    pub cap_drop: Vec<String>,
    /// All rights and all devices.
    pub privileged: bool,
    /// `key=value` or `key`, as typed; of `seccomp` the profile's text.
    pub security_opt: Vec<String>,
    /// The image's part of the file system cannot be written.
    pub read_only: bool,
    /// An init process reaps and passes signals on.
    pub init: bool,
    /// `host[:container[:permissions]]`.
    pub devices: Vec<String>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Process ids: empty, `host` or `container:ID`.
    pub pid: String,
    /// IPC: empty, `private`, `shareable`, `none`, `host`.
    pub ipc: String,
    /// Host name: empty or `host`.
    pub uts: String,
    /// Cgroup view: empty, `private` or `host`.
    pub cgroupns: String,
    /// Cgroup below which the container's is made.
    pub cgroup_parent: String,
    /// Groups beside the user's own, names or numbers.
    pub group_add: Vec<String>,
    /// How soon the kernel takes it when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// For the runtime.
    pub annotations: BTreeMap<String, String>,
    /// `json-file`, `local` or `none`.
    pub log_driver: String,
    /// Of the log driver.
    pub log_opts: BTreeMap<String, String>,
    /// The networks it is on, the first of which may be `host`, `none` or
    /// `container:ID`.
    pub networks: Vec<Attachment>,
    /// As typed with `-p`.
    pub publish: Vec<String>,
    /// Publish every exposed port.
    pub publish_all: bool,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// Empty or `host`.
    pub userns: String,
}

/// One `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRequest {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// Path of a bind, name of a volume.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// Of a bind.
    pub propagation: String,
    /// Of a bind: without what is mounted below.
    pub non_recursive: bool,
    /// Of a volume: do not copy the image's content in.
    pub no_copy: bool,
    /// Of a volume that has to be made.
    pub labels: BTreeMap<String, String>,
    /// Of a volume.
    pub driver: String,
    /// The directory in the volume to mount.
    pub subpath: String,
    /// Of a tmpfs.
    pub tmpfs_bytes: Option<u64>,
    /// Of a tmpfs.
    pub tmpfs_mode: Option<u32>,
    /// Of a bind: make the source where it is missing.
    pub create_source: bool,
}

/// One network that a container is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Name or id.
    pub network: String,
    /// Further names of the container on it.
    pub aliases: Vec<String>,
    /// The IPv4 address it wants.
    pub ip: String,
    /// The IPv6 address it wants.
    pub ip6: String,
    /// The hardware address it wants.
    pub mac: String,
}

/// Limits; what zero and -1 mean is Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory to shrink to when it is scarce.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together; -1 means without limit.
    pub memory_swap: Option<i64>,
    /// 0 to 100; -1 means the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Wait instead of killing when memory runs out.
    pub oom_kill_disable: Option<bool>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Weight.
    pub cpu_shares: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<i64>,
    /// Microseconds of each period.
    pub cpu_quota: Option<i64>,
    /// `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// `0-1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; not above zero means without limit.
    pub pids: Option<i64>,
    /// `nofile=1024:2048`.
    pub ulimits: Vec<String>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `device:bytes` a second.
    pub read_bps: Vec<String>,
    /// `device:bytes` a second.
    pub write_bps: Vec<String>,
    /// `device:operations` a second.
    pub read_iops: Vec<String>,
    /// `device:operations` a second.
    pub write_iops: Vec<String>,
    /// `c 1:3 rwm`.
    pub device_rules: Vec<String>,
    /// Microseconds of real-time scheduling.
    pub rt_period: Option<i64>,
    /// Microseconds of each real-time period.
    pub rt_runtime: Option<i64>,
}

impl Resources {
    /// These limits with those of `change` that are given in their place.
    #[must_use]
    pub fn changed_by(&self, change: &Self) -> Self {
        macro_rules! over {
            ($($field:ident),*) => { Self {
                $($field: change.$field.clone().or_else(|| self.$field.clone()),)*
                ..self.clone()
            } };
        }
        over!(
            memory,
            memory_reservation,
            memory_swap,
            memory_swappiness,
            oom_kill_disable,
            nano_cpus,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpuset_cpus,
            cpuset_mems,
            pids,
            blkio_weight,
            rt_period,
            rt_runtime
        )
    }
}

/// What happens when the main process has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It starts again unless it ended with 0; at most so many times.
    OnFailure {
        /// `None` means for ever.
        most: Option<u32>,
    },
    /// It starts again unless it was stopped, and with the daemon.
    Always,
    /// The same, but not with the daemon when it was stopped before.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's name of the policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Docker's `MaximumRetryCount`; zero means for ever.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::OnFailure { most } => most.unwrap_or(0),
            Self::No | Self::Always | Self::UnlessStopped => 0,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.most() {
            0 => Ok(()),
            most => write!(f, ":{most}"),
        }
    }
}

/// What was given where a restart policy was expected; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRestartPolicy(String);

impl fmt::Display for BadRestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadRestartPolicy {}

impl FromStr for RestartPolicy {
    type Err = BadRestartPolicy;

    fn from_str(text: &str) -> Result<Self, BadRestartPolicy> {
        let (name, most) = match text.split_once(':') {
            Some((name, most)) => (name, Some(most)),
            None => (text, None),
        };
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure { most: None },
            _ => {
                return Err(BadRestartPolicy(format!(
                    "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                )));
            }
        };
        match (policy, most) {
            (policy, None) => Ok(policy),
            (Self::OnFailure { .. }, Some(most)) => match most.parse::<u32>() {
                Ok(0) => Ok(Self::OnFailure { most: None }),
                Ok(most) => Ok(Self::OnFailure { most: Some(most) }),
                Err(_) => Err(BadRestartPolicy(
                    "invalid restart policy format: maximum retry count must be an integer"
                        .to_owned(),
                )),
            },
            (_, Some(_)) => Err(BadRestartPolicy(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    .to_owned(),
            )),
        }
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = BadRestartPolicy;

    fn try_from(text: String) -> Result<Self, BadRestartPolicy> {
        text.parse()
    }
}

/// How to find out whether a container does what it should.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// `NONE`; `CMD` and arguments; `CMD-SHELL` and a line.
    pub test: Vec<String>,
    /// Nanoseconds between checks; zero means the default.
    pub interval_ns: i64,
    /// Nanoseconds a check may take.
    pub timeout_ns: i64,
    /// Nanoseconds in which a failure does not count.
    pub start_period_ns: i64,
    /// Nanoseconds between checks in that time.
    pub start_interval_ns: i64,
    /// Failures in a row that count.
    pub retries: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_are_written_as_they_are_read() {
        for text in [
            "no",
            "always",
            "unless-stopped",
            "on-failure",
            "on-failure:3",
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for bad in ["x", "always:3", "on-failure:x"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
        assert_eq!(
            "on-failure:0".parse(),
            Ok(RestartPolicy::OnFailure { most: None })
        );
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let old = Resources {
            memory: Some(1),
            pids: Some(2),
            ..Resources::default()
        };
        let change = Resources {
            memory: Some(5),
            cpu_shares: Some(7),
            ..Resources::default()
        };
        let new = old.changed_by(&change);
        assert_eq!(
            (new.memory, new.pids, new.cpu_shares),
            (Some(5), Some(2), Some(7))
        );
    }
}
