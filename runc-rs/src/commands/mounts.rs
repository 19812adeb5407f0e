//! `mounts add` and `mounts remove`: mounts of a container that runs already.
//!
//! 1. The words are sorted as those of a config's mounts are; what cannot be done late is refused.
//! 2. The source is copied on the host, as a detached mount, and given its owners.
//! 3. A process joins the container and mounts it there ([`late`]).
//! 4. The mount's number is recorded, so that `remove` takes away what was added and nothing else.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel::clone::{Clone, Forked, clone3, ns};
use kernel::mount::{Attr, IDMAP, Tree};
use oci_spec::runtime::{Mount, MountBuilder};

use crate::cli::{AddMountArgs, RemoveMountArgs};
use crate::commands::Globals;
use crate::commands::kill::has;
use crate::failure::{Context, Failure, Result};
use crate::host;
use crate::init::late::{self, Change, Container};
use crate::mount_options::{Mounting, What};
use crate::phrases;
use crate::plan;
use crate::state::{AddedMount, Place, Record, Status, process_start};
use crate::sync::{Channel, FromInit};
use crate::validate::NAMESPACES;

pub(super) fn add(globals: &Globals, args: &AddMountArgs) -> Result<()> {
    let (place, _) = globals.container(&args.id)?;
    let _locked = place.lock()?;
    let mut record = place.load()?;
    let mount = MountBuilder::default()
        .destination(Path::new("/").join(&args.target))
        .typ(args.kind.clone())
        .options(args.options.clone());
    let mount = match &args.source {
        Some(source) => mount.source(source),
        None => mount,
    };
    let mount = mount.build().context(|| "mounts add".to_owned())?;
    let here = std::env::current_dir().context(|| "find current directory".to_owned())?;
    let facts = host::facts(&host::cgroups()?, &record.cgroup())?;
    let label = plan::mount_label(record.spec.linux().as_ref(), &facts)?;
    let wanted = Mounting::parse(&mount, &here, &record.config.rootfs).labelled(label.as_ref());
    check(&wanted)?;
    let about = || format!("mount {wanted} in container {}", record.id);
    let container = container(&place, &record)?;
    let number = source(&wanted, &container, &record)
        .and_then(|source| {
            let change = Change::Add {
                wanted: &wanted,
                source,
            };
            carry_out(&container, change)
        })
        .context(about)?;
    record.added_mounts.push(AddedMount {
        number,
        mount: as_recorded(mount, &wanted),
    });
    place.save(&record)
}

pub(super) fn remove(globals: &Globals, args: &RemoveMountArgs) -> Result<()> {
    let (place, _) = globals.container(&args.id)?;
    let _locked = place.lock()?;
    let mut record = place.load()?;
    let container = container(&place, &record)?;
    let added: Vec<u64> = record.added_mounts.iter().map(|m| m.number).collect();
    let change = Change::Remove {
        target: &args.target,
        added: &added,
        whatever: args.force,
    };
    let number = carry_out(&container, change)
        .context(|| format!("unmount {} in container {}", args.target.display(), args.id))?;
    record.added_mounts.retain(|m| m.number != number);
    place.save(&record)
}

/// What a running container cannot be given.
fn check(wanted: &Mounting) -> Result<()> {
    let wrong = |what: &str| Err(Failure::new(format!("mounts add: {what}")));
    match &wanted.what {
        What::Bind { .. } if wanted.source.is_none() => wrong("--type bind needs a --source"),
        What::Bind { .. } => Ok(()),
        What::Remount => wrong("remount changes a mount; it adds none"),
        // Both show what the process that mounts them belongs to, which is not in the container.
        What::Cgroup => wrong("cgroups are mounted when a container is created"),
        What::New(kind) if kind == "proc" => wrong("proc is mounted when a container is created"),
        // What is there would be found through the container's own procfs.
        What::New(_) if wanted.copy_up => wrong("tmpcopyup is for mounts of a config"),
        What::New(_) if wanted.owners.is_some() => wrong("idmap is for bind mounts only"),
        What::New(_) => Ok(()),
    }
}

