//! `delete`: removes what a container holds.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::DeleteArgs;
use crate::commands::Globals;
use crate::commands::kill::{signal_all, signal_init};
use crate::commands::state::document;
use crate::failure::{Context, Failure, Result};
use crate::phrases;
use crate::rdt;
use crate::state::{ContainerId, Place, Record, Status, process_start};

/// How long a killed process may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(globals: &Globals, args: &DeleteArgs) -> Result<()> {
    for id in &args.ids {
        delete(globals, id, args.force)?;
    }
    Ok(())
}

fn delete(globals: &Globals, id: &str, force: bool) -> Result<()> {
    let place = Place::new(&globals.root, &ContainerId::parse(id)?);
    let record = match place.load() {
        Ok(record) => record,
        // With force, what a killed create left behind goes as well.
        Err(_) if force => return place.remove(),
        Err(failure) => return Err(failure),
    };
    match place.status(&record)? {
        Status::Stopped => {}
        Status::Created => stop(&record)?,
        Status::Running | Status::Paused if force => stop(&record)?,
        status @ (Status::Running | Status::Paused) => {
            return Err(Failure::new(phrases::not_stopped(id, status.word())));
        }
    }
    remove(globals, &place, &record)
}

/// Kills the container's first process, and with it its pid namespace, and waits for its end.
fn stop(record: &Record) -> Result<()> {
    let Ok(pidfd) = kernel::process::pidfd_open(record.init_process_pid) else {
        return Ok(());
    };
    match signal_init(record, nix::libc::SIGKILL) {
        Err(_) if process_start(record.init_process_pid) != Some(record.init_process_start) => {
            return Ok(());
        }
        other => other?,
    }
    let cgroup = record.cgroup();
    if cgroup.is_frozen().unwrap_or(false) {
        cgroup.freeze(false).context(|| "thaw".to_owned())?;
    }
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, limit).context(|| "wait for process".to_owned())? {
        0 => Err(Failure::new("container init still running")),
        _ => Ok(()),
    }
}

/// Removes the cgroup with whoever is left in it, the state, and runs the last hooks, whose failures are only warned about.
pub(super) fn remove(globals: &Globals, place: &Place, record: &Record) -> Result<()> {
    let cgroup = record.cgroup();
    let deleting = || "delete container".to_owned();
    let scope = record.scope();
    // Mostly nobody is left in it, and the kernel knows; systemd removes its own.
    if scope.is_some() || !cgroup.delete_empty().context(deleting)? {
        if !cgroup.pids().unwrap_or_default().is_empty() {
            signal_all(record, nix::libc::SIGKILL)?;
        }
        if let Some(scope) = scope {
            scope.stop().context(deleting)?;
        }
        cgroup.delete().context(deleting)?;
    }
    if let Some((path, monitor)) = record.rdt() {
        rdt::remove(path, monitor, record.intel_rdt_own).context(deleting)?;
    }
    place.remove()?;
    let hooks = record
        .spec
        .hooks()
        .as_ref()
        .and_then(|h| h.poststop().as_deref())
        .unwrap_or_default();
    if !hooks.is_empty() {
        let state = document(record, Status::Stopped, false)?;
        for (at, _) in hooks.iter().enumerate() {
            if let Err(failure) = crate::hooks::run("poststop", &hooks[at..=at], &state) {
                globals.log.warn(&failure.chain());
            }
        }
    }
    Ok(())
}
