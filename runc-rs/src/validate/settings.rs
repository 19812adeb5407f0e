//! Settings of the kernel that a config makes for its container alone: sysctls, and where its memory comes from. Pure.

use kernel::clone::ns;
use oci_spec::runtime::{Linux, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::{Namespaces, mistake};
use crate::failure::{Failure, Result};
use crate::number_set::NumberSet;

/// From which memory nodes a container gets its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`, as `set_mempolicy(2)` takes them.
    pub(crate) mode: u32,
    pub(crate) nodes: NumberSet,
}

/// The memory policy of a config.
pub(crate) fn memory_policy(linux: Option<&Linux>) -> Result<Option<MemoryPolicy>> {
    use MemoryPolicyFlagType as Flag;
    use MemoryPolicyModeType as Mode;
    let Some(policy) = linux.and_then(|l| l.memory_policy().as_ref()) else {
        return Ok(None);
    };
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let mode = policy
        .flags()
        .iter()
        .flatten()
        .fold(mode, |mode, flag| match flag {
            Flag::MpolFNumaBalancing => mode | 1 << 13,
            Flag::MpolFRelativeNodes => mode | 1 << 14,
            Flag::MpolFStaticNodes => mode | 1 << 15,
        });
    let list = policy.nodes().as_deref().unwrap_or_default();
    let nodes = NumberSet::parse(list).ok_or_else(|| {
        mistake(
            "/linux/memoryPolicy/nodes",
            format!("invalid memory policy nodes: expected a list as in 0-3,7, got {list:?}"),
        )
    })?;
    let count = nodes.count();
    match (policy.mode(), count) {
        (Mode::MpolDefault | Mode::MpolLocal, 1..) => Err(mistake(
            "/linux/memoryPolicy/nodes",
            format!("memory policy mode requires 0 nodes but got {count}"),
        )),
        (
            Mode::MpolBind
            | Mode::MpolInterleave
            | Mode::MpolPreferredMany
            | Mode::MpolWeightedInterleave,
            0,
        ) => Err(mistake(
            "/linux/memoryPolicy/nodes",
            "memory policy mode requires at least one node but got 0",
        )),
        _ => Ok(Some(MemoryPolicy { mode, nodes })),
    }
}

/// Only those that belong to a namespace the container has to itself; others would change the host.
pub(super) fn sysctls(
    linux: Option<&Linux>,
    namespaces: &Namespaces,
) -> Result<Vec<(String, String)>> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut out = Vec::new();
    for (name, value) in linux
        .and_then(|l| l.sysctl().as_ref())
        .into_iter()
        .flatten()
    {
        let key = name.replace('/', ".");
        let needs = if IPC.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
            ns::IPC
        } else if key.starts_with("net.") {
            ns::NET
        } else if key == "kernel.domainname" || key == "kernel.hostname" {
            ns::UTS
        } else {
            return Err(Failure::new(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            )));
        };
        if !namespaces.has(needs) {
            return Err(Failure::new(format!(
                "sysctl {name:?} is not allowed in the hosts namespace"
            )));
        }
        if key.split('.').any(|part| part.is_empty()) {
            return Err(Failure::new(format!("sysctl {name:?} has an empty part")));
        }
        out.push((sysctl_path(name), value.clone()));
    }
    out.sort();
    Ok(out)
}

/// `net.ipv4.conf.eth0/1.x`: whichever of `.` and `/` comes first separates, the other stands for itself in names.
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, message};

    #[test]
    fn sysctls_of_the_host_are_refused() {
        assert!(
            message(r#"{"sysctl":{"vm.swappiness":"1"}}"#).contains("separate kernel namespace")
        );
        assert!(message(r#"{"sysctl":{"net.ipv4.ip_forward":"1"}}"#).contains("hosts namespace"));
        let spec =
            check(r#"{"sysctl":{"net.ipv4.ip_forward":"1"},"namespaces":[{"type":"network"}]}"#)
                .unwrap();
        assert_eq!(
            spec.sysctls,
            [("net/ipv4/ip_forward".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn a_memory_policy_has_the_nodes_that_its_mode_wants() {
        let policy = |json: &str| message(&format!(r#"{{"memoryPolicy":{json}}}"#));
        assert!(check(r#"{"memoryPolicy":{"mode":"MPOL_DEFAULT"}}"#).is_ok());
        assert!(
            policy(r#"{"mode":"MPOL_DEFAULT","nodes":"0-7"}"#)
                .contains("requires 0 nodes but got 8")
        );
        assert!(policy(r#"{"mode":"MPOL_BIND"}"#).contains("at least one node"));
        assert!(
            policy(r#"{"mode":"MPOL_BIND","nodes":"x"}"#).contains("invalid memory policy nodes")
        );
    }
}
