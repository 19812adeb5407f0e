//! Makes a container's cgroup, and where wanted its share of caches, and sets the limits, before there is a process in it.
//!
//! systemd makes a group only around a process, and ends it with the last. Init is to be born into its group, so that another
//! process holds the place until it is: [`Made::settle`] ends it, and lowers what had to have room for it.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;

use cgroup::Cgroup;
use cgroup::systemd::{Property, Scope, rounded};
use kernel::clone::{Clone, Forked, clone3, ns};
use oci_spec::runtime::{LinuxPidsBuilder, LinuxResources};

use super::Prepared;
use crate::failure::{Context, Failure, Result};
use crate::mount_options::What;
use crate::phrases;
use crate::rdt;
use crate::state::annotations;
use crate::validate::ValidSpec;

/// The group, and the part of it that was not there before, which a failure removes again.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cgroup: Cgroup,
    /// The shares of cache and bandwidth, where the config has any.
    pub(crate) rdt: Option<rdt::Group>,
    new: Cgroup,
    unit: Option<Held>,
}

/// A unit, and the process that keeps its place until init is there.
#[derive(Debug)]
struct Held {
    scope: Scope,
    holder: Holder,
    /// What is set once the holder is gone.
    then: Option<LinuxResources>,
}

impl Made {
    fn none() -> Self {
        Self {
            cgroup: Cgroup::none(),
            rdt: None,
            new: Cgroup::none(),
            unit: None,
        }
    }

    /// Removes what [`make`] made. The failure that leads here is the one to report.
    pub(crate) fn undo(&self) {
        if let Some(rdt) = &self.rdt {
            rdt.undo();
        }
        if let Some(unit) = &self.unit {
            unit.holder.end();
            let _second = unit.scope.stop();
        }
        let _second = self.new.delete();
    }

    /// Files that take the process which writes 0 to them into what needs joining.
    pub(crate) fn join_files(&self) -> Result<Vec<File>> {
        let mut files = self
            .cgroup
            .join_files()
            .context(|| "join cgroup".to_owned())?;
        if let Some(rdt) = &self.rdt {
            files.extend(rdt.join_files()?);
        }
        Ok(files)
    }

    /// Ends what held the place, now that init is in it.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        unit.holder.end();
        let Some(then) = &unit.then else {
            return Ok(());
        };
        let set = unit.scope.update(&self.cgroup, then);
        set.and_then(|()| self.cgroup.update(then))
            .context(applying)
    }
}

fn applying() -> String {
    "apply cgroup configuration".to_owned()
}

/// Makes the groups of container `id`.
pub(crate) fn make(prepared: &Prepared, id: &str) -> Result<Made> {
    let mut made = make_cgroup(prepared)?;
    let config = prepared.spec.linux().and_then(|l| l.intel_rdt().as_ref());
    if let (Some(config), Some(machine)) = (config, &prepared.resctrl) {
        let group = rdt::Group::make(machine, config, id);
        let group = group.context(|| "unable to apply Intel RDT configuration".to_owned());
        made.rdt = Some(group.inspect_err(|_| made.undo())?);
    }
    Ok(made)
}

/// Makes the group, or takes the one that is there if nobody is in it. A caller without the right to make one goes without, if
/// the config asks for neither a place nor a limit.
fn make_cgroup(prepared: &Prepared) -> Result<Made> {
    let Prepared {
        spec,
        cgroup,
        scope,
        ..
    } = prepared;
    let resources = spec
        .linux()
        .and_then(|l| l.resources().clone())
        .unwrap_or_default();
    if let Some(scope) = scope {
        return make_unit(scope, cgroup, spec, &rounded(&resources));
    }
    let cgroup::Made { new, all } = match cgroup.create(&resources) {
        Err(e) if e.is_permission() && !kernel::identity::is_host_root() => {
            return without(spec, &resources, e);
        }
        other => other.context(applying)?,
    };
    let made = Made {
        cgroup: cgroup.clone(),
        rdt: None,
        new,
        unit: None,
    };
    let set = || -> Result<()> {
        if !all {
            refuse_if_used(cgroup)?;
        }
        set(cgroup, spec, &resources)
    };
    set().inspect_err(|_| made.undo()).map(|()| made)
}

