//! Mounts of a container that runs already: a process joins the container's namespaces, makes or takes away one mount there,
//! and ends.
//!
//! It is a clone of its parent and never becomes another program. It does not join the container's pids, so that where those are
//! a namespace of their own nobody in there sees it. The container's names are as hostile as its image: the target is resolved
//! once, by the kernel, and what was looked at is what is mounted on or taken away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::clone::ns;
use kernel::mount::{self, Tree};
use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::StepError;
use super::mounting::Around;
use crate::mount_options::{Mounting, What};
use crate::sync::{Channel, FromInit};

/// What to do.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// Mount. `source` is the detached copy of what a bind mount shows; without one it is opened by this process.
    Add {
        wanted: &'a Mounting,
        source: Option<OwnedFd>,
    },
    /// Take away what is mounted on `target`, if its number is among `added`, or whatever it is.
    Remove {
        target: &'a Path,
        added: &'a [u64],
        whatever: bool,
    },
}

/// The container to join.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its first process.
    pub(crate) process: OwnedFd,
    /// Its namespaces, without pids.
    pub(crate) kinds: u64,
    /// Whether this process is somebody in the container's user namespace alone.
    pub(crate) users_first: bool,
    /// The host's procfs, checked.
    pub(crate) proc: OwnedFd,
}

/// Makes the change and ends, having told the mount's number over `channel`, or what went wrong.
pub(crate) fn run(container: &Container, change: Change<'_>, channel: &Channel) -> ! {
    let said = match apply(container, change) {
        Ok(number) => channel.tell(&FromInit::Mounted(number)),
        Err(error) => channel.tell(&FromInit::Failed {
            step: 0,
            errno: error.errno,
            fault: error.fault,
            subject: error.subject,
        }),
    };
    kernel::process::exit_now(i32::from(said.is_err()))
}

fn apply(container: &Container, change: Change<'_>) -> Result<u64, StepError> {
    // In the container nobody is to look into this process, which has all of the host open.
    kernel::process::dumpable(false)?;
    let mut kinds = container.kinds;
    if container.users_first {
        kernel::process::setns(container.process.as_fd(), ns::USER)?;
        kinds &= !ns::USER;
    }
    let change = match change {
        Change::Add {
            wanted,
            source: None,
        } => Change::Add {
            wanted,
            source: source(wanted)?,
        },
        other => other,
    };
    kernel::process::setns(container.process.as_fd(), kinds)
        .map_err(|e| StepError::from(e).about("join namespaces of the container"))?;
    if container.kinds & ns::USER != 0 {
        // What is made in the container belongs to its root.
        kernel::identity::set_group(0)?;
        kernel::identity::set_user(0)?;
    }
    kernel::process::dumpable(false)?;
    let root = path::open_dir(Path::new("/"))?;
    match change {
        Change::Add { wanted, source } => {
            let around = Around {
                root: root.as_fd(),
                proc: container.proc.as_fd(),
                shared: false,
                locked: container.kinds & ns::USER != 0,
            };
            let made = around.mount(wanted, source)?;
            let made = made.ok_or_else(|| StepError::from(Errno::EINVAL))?;
            Ok(mount::number(made.as_fd())?.number)
        }
        Change::Remove {
            target,
            added,
            whatever,
        } => remove(container, root.as_fd(), target, added, whatever),
    }
}

/// Without privileges the source can be had only in a mount namespace of the container's users.
fn source(wanted: &Mounting) -> Result<Option<OwnedFd>, StepError> {
    let What::Bind { recursive } = wanted.what else {
        return Ok(None);
    };
    kernel::process::unshare(ns::MOUNT)?;
    let source = wanted.source.as_deref().unwrap_or(Path::new(""));
    mount::open_tree(mount::cwd(), source, Tree::Clone { recursive })
        .map(Some)
        .map_err(|e| StepError::from(e).about("source"))
}

fn remove(
    container: &Container,
    root: BorrowedFd<'_>,
    target: &Path,
    added: &[u64],
    whatever: bool,
) -> Result<u64, StepError> {
    let flags = OFlag::O_PATH.bits();
    let place = path::open_in(root, target, flags, 0, Within::Root)?;
    let found = mount::number(place.as_fd())?;
    if !found.is_root || found == mount::number(root)? {
        return Err(StepError::words("nothing is mounted there".to_owned()));
    }
    if !whatever && !added.contains(&found.number) {
        return Err(StepError::words(
            "what is mounted there was not added to the running container; --force takes it away all the same".to_owned(),
        ));
    }
    mount::detach_opened(container.proc.as_fd(), place.as_fd())
        .map_err(|e: io::Error| StepError::from(e).about("unmount"))?;
    Ok(found.number)
}
