//! Makes a container's cgroup and sets its limits, before there is a process in it.

use cgroup::Cgroup;
use kernel::clone::ns;
use oci_spec::runtime::LinuxResources;

use crate::failure::{Context, Failure, Result};
use crate::mount_options::What;
use crate::validate::ValidSpec;

/// The group, and the part of it that was not there before, which a failure removes again.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cgroup: Cgroup,
    new: Cgroup,
}

impl Made {
    /// Removes what [`make`] made. The failure that leads here is the one to report.
    pub(crate) fn undo(&self) {
        let _second = self.new.delete();
    }
}

/// Makes the group, or takes the one that is there if nobody is in it. A caller without the right to make one goes without, if
/// the config asks for neither a place nor a limit.
pub(crate) fn make(cgroup: &Cgroup, spec: &ValidSpec) -> Result<Made> {
    let applying = || "apply cgroup configuration".to_owned();
    let linux = spec.linux();
    let resources = linux
        .and_then(|l| l.resources().clone())
        .unwrap_or_default();
    let cgroup::Made { new, all } = match cgroup.create(&resources) {
        Err(e) if e.is_permission() && !kernel::identity::is_host_root() => {
            let place = linux.and_then(|l| l.cgroups_path().as_ref());
            if place.is_some_and(|path| !path.as_os_str().is_empty()) {
                return Err(e).context(applying);
            }
            if limits(&resources) {
                return Err(e).context(|| {
                    "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
                        .to_owned()
                });
            }
            return Ok(Made {
                cgroup: Cgroup::none(),
                new: Cgroup::none(),
            });
        }
        other => other.context(applying)?,
    };
    let made = Made {
        cgroup: cgroup.clone(),
        new,
    };
    let set = || -> Result<()> {
        if !all {
            refuse_if_used(cgroup)?;
        }
        if let Some(user) = owner(spec) {
            cgroup.delegate(user).context(applying)?;
        }
        cgroup.limit(&resources).context(applying)
    };
    match set() {
        Ok(()) => Ok(made),
        Err(failure) => {
            made.undo();
            Err(failure)
        }
    }
}

fn refuse_if_used(cgroup: &Cgroup) -> Result<()> {
    let busy = cgroup.pids().context(|| "look into cgroup".to_owned())?;
    if !busy.is_empty() {
        return Err(Failure::new(format!(
            "container's cgroup is not empty: {} process(es) found",
            busy.len()
        )));
    }
    if cgroup.is_frozen().context(|| "read freezer".to_owned())? {
        return Err(Failure::new("container's cgroup unexpectedly frozen"));
    }
    Ok(())
}

/// Whether anything is limited. Device rules are not counted: whoever may make no group can make and reach no device either.
fn limits(resources: &LinuxResources) -> bool {
    resources.memory().is_some()
        || resources.cpu().is_some()
        || resources.pids().is_some()
        || resources.block_io().is_some()
        || resources.network().is_some()
        || resources
            .hugepage_limits()
            .as_ref()
            .is_some_and(|l| !l.is_empty())
        || resources.rdma().as_ref().is_some_and(|r| !r.is_empty())
        || resources.unified().as_ref().is_some_and(|u| !u.is_empty())
}

/// The user who is to own the group: the container's own, if it has users and a cgroup namespace of its own and can write to its
/// cgroups. `None` leaves the group to the caller.
fn owner(spec: &ValidSpec) -> Option<u32> {
    let apart = spec.namespaces.new & ns::CGROUP != 0 && spec.namespaces.has(ns::USER);
    let writable = spec
        .mounts
        .iter()
        .any(|m| matches!(m.what, What::Cgroup) && m.set & kernel::mount::RDONLY == 0);
    if !apart || !writable {
        return None;
    }
    let uid = spec.process.identity.uid;
    spec.linux()?
        .uid_mappings()
        .iter()
        .flatten()
        .find_map(|map| {
            let offset = uid
                .checked_sub(map.container_id())
                .filter(|o| *o < map.size())?;
            map.host_id().checked_add(offset)
        })
}