/// The mount by names that mean the same later and elsewhere.
fn as_recorded(mut mount: Mount, wanted: &Mounting) -> Mount {
    mount.set_destination(wanted.destination.clone());
    mount.set_source(wanted.source.clone());
    mount
}

/// What there is to join of a container that lives.
fn container(place: &Place, record: &Record) -> Result<Container> {
    if place.status(record)? == Status::Stopped {
        return Err(Failure::new(phrases::NOT_RUNNING));
    }
    if !has(record, ns::MOUNT) {
        return Err(Failure::new(
            "container has no mount namespace of its own: what is mounted there is mounted on the host",
        ));
    }
    let pid = record.init_process_pid;
    let process = kernel::process::pidfd_open(pid).context(|| phrases::NOT_RUNNING.to_owned())?;
    if process_start(pid) != Some(record.init_process_start) {
        return Err(Failure::new(phrases::NOT_RUNNING));
    }
    let kinds = NAMESPACES
        .iter()
        .map(|(kind, ..)| *kind)
        .filter(|kind| has(record, *kind) && !matches!(*kind, ns::PID | ns::TIME))
        .fold(0, |all, kind| all | kind);
    Ok(Container {
        process,
        kinds,
        users_first: kinds & ns::USER != 0 && !kernel::identity::is_host_root(),
        proc: kernel::path::open_proc().context(|| "open /proc".to_owned())?,
    })
}

/// A detached copy of what a bind mount shows; none where only a process in the container's user namespace may make it.
fn source(wanted: &Mounting, container: &Container, record: &Record) -> Result<Option<OwnedFd>> {
    let What::Bind { recursive } = wanted.what else {
        return Ok(None);
    };
    if container.users_first {
        return match &wanted.owners {
            Some(_) => Err(Failure::new("idmap needs root on the host")),
            None => Ok(None),
        };
    }
    let source = wanted.source.as_deref().unwrap_or(Path::new(""));
    let tree = kernel::mount::open_tree(kernel::mount::cwd(), source, Tree::Clone { recursive })
        .context(|| format!("open {}", source.display()))?;
    if let Some(owners) = &wanted.owners {
        if container.kinds & ns::USER == 0 {
            return Err(Failure::new(
                "idmap needs a container with a user namespace of its own",
            ));
        }
        let users = File::open(format!("/proc/{}/ns/user", record.init_process_pid))
            .context(|| "change owners".to_owned())?;
        if process_start(record.init_process_pid) != Some(record.init_process_start) {
            return Err(Failure::new(phrases::NOT_RUNNING));
        }
        let attr = Attr {
            set: IDMAP,
            userns: Some(users.as_fd()),
            ..Attr::default()
        };
        kernel::mount::set_attr(tree.as_fd(), owners.recursive, &attr)
            .context(|| "change owners".to_owned())?;
    }
    Ok(Some(tree))
}

/// Has a process make the change in the container; the mount's number.
fn carry_out(container: &Container, change: Change<'_>) -> Result<u64> {
    let joining = || "join the container".to_owned();
    let (ours, theirs) = Channel::pair().context(joining)?;
    let pid = match clone3(Clone::default()).context(joining)? {
        Forked::Child => {
            drop(ours);
            late::run(container, change, &theirs)
        }
        Forked::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let heard = ours.hear();
    let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    match heard.context(joining)? {
        Some(FromInit::Mounted(number)) => Ok(number),
        Some(FromInit::Failed { errno, subject, .. }) => Err(match (errno, subject.as_str()) {
            (0, words) => Failure::new(words),
            (errno, "") => Failure::new(phrases::errno_words(errno)),
            (errno, words) => Failure::because(words, std::io::Error::from_raw_os_error(errno)),
        }),
        other => Err(Failure::new(format!(
            "the process that joined the container ended without a word: {other:?}"
        ))),
    }
}
