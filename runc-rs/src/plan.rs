//! Lists what a container's first process, or an exec's process, must do, in order. Pure: it prints as text, and that text is
//! the test.
//!
//! Orders that must hold:
//! - the cgroup is joined before a cgroup namespace is made, as the namespace's root is the group at that moment;
//! - masked and read-only paths come after every mount, and before capabilities are dropped;
//! - without no-new-privileges the seccomp filter is loaded while `CAP_SYS_ADMIN` is still there; with it, last of all, so that
//!   it need not allow what comes before. One that asks an agent comes before the wait for the start, after which nobody may be
//!   there to hand the agent its descriptor;
//! - Landlock's rules come after all that is written to the host's procfs, and before capabilities are dropped, as without
//!   no-new-privileges they need `CAP_SYS_ADMIN`;
//! - the program is looked up as the user who will run it.

mod devices;
mod step;
mod text;

pub(crate) use devices::default_device_places;
pub(crate) use step::{Device, Step};

use std::path::Path;

use kernel::clone::ns;
use oci_spec::runtime::{Hook, Linux, LinuxPersonalityDomain};

use crate::failure::{Failure, Result};
use crate::host::HostFacts;
use crate::landlock::{self, Policy};
use crate::mount_options::{Mounting, What};
use crate::process::ValidProcess;
use crate::seccomp::Filter;
use crate::validate::{MemoryPolicy, ValidSpec};

/// Choices of the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choices<'a> {
    pub(crate) id: &'a str,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
}

/// What init must do for `spec` on a host of these `facts`.
pub(crate) fn plan(spec: &ValidSpec, facts: &HostFacts, choices: Choices<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(64);
    let label = mount_label(spec.linux(), facts)?;
    namespaces(&mut steps, spec, choices);
    mounts(&mut steps, spec, facts, label.as_ref());
    devices::devices(&mut steps, spec)?;
    steps.push(Step::MakeDirectory {
        path: spec.process.cwd.clone(),
    });
    if spec.process.terminal {
        steps.push(Step::Terminal {
            console: true,
            size: spec.process.console_size,
            label: label.clone(),
        });
    }
    let linux = spec.linux();
    let paths = |list: Option<&Option<Vec<String>>>| {
        list.and_then(Option::as_ref).cloned().unwrap_or_default()
    };
    if spec.namespaces.has(ns::MOUNT) {
        let read_only = paths(linux.map(|l| l.readonly_paths()));
        steps.extend(
            read_only
                .into_iter()
                .map(|path| Step::ReadOnly { path: path.into() }),
        );
        let mut masked = paths(linux.map(|l| l.masked_paths()));
        let mut seen = std::collections::BTreeSet::new();
        masked.retain(|path| seen.insert(path.clone()));
        steps.extend(masked.into_iter().map(|path| Step::Mask {
            path: path.into(),
            label: label.clone(),
        }));
    }
    steps.extend(spec.sysctls.iter().map(|(path, value)| Step::Sysctl {
        path: path.clone(),
        value: value.clone(),
    }));
    let hooks = spec.spec.hooks().as_ref();
    let in_runtime = hooks.is_some_and(|h| {
        h.prestart()
            .iter()
            .chain(h.create_runtime())
            .any(|list| !list.is_empty())
    });
    if in_runtime {
        steps.push(Step::AwaitHooks);
    }
    if let Some(hooks) = hooks
        .and_then(|h| h.create_container().clone())
        .filter(|h| !h.is_empty())
    {
        steps.push(Step::CreateContainerHooks { hooks });
    }
    if dev_is_read_only(spec) {
        steps.push(Step::ReadOnlyDev);
    }
    if spec.readonly_rootfs {
        steps.push(Step::ReadOnlyRootfs);
    }
    steps.push(if !spec.namespaces.has(ns::MOUNT) {
        Step::ChangeRoot
    } else if choices.no_pivot {
        Step::MoveRoot
    } else {
        Step::PivotRoot
    });
    let name = |name: &Option<String>| name.clone().filter(|n| !n.is_empty());
    steps.push(Step::StandardNull);
    steps.extend(name(spec.spec.hostname()).map(|name| Step::HostName { name }));
    steps.extend(name(spec.spec.domainname()).map(|name| Step::DomainName { name }));
    if let Some(personality) = linux.and_then(|l| l.personality().as_ref()) {
        let persona = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        steps.push(Step::Personality { persona });
    }
    steps.extend(spec.memory_policy.clone().map(Step::MemoryPolicy));
    let seccomp = Filter::of(linux.and_then(|l| l.seccomp().as_ref()));
    let start_hooks = hooks
        .and_then(|h| h.start_container().clone())
        .unwrap_or_default();
    let landlock = landlock::policy(
        &spec.spec,
        &spec.mounts,
        spec.readonly_rootfs,
        facts.landlock,
    )?;
    let around = Surroundings {
        keyring: None,
        seccomp,
        landlock,
        start_hooks,
    };
    process(&mut steps, &spec.process, facts, around)?;
    Ok(steps)
}

