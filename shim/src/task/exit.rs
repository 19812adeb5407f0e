//! What happens when a process ends, in this order:
//!
//! 1. It is reaped; its pid may belong to another from now on.
//! 2. The announcement of its start, if under way, goes first.
//! 3. For init: processes the kernel does not end with it are killed, and
//!    the exits of all execs are announced, so that init's is the last.
//! 4. Its output is read to the end and written. Something it left behind may
//!    hold the pipe open, so two seconds without output count as the end.
//! 5. The exit is written down, then waiters and the daemon are told.

use std::rc::Rc;
use std::time::Duration;

use proto::containerd::events::TaskExit;
use tokio::sync::oneshot;

use super::state::{Event, Status, next};
use super::{Container, Process, Shim, oom};
use crate::bundle::{self, Exit};
use crate::failure::warn;

/// How long an exit waits for more output.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Follows `process` to its end, in a task of its own.
pub(super) fn follow(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    process: &Rc<Process>,
    exited: oneshot::Receiver<Exit>,
) {
    let (shim, container, process) = (Rc::clone(shim), Rc::clone(container), Rc::clone(process));
    tokio::task::spawn_local(async move {
        // An error means that the reaper is gone, and so is the shim.
        let Ok(exit) = exited.await else { return };
        process.reaped.set(true);
        drop(process.turn.lock().await);
        if process.exec.is_none() {
            before_init_exit(&container).await;
        }
        process.io.drained(OUTPUT_GRACE).await;
        if process.exec.is_none() {
            oom::tell(&shim, &container);
            // Nothing more to watch once the runtime removes the cgroup.
            container.oom.borrow_mut().take();
        }
        announce(&shim, &container, &process, exit);
        if process.exec.is_some() {
            container.execs_alive.send_modify(|count| *count -= 1);
        }
    });
}

async fn before_init_exit(container: &Container) {
    if bundle::processes_outlive_init(&container.bundle)
        && let Err(err) = container
            .runtime
            .run(["kill", "--all", &container.id, "9"])
            .await
        && !err.is_no_container()
    {
        warn(
            "kill what is left of the container",
            &err.during("OCI runtime killall failed"),
        );
    }
    if container.init.status.get() == Status::Paused
        && let Err(err) = container.runtime.run(["resume", &container.id]).await
    {
        // A frozen cgroup cannot be removed.
        warn(
            "resume a paused container that has exited",
            &err.during("OCI runtime resume failed"),
        );
    }
    let mut alive = container.execs_alive.subscribe();
    // The sender lives in the container.
    let _ = alive.wait_for(|&count| count == 0).await;
}

fn announce(shim: &Shim, container: &Container, process: &Process, exit: Exit) {
    let path = bundle::exit_path(&container.bundle, process.exec.as_deref());
    if let Err(err) = bundle::write_exit(&path, exit) {
        // The bundle may have been taken away already.
        warn("write down an exit", &err);
    }
    process
        .status
        .set(next(process.status.get(), Event::Exited).unwrap_or(Status::Stopped));
    shim.publisher.publish(&TaskExit {
        container_id: container.id.clone(),
        id: process.exec.clone().unwrap_or_else(|| container.id.clone()),
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(exit.at.into()),
    });
    process.exit.send_replace(Some(exit));
    shim.rest.put_off();
}
