//! Deletes a process that has ended, or a container that never started.

use std::rc::Rc;
use std::time::Duration;

use proto::containerd::events::TaskDelete;

use super::state::{Event, Status, next};
use super::{Container, Process, Shim};
use crate::bundle::{self, Exit};
use crate::failure::{Failure, Result};
use crate::rootfs;

/// How long a created init that was killed may take to be gone.
const KILLED_GRACE: Duration = Duration::from_secs(10);

/// Deletes the process; returns its exit, if it ever ran.
pub(crate) async fn delete(shim: &Shim, id: &str, exec: &str) -> Result<Option<Exit>> {
    let (container, process) = shim.process(id, exec)?;
    if process.exec.is_none() {
        delete_init(shim, &container).await
    } else {
        delete_exec(&container, &process).await
    }
}

async fn delete_init(shim: &Shim, container: &Rc<Container>) -> Result<Option<Exit>> {
    let init = &container.init;
    let unrestored = container.restore.borrow().is_some();
    if init.status.get() == Status::Created && !init.reaped.get() && !unrestored {
        kill_created(container).await?;
    }
    let _turn = init.turn.lock().await;
    let deleted = if container.restore.borrow_mut().take().is_some() {
        // It has never had a process that could have ended.
        Status::Deleted
    } else {
        init.status.get().after(Event::Deleted, "delete")?
    };
    init.io.drained(Duration::ZERO).await;
    match container.runtime.run(["delete", &container.id]).await {
        Err(err) if !err.is_no_container() => return Err(err.during("failed to delete task")),
        _ => {}
    }
    let execs = std::mem::take(&mut *container.execs.borrow_mut());
    for process in execs.values() {
        process.io.close().await;
    }
    init.io.close().await;
    rootfs::unmount_all(&container.bundle.join("rootfs"))
        .map_err(|err| Failure::because("failed rootfs umount", &err))?;
    init.status.set(deleted);
    shim.containers.borrow_mut().remove(&container.id);
    let exit = *init.exit.borrow();
    shim.publisher.publish(&TaskDelete {
        container_id: container.id.clone(),
        pid: init.pid.get(),
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| exit.at.into()),
        id: String::new(),
    });
    Ok(exit)
}

/// Ends a container that waits for its start, and waits for the exit to be
/// announced.
async fn kill_created(container: &Container) -> Result<()> {
    {
        let _turn = container.init.turn.lock().await;
        if container.init.status.get() == Status::Created {
            match container
                .runtime
                .run(["delete", "--force", &container.id])
                .await
            {
                Err(err) if !err.is_no_container() => {
                    return Err(err.during("failed to delete task"));
                }
                _ => {}
            }
        }
    }
    let mut exit = container.init.exit.subscribe();
    match tokio::time::timeout(KILLED_GRACE, exit.wait_for(Option::is_some)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::unknown(
            "failed to delete task: init process is still running",
        )),
    }
}

async fn delete_exec(container: &Container, process: &Process) -> Result<Option<Exit>> {
    let _turn = process.turn.lock().await;
    let status = process.status.get();
    if status != Status::Created {
        status.after(Event::Deleted, "delete")?;
    }
    process.io.drained(Duration::ZERO).await;
    process.io.close().await;
    process
        .status
        .set(next(status, Event::Deleted).unwrap_or(Status::Deleted));
    let exec = process.exec.as_deref().unwrap_or_default();
    container.execs.borrow_mut().remove(exec);
    for what in ["pid", "exit", "session"] {
        let path = bundle::process_path(&container.bundle, Some(exec), what);
        // Not there if it was never started.
        let _ = std::fs::remove_file(path);
    }
    Ok(*process.exit.borrow())
}
