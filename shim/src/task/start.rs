//! Starts a process: init by the runtime's start, or by its restore if it was
//! created with a checkpoint; an exec by the runtime's exec.

use std::ffi::OsString;
use std::rc::Rc;
use std::time::SystemTime;

use proto::containerd::events::{TaskExecStarted, TaskStart};

use super::checkpoint::Restore;
use super::create::{launch, take_back, watch_cgroup};
use super::state::{Event, Status};
use super::{Container, Process, Shim, exit};
use crate::bundle::{self, Exit};
use crate::failure::{Failure, Result};

/// The exit code of a process that could not be started.
const NOT_STARTED: u32 = 255;

/// Starts the process; returns its pid.
pub(crate) async fn start(shim: &Rc<Shim>, id: &str, exec: &str) -> Result<u32> {
    let (container, process) = shim.process(id, exec)?;
    // Held until the event is queued: the exit waits for its turn, so it is
    // announced after the start.
    let _turn = process.turn.lock().await;
    let running = process.status.get().after(Event::Started, "start")?;
    if process.exec.is_some() {
        return start_exec(shim, &container, &process, running).await;
    }
    let restore = container.restore.borrow_mut().take();
    match restore {
        Some(restore) => start_restored(shim, &container, &restore).await?,
        None => {
            let started = container.runtime.run(["start", id]).await;
            started.map_err(|err| err.during("OCI runtime start failed"))?;
        }
    }
    process.status.set(running);
    process.io.start_input();
    shim.publisher.publish(&TaskStart {
        container_id: container.id.clone(),
        pid: process.pid.get(),
    });
    Ok(process.pid.get())
}

/// Has the runtime make the container's processes from a checkpoint. One that
/// cannot be restored has ended: its checkpoint is not tried twice.
async fn start_restored(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    restore: &Restore,
) -> Result<()> {
    let init = &container.init;
    let window = shim.reaper.open_window();
    let args = restore.args(&container.bundle, &container.options);
    let pid = match launch(shim, container, init, args, "OCI runtime restore failed").await {
        Ok(pid) => pid,
        Err((err, made)) => {
            if made {
                take_back(container).await;
            }
            never_ran(init).await;
            return Err(err);
        }
    };
    watch_cgroup(shim, container, pid);
    exit::follow(shim, container, init, window.watch(pid));
    Ok(())
}

/// Ends a process that could not be started.
async fn never_ran(process: &Process) {
    process.io.close().await;
    process.reaped.set(true);
    process.status.set(Status::Stopped);
    process.exit.send_replace(Some(Exit {
        pid: 0,
        status: NOT_STARTED,
        at: SystemTime::now(),
    }));
}

async fn start_exec(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    process: &Rc<Process>,
    running: Status,
) -> Result<u32> {
    if container.init.reaped.get() {
        return Err(Failure::precondition(format!(
            "container {} init process is not running",
            container.id
        )));
    }
    let exec = process.exec.as_deref();
    let spec = bundle::process_path(&container.bundle, exec, "json");
    bundle::replace(&spec, &process.spec)
        .map_err(|err| Failure::because(format!("write {}", spec.display()), &err))?;
    container.execs_alive.send_modify(|count| *count += 1);
    let window = shim.reaper.open_window();
    let args: Vec<OsString> = vec![
        "exec".into(),
        "--process".into(),
        spec.clone().into(),
        "--detach".into(),
    ];
    let launched = launch(shim, container, process, args, "OCI runtime exec failed").await;
    // The runtime has read it; a leftover would only be litter.
    let _ = std::fs::remove_file(&spec);
    let pid = match launched {
        Ok(pid) => pid,
        Err((err, _)) => {
            container.execs_alive.send_modify(|count| *count -= 1);
            never_ran(process).await;
            return Err(err);
        }
    };
    process.status.set(running);
    process.io.start_input();
    shim.publisher.publish(&TaskExecStarted {
        container_id: container.id.clone(),
        exec_id: process.exec.clone().unwrap_or_default(),
        pid,
    });
    exit::follow(shim, container, process, window.watch(pid));
    Ok(pid)
}
