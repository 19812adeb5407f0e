//! A process of a config, checked: numbers and bit sets in place of names. Pure.

use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, ExecCPUAffinity, IOPriorityClass, LinuxCapabilities, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, PosixRlimitType, Process,
};

use crate::failure::{Failure, Result};
use crate::number_set::NumberSet;

/// The five sets as bits by capability number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

/// Names by number, `capabilities(7)`.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability by its name, with or without `CAP_`, in any case.
pub(crate) fn capability_number(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("CAP_").unwrap_or(&name);
    CAPABILITIES
        .iter()
        .position(|known| *known == bare)
        .and_then(|at| u32::try_from(at).ok())
}

fn bits(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|c| capability_number(&c.to_string()))
        .fold(0, |bits, n| bits | 1 << n)
}

impl CapabilitySets {
    fn from_config(sets: &LinuxCapabilities) -> Self {
        Self {
            bounding: bits(sets.bounding().as_ref()),
            effective: bits(sets.effective().as_ref()),
            inheritable: bits(sets.inheritable().as_ref()),
            permitted: bits(sets.permitted().as_ref()),
            ambient: bits(sets.ambient().as_ref()),
        }
    }

    /// The names that `mask` lacks, and the sets without them: what this kernel or this caller cannot give.
    pub(crate) fn restrict(self, mask: u64) -> (Self, Vec<String>) {
        let all = self.bounding | self.effective | self.inheritable | self.permitted | self.ambient;
        let missing = (0..64)
            .filter(|n| all & !mask & 1 << n != 0)
            .filter_map(|n| CAPABILITIES.get(n));
        let missing = missing.map(|name| format!("CAP_{name}")).collect();
        let sets = Self {
            bounding: self.bounding & mask,
            effective: self.effective & mask,
            inheritable: self.inheritable & mask,
            permitted: self.permitted & mask,
            ambient: self.ambient & mask,
        };
        (sets, missing)
    }

    /// The ambient ones that the kernel takes: those that are permitted and inheritable too.
    pub(crate) fn raised(&self) -> u64 {
        self.ambient & self.permitted & self.inheritable
    }

    /// Names of the other ambient ones.
    pub(crate) fn not_raised(&self) -> Vec<String> {
        CAPABILITIES
            .iter()
            .enumerate()
            .filter(|(n, _)| (self.ambient & !self.raised()) >> n & 1 != 0)
            .map(|(_, name)| format!("CAP_{name}"))
            .collect()
    }
}

/// Who the process is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// `None`: the caller's own sets, less nothing.
    pub(crate) capabilities: Option<CapabilitySets>,
}

/// A resource limit in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) name: String,
    pub(crate) resource: nix::sys::resource::Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A process whose values have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValidProcess {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) terminal: bool,
    /// Rows and columns.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) identity: Identity,
    pub(crate) umask: u32,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) io_priority: Option<(u16, u16)>,
    pub(crate) scheduler: Option<kernel::sched::SchedAttr>,
    /// Processors that an exec's process runs on before it has joined the cgroup.
    pub(crate) first_affinity: Option<NumberSet>,
    /// And afterwards.
    pub(crate) affinity: Option<NumberSet>,
}

/// Checks `process`. No I/O.
pub(crate) fn validate(process: &Process) -> Result<ValidProcess> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(Failure::new(
            "config.json: /process/args: args must not be empty",
        ));
    }
    if !process.cwd().is_absolute() {
        return Err(Failure::new(format!(
            "config.json: /process/cwd: Cwd must be an absolute path, got {:?}",
            process.cwd().display().to_string()
        )));
    }
    let user = process.user();
    for (name, number) in [("uid", user.uid()), ("gid", user.gid())] {
        // To the kernel this number means "leave it as it is", which would be root.
        if number == u32::MAX {
            return Err(Failure::new(format!(
                "process/user/{name}: expected a number below {number}, got {number}"
            )));
        }
    }
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    Ok(ValidProcess {
        args,
        env: deduplicate(process.env().clone().unwrap_or_default()),
        cwd: process.cwd().clone(),
        terminal: process.terminal().unwrap_or(false),
        console_size: process
            .console_size()
            .filter(|s| s.height() != 0 && s.width() != 0)
            .map(|s| {
                let cut = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
                (cut(s.height()), cut(s.width()))
            }),
        identity: Identity {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            capabilities: process
                .capabilities()
                .as_ref()
                .map(CapabilitySets::from_config),
        },
        umask: user.umask().unwrap_or(0o022),
        rlimits: rlimits(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: text(process.apparmor_profile()),
        selinux_label: text(process.selinux_label()),
        io_priority: io_priority(process)?,
        scheduler: scheduler(process)?,
        first_affinity: affinity(process, "initial", |a| a.initial().as_deref())?,
        affinity: affinity(process, "final", |a| a.cpu_affinity_final().as_deref())?,
    })
}

