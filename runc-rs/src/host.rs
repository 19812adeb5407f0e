//! The facts about this machine that decisions need, gathered once before anything is decided.

use std::path::{Path, PathBuf};

use cgroup::systemd::Scope;
use cgroup::{Cgroup, Host, Layout};

use crate::failure::{Context, Failure, Result};

/// How one controller is shown to a container that mounts cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupView {
    /// Directory name below the mount, as on the host (`cpu,cpuacct`); empty on v2.
    pub(crate) name: String,
    /// Hierarchy names that are mounted together there.
    pub(crate) controllers: Vec<String>,
    /// The container's own directory on the host.
    pub(crate) dir: PathBuf,
}

/// What the plan asks about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFacts {
    pub(crate) cgroup_v2: bool,
    pub(crate) cgroups: Vec<CgroupView>,
    /// Capabilities that this kernel knows and this caller may hand on.
    pub(crate) bounding: u64,
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    /// The version of Landlock; 0 for none.
    pub(crate) landlock: u32,
}

/// The cgroup of a container, by its config or by its id; and the unit that it belongs to, where systemd is to make it.
pub(crate) fn cgroup(
    host: &Host,
    path: Option<&Path>,
    id: &str,
    systemd: bool,
) -> Result<(Cgroup, Option<Scope>)> {
    let wanted = || "cgroupsPath".to_owned();
    let path = path.filter(|p| !p.as_os_str().is_empty());
    if !systemd {
        let path = path.unwrap_or(Path::new(id));
        return Ok((Cgroup::named(host, path).context(wanted)?, None));
    }
    let user = !kernel::identity::is_host_root();
    if user && host.layout() != Layout::V2 {
        return Err(Failure::new(
            "cannot use rootless systemd cgroups manager on cgroup v1",
        ));
    }
    let scope = Scope::named(path, id, user).context(wanted)?;
    let place = scope.path().context(wanted)?;
    Ok((Cgroup::named(host, &place).context(wanted)?, Some(scope)))
}

/// The hierarchies of this machine.
pub(crate) fn cgroups() -> Result<Host> {
    Host::detect().context(|| "find cgroups".to_owned())
}

/// Whether SELinux has a policy: without one every process is labelled as the kernel is.
fn selinux() -> bool {
    let labelled = |text: Vec<u8>| !text.starts_with(b"kernel") && !text.is_empty();
    Path::new("/sys/fs/selinux/enforce").exists()
        && std::fs::read("/proc/thread-self/attr/current").is_ok_and(labelled)
}

/// Looks at the machine.
pub(crate) fn facts(host: &Host, cgroup: &Cgroup) -> Result<HostFacts> {
    let mut cgroups: Vec<CgroupView> = Vec::new();
    // Beside version 1 a version 2 hierarchy limits nothing that containers know of, and is not shown to them.
    let shown = |name: &str| host.layout() == Layout::V2 || !name.is_empty();
    for (name, mount) in host.hierarchies().filter(|(name, _)| shown(name)) {
        let Some(dir) = cgroup.dirs().get(name) else {
            continue;
        };
        let place = mount
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        match cgroups.iter_mut().find(|view| view.dir == *dir) {
            Some(view) => view.controllers.push(name.to_owned()),
            None => cgroups.push(CgroupView {
                name: place,
                controllers: vec![name.to_owned()],
                dir: dir.clone(),
            }),
        }
    }
    let enabled = |file: &str| std::fs::read(file).is_ok_and(|text| text.first() == Some(&b'Y'));
    Ok(HostFacts {
        cgroup_v2: host.layout() == Layout::V2,
        cgroups,
        bounding: kernel::identity::bounding_set().context(|| "read bounding set".to_owned())?,
        apparmor: enabled("/sys/module/apparmor/parameters/enabled"),
        selinux: selinux(),
        landlock: kernel::landlock::version(),
    })
}
