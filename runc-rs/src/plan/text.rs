//! The plan as text: one line for a step. People read it after `plan`, and failures name their step by it.

use std::fmt;

use kernel::mount::Propagation;

use super::{Device, Step};
use crate::mount_options::{Mounting, What};
use crate::validate::NAMESPACES;

/// Names of namespaces, joined by commas.
fn kinds_text(kinds: u64) -> String {
    let names: Vec<&str> = NAMESPACES
        .iter()
        .filter(|(kind, ..)| kinds & kind != 0)
        .map(|(_, name, _)| *name)
        .collect();
    names.join(",")
}

fn propagation_text(how: Propagation, recursive: bool) -> String {
    format!(
        "{}{}",
        if recursive { "r" } else { "" },
        format!("{how:?}").to_lowercase()
    )
}

fn labelled(label: Option<&String>) -> String {
    label.map(|l| format!(" labelled {l}")).unwrap_or_default()
}

impl fmt::Display for Mounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Bind { .. } => f.write_str("bind")?,
            What::Cgroup => f.write_str("cgroup")?,
            What::New(kind) => f.write_str(kind)?,
            What::Remount => f.write_str("remount")?,
        }
        if let (Some(source), What::Bind { .. }) = (&self.source, &self.what) {
            write!(f, " {}", source.display())?;
        }
        write!(f, " on {}", self.destination.display())?;
        if !self.words.is_empty() {
            write!(f, " ({})", self.words.join(","))?;
        }
        f.write_str(&labelled(self.label.as_ref()))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::JoinCgroup => f.write_str("join cgroup"),
            Step::JoinNamespace { kind, path } => {
                write!(f, "join {} namespace {}", kinds_text(*kind), path.display())
            }
            Step::JoinContainer { kinds } => {
                write!(f, "join namespaces {} of the container", kinds_text(*kinds))
            }
            Step::BecomeRoot => f.write_str("become root of the user namespace"),
            Step::Unshare { kinds } => write!(f, "make {} namespace", kinds_text(*kinds)),
            Step::NewSession => f.write_str("make session"),
            Step::Keyring { name, label } => {
                write!(f, "join keyring {name}{}", labelled(label.as_ref()))
            }
            Step::LoopbackUp => f.write_str("set loopback up"),
            Step::AwaitDevices => f.write_str("await network devices"),
            Step::HostPropagation { how, recursive } => {
                write!(f, "make / {}", propagation_text(*how, *recursive))
            }
            Step::BindRootfs { path } => write!(f, "bind rootfs {}", path.display()),
            Step::Mount { mount, .. } => write!(f, "mount {mount}"),
            Step::MountCgroups {
                mount,
                namespaced,
                v2,
                ..
            } => {
                let version = if *v2 { "v2" } else { "v1" };
                write!(
                    f,
                    "mount {version} {mount}, {}",
                    if *namespaced {
                        "of the namespace"
                    } else {
                        "bound"
                    }
                )
            }
            Step::MakeDevice { device, bind } => {
                let verb = if *bind { "bind" } else { "make" };
                let Device {
                    path,
                    kind,
                    major,
                    minor,
                    mode,
                    uid,
                    gid,
                } = device;
                write!(
                    f,
                    "{verb} device {} {kind} {major}:{minor} {mode:o} {uid}:{gid}",
                    path.display()
                )
            }
            Step::Symlink { target, path } => write!(f, "link {path} to {target}"),
            Step::MakeDirectory { path } => write!(f, "make directory {}", path.display()),
            Step::Terminal { console, label, .. } => write!(
                f,
                "open terminal{}{}",
                if *console { " on /dev/console" } else { "" },
                labelled(label.as_ref())
            ),
            Step::Mask { path, label } => {
                write!(f, "mask {}{}", path.display(), labelled(label.as_ref()))
            }
            Step::ReadOnly { path } => write!(f, "make {} read-only", path.display()),
            Step::Sysctl { path, value } => write!(f, "set sysctl {path} to {value:?}"),
            Step::AwaitHooks => f.write_str("await hooks of the runtime"),
            Step::CreateContainerHooks { hooks } => {
                write!(f, "run {} createContainer hooks", hooks.len())
            }
            Step::ReadOnlyDev => f.write_str("make /dev read-only"),
            Step::ReadOnlyRootfs => f.write_str("make rootfs read-only"),
            Step::PivotRoot => f.write_str("pivot root"),
            Step::MoveRoot => f.write_str("move root"),
            Step::ChangeRoot => f.write_str("change root"),
            Step::StandardNull => f.write_str("open /dev/null again where it is a standard stream"),
            Step::HostName { name } => write!(f, "set hostname {name}"),
            Step::DomainName { name } => write!(f, "set domainname {name}"),
            Step::Umask { mask } => write!(f, "set umask {mask:03o}"),
            Step::Personality { persona } => write!(f, "set personality {persona:#x}"),
            Step::Scheduler { attr } => write!(f, "set scheduler policy {}", attr.policy),
            Step::IoPriority { class, level } => write!(f, "set io priority {class}:{level}"),
            Step::Rlimit(limit) => write!(f, "set {} to {}:{}", limit.name, limit.soft, limit.hard),
            Step::Affinity(set) => write!(f, "set affinity {}", set.hex()),
            Step::ResetAffinity => f.write_str("reset affinity"),
            Step::MemoryPolicy(policy) => write!(
                f,
                "set memory policy {:#x} of nodes {:x?}",
                policy.mode,
                policy.nodes.words()
            ),
            Step::NoNewPrivileges => f.write_str("set no-new-privileges"),
            Step::AppArmor { profile } => write!(f, "apply apparmor profile {profile}"),
            Step::SeLinux { label } => write!(f, "apply selinux label {label}"),
            Step::Landlock(policy) => write!(f, "restrict files by landlock: {policy}"),
            Step::Seccomp => f.write_str("load seccomp filter"),
            Step::Identity(who) => {
                write!(f, "become {}:{}", who.uid, who.gid)?;
                if !who.groups.is_empty() {
                    write!(f, " with groups {:?}", who.groups)?;
                }
                match who.capabilities {
                    Some(sets) => write!(
                        f,
                        ", capabilities b={:x} e={:x} i={:x} p={:x} a={:x}",
                        sets.bounding,
                        sets.effective,
                        sets.inheritable,
                        sets.permitted,
                        sets.ambient
                    ),
                    None => Ok(()),
                }
            }
            Step::EnterDirectory { path } | Step::WorkingDirectory { path } => write!(
                f,
                "chdir to cwd ({:?}) set in config.json",
                path.display().to_string()
            ),
            Step::FindProgram => f.write_str("find program"),
            Step::AwaitStart => f.write_str("await start"),
            Step::StartContainerHooks { hooks } => {
                write!(f, "run {} startContainer hooks", hooks.len())
            }
            Step::Exec => f.write_str("exec"),
        }
    }
}