/// The last of several settings of one variable wins, at the place of the first. An empty HOME is none.
fn deduplicate(env: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(env.len());
    for entry in env {
        let key = entry.split('=').next().unwrap_or_default();
        match out
            .iter_mut()
            .find(|old| old.split('=').next() == Some(key))
        {
            Some(old) => *old = entry,
            None => out.push(entry),
        }
    }
    out.retain(|entry| entry != "HOME=");
    out
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    use PosixRlimitType as T;
    use nix::sys::resource::Resource as R;
    let mut out: Vec<Rlimit> = Vec::new();
    for (at, limit) in process.rlimits().iter().flatten().enumerate() {
        let resource = match limit.typ() {
            T::RlimitCpu => R::RLIMIT_CPU,
            T::RlimitFsize => R::RLIMIT_FSIZE,
            T::RlimitData => R::RLIMIT_DATA,
            T::RlimitStack => R::RLIMIT_STACK,
            T::RlimitCore => R::RLIMIT_CORE,
            T::RlimitRss => R::RLIMIT_RSS,
            T::RlimitNproc => R::RLIMIT_NPROC,
            T::RlimitNofile => R::RLIMIT_NOFILE,
            T::RlimitMemlock => R::RLIMIT_MEMLOCK,
            T::RlimitAs => R::RLIMIT_AS,
            T::RlimitLocks => R::RLIMIT_LOCKS,
            T::RlimitSigpending => R::RLIMIT_SIGPENDING,
            T::RlimitMsgqueue => R::RLIMIT_MSGQUEUE,
            T::RlimitNice => R::RLIMIT_NICE,
            T::RlimitRtprio => R::RLIMIT_RTPRIO,
            T::RlimitRttime => R::RLIMIT_RTTIME,
        };
        let name = format!("{resource:?}");
        if out.iter().any(|old| old.resource == resource) {
            return Err(Failure::new(format!(
                "config.json: /process/rlimits/{at}: rlimit {name} is given twice"
            )));
        }
        out.push(Rlimit {
            name,
            resource,
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(out)
}

fn affinity(
    process: &Process,
    which: &str,
    list: impl Fn(&ExecCPUAffinity) -> Option<&str>,
) -> Result<Option<NumberSet>> {
    let list = process.exec_cpu_affinity().as_ref().and_then(list);
    let parsed = list.filter(|list| !list.is_empty()).map(|list| {
        NumberSet::parse(list).ok_or_else(|| {
            Failure::new(format!(
                "config.json: /process/execCPUAffinity/{which}: expected a list as in 0-3,7, got {list:?}"
            ))
        })
    });
    parsed.transpose()
}

fn io_priority(process: &Process) -> Result<Option<(u16, u16)>> {
    let Some(priority) = process.io_priority() else {
        return Ok(None);
    };
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(priority.priority()) {
        Ok(level) if level < 8 => Ok(Some((class, level))),
        _ => Err(Failure::new(format!(
            "config.json: /process/ioPriority/priority: expected 0 to 7, got {}",
            priority.priority()
        ))),
    }
}

fn scheduler(process: &Process) -> Result<Option<kernel::sched::SchedAttr>> {
    let Some(wanted) = process.scheduler() else {
        return Ok(None);
    };
    let policy = match wanted.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = wanted.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 1,
                LinuxSchedulerFlag::SchedFlagReclaim => 2,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 4,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 8,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let priority = wanted.priority().unwrap_or(0);
    let priority = u32::try_from(priority).map_err(|_| {
        Failure::new(format!(
            "config.json: /process/scheduler/priority: expected 0 or more, got {priority}"
        ))
    })?;
    Ok(Some(kernel::sched::SchedAttr {
        size: 0,
        policy,
        flags,
        nice: wanted.nice().unwrap_or(0),
        priority,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_of_a_variable_wins() {
        let env = ["A=1", "B=2", "A=3"].map(str::to_owned).to_vec();
        assert_eq!(deduplicate(env), ["A=3", "B=2"]);
        let home = ["HOME=/h", "A=1", "HOME="].map(str::to_owned).to_vec();
        assert_eq!(deduplicate(home), ["A=1"]);
    }

    #[test]
    fn capabilities_are_found_by_name_in_any_spelling() {
        assert_eq!(capability_number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability_number("sys_admin"), Some(21));
        assert_eq!(capability_number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability_number("CAP_NOPE"), None);
    }

    #[test]
    fn capabilities_of_a_config_become_bits() {
        let process: Process = serde_json::from_str(
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"]}}"#,
        )
        .unwrap();
        let sets = validate(&process).unwrap().identity.capabilities.unwrap();
        assert_eq!(sets.bounding, 1 | 1 << 5);
        let (sets, missing) = sets.restrict(1);
        assert_eq!((sets.bounding, missing), (1, vec!["CAP_KILL".to_owned()]));
        let sets = CapabilitySets {
            ambient: 1 | 1 << 5,
            permitted: 1 | 1 << 5,
            inheritable: 1,
            ..CapabilitySets::default()
        };
        assert_eq!(
            (sets.raised(), sets.not_raised()),
            (1, vec!["CAP_KILL".to_owned()])
        );
    }
}
