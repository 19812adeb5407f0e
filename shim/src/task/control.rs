//! What can be asked of a container while it runs.

use std::rc::Rc;

use nix::errno::Errno;
use prost_types::Any;
use proto::containerd::events::{TaskPaused, TaskResumed};

use super::state::{Event, Status};
use super::{Process, Shim};
use crate::bundle::Exit;
use crate::cgroups;
use crate::failure::{Failure, Result};

/// A process's state as `State` tells it.
pub(crate) struct View {
    /// The process.
    pub(crate) process: Rc<Process>,
    /// Its container's bundle.
    pub(crate) bundle: String,
    /// Its state; a frozen container's processes are all frozen.
    pub(crate) status: Status,
}

/// The state of a process.
pub(crate) fn state(shim: &Shim, id: &str, exec: &str) -> Result<View> {
    let (container, process) = shim.process(id, exec)?;
    let status = match (container.init.status.get(), process.status.get()) {
        (frozen @ (Status::Paused | Status::Pausing), Status::Running) => frozen,
        (_, own) => own,
    };
    Ok(View {
        process,
        bundle: container.bundle.display().to_string(),
        status,
    })
}

/// Waits for the end of a process, which may be long past.
pub(crate) async fn wait(shim: &Shim, id: &str, exec: &str) -> Result<Exit> {
    let (_, process) = shim.process(id, exec)?;
    let mut exit = process.exit.subscribe();
    let exit = exit
        .wait_for(Option::is_some)
        .await
        .map_err(|err| Failure::because("wait", &err))?;
    exit.ok_or_else(|| Failure::unknown("process has no exit"))
}

/// Sends `signal` to a process, or with `all` to every one of the container.
pub(crate) async fn kill(shim: &Shim, id: &str, exec: &str, signal: u32, all: bool) -> Result<()> {
    let (container, process) = shim.process(id, exec)?;
    if process.exec.is_some() {
        return kill_exec(&process, signal);
    }
    if process.reaped.get() && !all {
        return Err(Failure::not_found("process already finished"));
    }
    let signal = signal.to_string();
    let args = if all {
        vec!["kill", "--all", id, &signal]
    } else {
        vec!["kill", id, &signal]
    };
    container
        .runtime
        .run(args)
        .await
        .map(drop)
        .map_err(|err| err.during_kill())
}

fn kill_exec(process: &Process, signal: u32) -> Result<()> {
    // No await between this check and the kill: the pid is still its own.
    if process.reaped.get() {
        return Err(Failure::not_found("process already finished"));
    }
    let pid = i32::try_from(process.pid.get()).unwrap_or(0);
    if pid == 0 {
        return Err(Failure::precondition("process not created"));
    }
    let signal = i32::try_from(signal).unwrap_or(-1);
    match kernel::signals::kill(pid, signal) {
        Err(err) if err.raw_os_error() == Some(Errno::ESRCH as i32) => {
            Err(Failure::not_found("process already finished"))
        }
        Err(err) => Err(Failure::because("exec kill error", &err)),
        Ok(()) => Ok(()),
    }
}

/// The container's use of resources, as containerd's metrics.
pub(crate) fn stats(shim: &Shim, id: &str) -> Result<Any> {
    let container = shim.container(id)?;
    match &*container.cgroup.borrow() {
        Some(group) => cgroups::stats(group),
        None => Err(Failure::not_found("cgroup does not exist")),
    }
}

/// Freezes the container.
pub(crate) async fn pause(shim: &Shim, id: &str) -> Result<()> {
    let container = shim.container(id)?;
    let init = &container.init;
    let _turn = init.turn.lock().await;
    init.status
        .set(init.status.get().after(Event::Pausing, "pause")?);
    let paused = container.runtime.run(["pause", id]).await;
    let event = if paused.is_ok() {
        Event::Paused
    } else {
        Event::Resumed
    };
    init.status.set(init.status.get().after(event, "pause")?);
    paused.map_err(|err| err.during("OCI runtime pause failed"))?;
    shim.publisher.publish(&TaskPaused {
        container_id: container.id.clone(),
    });
    Ok(())
}

/// Thaws the container.
pub(crate) async fn resume(shim: &Shim, id: &str) -> Result<()> {
    let container = shim.container(id)?;
    let init = &container.init;
    let _turn = init.turn.lock().await;
    let running = init.status.get().after(Event::Resumed, "resume")?;
    container
        .runtime
        .run(["resume", id])
        .await
        .map_err(|err| err.during("OCI runtime resume failed"))?;
    init.status.set(running);
    shim.publisher.publish(&TaskResumed {
        container_id: container.id.clone(),
    });
    Ok(())
}

/// Changes the container's limits; `resources` is the JSON of OCI's.
pub(crate) async fn update(shim: &Shim, id: &str, resources: &[u8]) -> Result<()> {
    let container = shim.container(id)?;
    if container.init.status.get() == Status::Stopped {
        return Err(Failure::precondition("cannot update a stopped container"));
    }
    let path = container.bundle.join("resources.json");
    crate::bundle::replace(&path, resources)
        .map_err(|err| Failure::because(format!("write {}", path.display()), &err))?;
    let updated = container
        .runtime
        .run([
            "update".as_ref(),
            "--resources".as_ref(),
            path.as_os_str(),
            id.as_ref(),
        ])
        .await;
    // The runtime has read it.
    let _ = std::fs::remove_file(&path);
    updated
        .map(drop)
        .map_err(|err| err.during("OCI runtime update failed"))
}

/// Sets the size of a process's terminal.
pub(crate) fn resize(shim: &Shim, id: &str, exec: &str, columns: u32, rows: u32) -> Result<()> {
    let (_, process) = shim.process(id, exec)?;
    if process.exec.is_some() && process.status.get() == Status::Stopped {
        return Err(Failure::precondition("cannot resize a stopped container"));
    }
    let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    process
        .io
        .resize(small(columns), small(rows))
        .map_err(|err| Failure::because("resize terminal", &err))
}

/// Ends a process's input.
pub(crate) fn close_io(shim: &Shim, id: &str, exec: &str) -> Result<()> {
    let (_, process) = shim.process(id, exec)?;
    process.io.close_stdin();
    Ok(())
}

/// The container's processes, with the exec id of those that have one.
pub(crate) fn pids(shim: &Shim, id: &str) -> Result<Vec<(u32, Option<String>)>> {
    let container = shim.container(id)?;
    let execs = container.execs.borrow();
    let known: Vec<(u32, Option<String>)> = std::iter::once(&container.init)
        .chain(execs.values())
        .filter(|process| process.pid.get() != 0 && !process.reaped.get())
        .map(|process| (process.pid.get(), process.exec.clone()))
        .collect();
    if container.init.reaped.get() {
        return Ok(known);
    }
    let mut pids: Vec<(u32, Option<String>)> = container
        .cgroup
        .borrow()
        .as_ref()
        .map(cgroups::pids)
        .unwrap_or_default()
        .into_iter()
        .map(|pid| {
            known
                .iter()
                .find(|(own, _)| *own == pid)
                .cloned()
                .unwrap_or((pid, None))
        })
        .collect();
    for process in known {
        if !pids.contains(&process) {
            pids.push(process);
        }
    }
    Ok(pids)
}