/// SELinux's label of what is mounted for the container alone.
pub(crate) fn mount_label(linux: Option<&Linux>, facts: &HostFacts) -> Result<Option<String>> {
    let label = linux.and_then(|l| l.mount_label().clone());
    match label.filter(|l| !l.is_empty()) {
        Some(label) if !facts.selinux => Err(no_selinux("mountLabel", &label)),
        label => Ok(label),
    }
}

/// runc's words for a label where there is no SELinux.
fn no_selinux(field: &str, label: &str) -> Failure {
    Failure::new(format!(
        "selinux label is specified in config, but selinux is disabled or not supported: {field} {label:?}"
    ))
}

/// What a process has from its container.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The session keyring that its processes share; `None` leaves the caller's.
    pub(crate) keyring: Option<String>,
    pub(crate) seccomp: Filter,
    pub(crate) landlock: Option<Policy>,
    pub(crate) start_hooks: Vec<Hook>,
}

/// What an additional process of a running container must do.
pub(crate) fn plan_exec(
    valid: &ValidProcess,
    facts: &HostFacts,
    kinds: u64,
    around: Surroundings,
    persona: Option<u64>,
    memory: Option<MemoryPolicy>,
) -> Result<Vec<Step>> {
    let mut steps = vec![Step::JoinCgroup];
    match (&valid.affinity, &valid.first_affinity) {
        (Some(last), _) => steps.push(Step::Affinity(last.clone())),
        (None, None) => steps.push(Step::ResetAffinity),
        (None, Some(_)) => {}
    }
    if kinds != 0 {
        steps.push(Step::JoinContainer { kinds });
    }
    if kinds & ns::USER != 0 {
        steps.push(Step::BecomeRoot);
    }
    steps.push(Step::NewSession);
    steps.extend(around.keyring.clone().map(|name| Step::Keyring {
        name,
        label: valid.selinux_label.clone().filter(|_| facts.selinux),
    }));
    if valid.terminal {
        steps.push(Step::Terminal {
            console: false,
            size: valid.console_size,
            label: None,
        });
    }
    steps.extend(persona.map(|persona| Step::Personality { persona }));
    steps.extend(memory.map(Step::MemoryPolicy));
    process(&mut steps, valid, facts, around)?;
    Ok(steps)
}

fn namespaces(steps: &mut Vec<Step>, spec: &ValidSpec, choices: Choices<'_>) {
    steps.push(Step::JoinCgroup);
    steps.push(Step::ResetAffinity);
    // Users and pids are joined by the parent, on the way to the clone.
    let later = |kind: u64| kind != ns::USER && kind != ns::PID;
    steps.extend(
        spec.namespaces
            .join
            .iter()
            .filter(|(kind, _)| later(*kind))
            .map(|(kind, path)| Step::JoinNamespace {
                kind: *kind,
                path: path.clone(),
            }),
    );
    if spec.namespaces.has(ns::USER) {
        steps.push(Step::BecomeRoot);
    }
    if spec.namespaces.new & ns::CGROUP != 0 {
        steps.push(Step::Unshare { kinds: ns::CGROUP });
    }
    steps.push(Step::NewSession);
    if !choices.no_new_keyring {
        steps.push(Step::Keyring {
            name: keyring(choices.id),
            label: spec.process.selinux_label.clone(),
        });
    }
    if spec.namespaces.new & ns::NET != 0 {
        steps.push(Step::LoopbackUp);
    }
    if !spec.net_devices.is_empty() {
        steps.push(Step::AwaitDevices);
    }
}

