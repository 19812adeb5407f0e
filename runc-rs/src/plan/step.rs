//! The steps a plan is made of.

use std::path::PathBuf;

use kernel::mount::Propagation;
use oci_spec::runtime::Hook;

use crate::host::CgroupView;
use crate::landlock::Policy;
use crate::mount_options::Mounting;
use crate::number_set::NumberSet;
use crate::process::{Identity, Rlimit};
use crate::validate::MemoryPolicy;

/// A device node of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    /// `c`, `b` or `p`.
    pub(crate) kind: char,
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// One change that the process makes. Data only: `init` is the one place that turns a step into system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write 0 to each v1 tasks file.
    JoinCgroup,
    /// `setns(2)` to one namespace by its file, as the parent opened it.
    JoinNamespace {
        kind: u64,
        path: PathBuf,
    },
    /// `setns(2)` to several namespaces of the container's init at once.
    JoinContainer {
        kinds: u64,
    },
    /// Become root of the new user namespace.
    BecomeRoot,
    /// `unshare(2)`
    Unshare {
        kinds: u64,
    },
    /// `setsid(2)`
    NewSession,
    /// A session keyring of this name, with SELinux's label.
    Keyring {
        name: String,
        label: Option<String>,
    },
    LoopbackUp,
    /// Let the parent move the host's devices into the network namespace.
    AwaitDevices,
    /// Propagation of every mount of the new namespace.
    HostPropagation {
        how: Propagation,
        recursive: bool,
    },
    /// The rootfs becomes a mount of its own.
    BindRootfs {
        path: PathBuf,
    },
    /// The `at`th mount of the config.
    Mount {
        at: usize,
        mount: Mounting,
    },
    /// The container's cgroups: with a cgroup namespace as filesystems, else bound from the host.
    MountCgroups {
        mount: Mounting,
        views: Vec<CgroupView>,
        namespaced: bool,
        v2: bool,
    },
    MakeDevice {
        device: Device,
        bind: bool,
    },
    Symlink {
        target: &'static str,
        path: &'static str,
    },
    /// The working directory, if the image has none.
    MakeDirectory {
        path: PathBuf,
    },
    /// A pseudo terminal out of the container's devpts; in init it is also bound on /dev/console.
    Terminal {
        console: bool,
        size: Option<(u16, u16)>,
        /// SELinux's, of the terminal that is bound.
        label: Option<String>,
    },
    Mask {
        path: PathBuf,
        /// SELinux's, of what covers a directory.
        label: Option<String>,
    },
    ReadOnly {
        path: PathBuf,
    },
    Sysctl {
        path: String,
        value: String,
    },
    /// Let the parent run prestart and createRuntime hooks.
    AwaitHooks,
    CreateContainerHooks {
        hooks: Vec<Hook>,
    },
    /// A /dev that is to be read-only, once everything is in it.
    ReadOnlyDev,
    ReadOnlyRootfs,
    /// `pivot_root(2)`
    PivotRoot,
    /// Move the rootfs over `/` and change root, for an initial ramdisk.
    MoveRoot,
    /// Without a mount namespace.
    ChangeRoot,
    /// Standard streams that are the host's null device become the container's, so that nothing of the host stays open.
    StandardNull,
    HostName {
        name: String,
    },
    DomainName {
        name: String,
    },
    Umask {
        mask: u32,
    },
    Personality {
        persona: u64,
    },
    Scheduler {
        attr: kernel::sched::SchedAttr,
    },
    IoPriority {
        class: u16,
        level: u16,
    },
    Rlimit(Rlimit),
    /// Processors that the process may run on.
    Affinity(NumberSet),
    /// Any processor of the cgroup, whatever the caller was bound to.
    ResetAffinity,
    MemoryPolicy(MemoryPolicy),
    NoNewPrivileges,
    AppArmor {
        profile: String,
    },
    SeLinux {
        label: String,
    },
    /// Rules about files, looked up from the container's root.
    Landlock(Policy),
    Seccomp,
    Identity(Identity),
    /// Enter the working directory as root, who may go where the user may not, and see that it is inside; if root may not, the
    /// user tries.
    EnterDirectory {
        path: PathBuf,
    },
    /// Enter it as the user if root could not.
    WorkingDirectory {
        path: PathBuf,
    },
    FindProgram,
    /// Tell the parent that all is well, and wait to be started.
    AwaitStart,
    StartContainerHooks {
        hooks: Vec<Hook>,
    },
    Exec,
}