fn set(cgroup: &Cgroup, spec: &ValidSpec, resources: &LinuxResources) -> Result<()> {
    if let Some(user) = owner(spec) {
        cgroup.delegate(user).context(applying)?;
    }
    cgroup.limit(resources).context(applying)
}

/// No group for a caller who may make none, unless one is needed.
fn without(spec: &ValidSpec, resources: &LinuxResources, refusal: cgroup::Error) -> Result<Made> {
    let place = spec.linux().and_then(|l| l.cgroups_path().as_ref());
    if place.is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(refusal).context(applying);
    }
    if limits(resources) {
        return Err(refusal).context(|| {
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
                .to_owned()
        });
    }
    Ok(Made::none())
}

/// Has systemd make the group around a process that holds its place, and sets in it what systemd does not.
fn make_unit(
    scope: &Scope,
    cgroup: &Cgroup,
    spec: &ValidSpec,
    resources: &LinuxResources,
) -> Result<Made> {
    let further = annotations(&spec.spec)
        .into_iter()
        .filter_map(|(key, value)| Property::from_annotation(key, value).transpose())
        .collect::<cgroup::Result<Vec<_>>>()
        .context(|| "config.json: /annotations".to_owned())?;
    let holder = Holder::start()?;
    // One process more than the config may allow.
    let (first, then) = with_room(resources);
    let mut made = Made {
        cgroup: cgroup.clone(),
        rdt: None,
        new: Cgroup::none(),
        unit: None,
    };
    let started = scope.start(holder.pid, cgroup.layout(), &first, &further);
    if let Err(error) = started {
        holder.end();
        return Err(error).context(applying);
    }
    made.unit = Some(Held {
        scope: scope.clone(),
        holder,
        then,
    });
    let fill = || -> Result<Cgroup> {
        let new = cgroup.create(&first).context(applying)?.new;
        set(cgroup, spec, &first)?;
        Ok(new)
    };
    match fill() {
        Ok(new) => {
            made.new = new;
            Ok(made)
        }
        Err(failure) => {
            made.undo();
            Err(failure)
        }
    }
}

/// The resources with room for two processes, and what is to be set once one is enough.
fn with_room(resources: &LinuxResources) -> (LinuxResources, Option<LinuxResources>) {
    let tight = resources
        .pids()
        .as_ref()
        .is_some_and(|p| matches!(p.limit(), 0 | 1));
    let two = LinuxPidsBuilder::default().limit(2).build();
    let (true, Ok(two)) = (tight, two) else {
        return (resources.clone(), None);
    };
    let mut first = resources.clone();
    first.set_pids(Some(two));
    let mut then = LinuxResources::default();
    then.set_devices(None);
    then.set_pids(*resources.pids());
    (first, Some(then))
}

/// A process that does nothing, until it is told to end or its parent is gone.
#[derive(Debug)]
struct Holder {
    pid: i32,
    ours: UnixStream,
}

impl Holder {
    fn start() -> Result<Self> {
        let starting = || phrases::CANNOT_START.to_owned();
        let (ours, mut theirs) = UnixStream::pair().context(starting)?;
        match clone3(Clone::default()).context(starting)? {
            Forked::Parent { pid, .. } => Ok(Self { pid, ours }),
            Forked::Child => {
                drop(ours);
                // Its end is what there is to read.
                let _over = theirs.read(&mut [0]);
                kernel::process::exit_now(0)
            }
        }
    }

    /// Ends it, and returns when it is gone.
    fn end(&self) {
        let _gone = self.ours.shutdown(std::net::Shutdown::Both);
        let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
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