/// The session keyring of container `id`, by runc's name for it.
pub(crate) fn keyring(id: &str) -> String {
    format!("_ses.{id}")
}

fn mounts(steps: &mut Vec<Step>, spec: &ValidSpec, facts: &HostFacts, label: Option<&String>) {
    if spec.namespaces.has(ns::MOUNT) {
        let (how, recursive) = spec.rootfs_propagation;
        steps.push(Step::HostPropagation { how, recursive });
    }
    steps.push(Step::BindRootfs {
        path: spec.rootfs.clone(),
    });
    for (at, mount) in spec.mounts.iter().enumerate() {
        let mount = mount.clone().labelled(label);
        steps.push(match mount.what {
            What::Cgroup => Step::MountCgroups {
                mount,
                views: facts.cgroups.clone(),
                namespaced: spec.namespaces.has(ns::CGROUP),
                v2: facts.cgroup_v2,
            },
            _ => Step::Mount {
                at,
                mount: writable_dev(mount),
            },
        });
    }
}

fn is_dev(mount: &Mounting) -> bool {
    mount.destination == Path::new("/dev")
}

/// /dev gets devices and other mounts before it may become read-only.
fn writable_dev(mut mount: Mounting) -> Mounting {
    if is_dev(&mount) {
        mount.set &= !kernel::mount::RDONLY;
    }
    mount
}

fn dev_is_read_only(spec: &ValidSpec) -> bool {
    spec.mounts
        .iter()
        .any(|mount| is_dev(mount) && mount.set & kernel::mount::RDONLY != 0)
}

fn process(
    steps: &mut Vec<Step>,
    valid: &ValidProcess,
    facts: &HostFacts,
    around: Surroundings,
) -> Result<()> {
    let Surroundings {
        seccomp,
        landlock,
        start_hooks,
        ..
    } = around;
    steps.extend(valid.scheduler.map(|attr| Step::Scheduler { attr }));
    steps.extend(
        valid
            .io_priority
            .map(|(class, level)| Step::IoPriority { class, level }),
    );
    steps.extend(valid.rlimits.iter().cloned().map(Step::Rlimit));
    if let Some(profile) = &valid.apparmor_profile {
        if profile != "unconfined" && !facts.apparmor {
            return Err(Failure::new(format!(
                "apply apparmor profile {profile:?}: apparmor is not enabled on this host"
            )));
        }
        if facts.apparmor {
            steps.push(Step::AppArmor {
                profile: profile.clone(),
            });
        }
    }
    if let Some(label) = &valid.selinux_label {
        if !facts.selinux {
            return Err(no_selinux("selinuxLabel", label));
        }
        steps.push(Step::SeLinux {
            label: label.clone(),
        });
    }
    steps.push(Step::Umask { mask: valid.umask });
    if valid.no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    // A filter need not allow what this takes.
    steps.push(Step::EnterDirectory {
        path: valid.cwd.clone(),
    });
    steps.extend(landlock.map(Step::Landlock));
    if !valid.no_new_privileges && seccomp != Filter::Absent {
        steps.push(Step::Seccomp);
    }
    let mut identity = valid.identity.clone();
    identity.capabilities = identity
        .capabilities
        .map(|sets| sets.restrict(facts.bounding).0);
    steps.push(Step::Identity(identity));
    steps.push(Step::WorkingDirectory {
        path: valid.cwd.clone(),
    });
    steps.push(Step::FindProgram);
    if valid.no_new_privileges && seccomp == Filter::Asking {
        steps.push(Step::Seccomp);
    }
    steps.push(Step::AwaitStart);
    if valid.no_new_privileges && seccomp == Filter::Silent {
        steps.push(Step::Seccomp);
    }
    // In the container like its program, and so under the same filter.
    if !start_hooks.is_empty() {
        steps.push(Step::StartContainerHooks { hooks: start_hooks });
    }
    steps.push(Step::Exec);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;

    fn facts() -> HostFacts {
        HostFacts {
            cgroup_v2: true,
            cgroups: Vec::new(),
            bounding: u64::MAX >> 23,
            apparmor: false,
            selinux: false,
            landlock: 7,
        }
    }

    fn text(config: &str) -> String {
        text_on(config, &facts())
    }

    fn text_on(config: &str, facts: &HostFacts) -> String {
        let bundle = Bundle {
            dir: "/b".into(),
            spec: serde_json::from_str(config).unwrap(),
        };
        let spec = crate::validate::validate(bundle).unwrap();
        let choices = Choices {
            id: "c",
            ..Choices::default()
        };
        plan(&spec, facts, choices)
            .unwrap()
            .iter()
            .map(|s| format!("{s}\n"))
            .collect()
    }

    #[test]
    fn the_default_config_becomes_this_plan() {
        insta::assert_snapshot!(text(&crate::commands::spec::default_config(false, true)));
    }

    #[test]
    fn in_a_user_namespace_devices_are_bound() {
        insta::assert_snapshot!(text(
            r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
                "process":{"cwd":"/w","user":{"uid":7,"gid":8,"additionalGids":[9]},"args":["x"],"terminal":true},
                "mounts":[{"destination":"/data","source":"data","options":["rbind","ro"]}],
                "linux":{"namespaces":[{"type":"user"},{"type":"mount"},{"type":"network","path":"/run/n"}],
                  "uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],
                  "gidMappings":[{"containerID":0,"hostID":100000,"size":65536}],
                  "seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}"#
        ));
    }

    #[test]
    fn a_filter_that_asks_is_loaded_while_its_parent_is_there() {
        let text = text(
            r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
                "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"noNewPrivileges":true},
                "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s",
                  "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}}}"#,
        );
        assert!(
            text.ends_with("find program\nload seccomp filter\nawait start\nexec\n"),
            "{text}"
        );
    }

    #[test]
    fn a_label_that_cannot_be_applied_is_refused() {
        let config = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
            "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"apparmorProfile":"docker-default"}}"#;
        let bundle = Bundle {
            dir: "/b".into(),
            spec: serde_json::from_str(config).unwrap(),
        };
        let spec = crate::validate::validate(bundle).unwrap();
        let error = plan(&spec, &facts(), Choices::default()).unwrap_err();
        assert!(error.to_string().contains("apparmor is not enabled"));
    }

    #[test]
    fn labels_of_selinux_are_put_on_what_is_the_containers_alone() {
        let config = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
            "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"terminal":true,"selinuxLabel":"P"},
            "mounts":[{"destination":"/proc","type":"proc"},{"destination":"/t","type":"tmpfs"},
              {"destination":"/b","source":"b","options":["bind"]},
              {"destination":"/own","type":"tmpfs","options":["context=\"o\""]}],
            "linux":{"namespaces":[{"type":"mount"}],"mountLabel":"M","maskedPaths":["/m"]}}"#;
        let enabled = HostFacts {
            selinux: true,
            ..facts()
        };
        let text = text_on(config, &enabled);
        for line in [
            "join keyring _ses.c labelled P",
            "mount proc on /proc",
            "mount tmpfs on /t labelled M",
            "mount bind /b/b on /b (bind)",
            "mount tmpfs on /own (context=\"o\")",
            "open terminal on /dev/console labelled M",
            "mask /m labelled M",
            "apply selinux label P",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_read_only_dev_is_filled_first_and_masks_are_told_once() {
        let text = text(
            r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
                "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"]},
                "mounts":[{"destination":"/dev","type":"tmpfs","options":["ro"]}],
                "linux":{"namespaces":[{"type":"mount"}],"maskedPaths":["/a","/b","/a"]}}"#,
        );
        let at = |line: &str| text.lines().position(|l| l.starts_with(line)).unwrap();
        assert!(
            at("mount tmpfs on /dev") < at("make device /dev/null"),
            "{text}"
        );
        assert!(
            at("make device /dev/null") < at("make /dev read-only"),
            "{text}"
        );
        assert_eq!(text.matches("mask /a").count(), 1, "{text}");
    }

    #[test]
    fn hooks_that_run_in_the_container_do_so_under_its_filter() {
        let text = text(
            r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},
                "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"noNewPrivileges":true},
                "hooks":{"startContainer":[{"path":"/h"}]},
                "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}"#,
        );
        let at = |line: &str| text.lines().position(|l| l.contains(line)).unwrap();
        assert!(at("load seccomp") < at("startContainer"), "{text}");
    }
}
