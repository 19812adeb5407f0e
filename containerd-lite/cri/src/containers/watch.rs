//! Waits for the end of a container's first process, and records it.

use std::sync::Arc;
use std::time::SystemTime;

use lite_core::tasks::Exit;
use lite_core::{AnyValue, chain};

use crate::events::{Event, What};
use crate::hub::{Cri, absent_is_fine};
use crate::record::{ContainerRecord, ContainerState};

/// The exit code of a process of which nobody knows how it ended.
pub(crate) const LOST: i32 = 255;

/// The topic of shims' events about memory.
const OOM_TOPIC: &str = "/tasks/oom";

/// Watches the container `id`, which runs.
pub(crate) fn spawn(cri: &Cri, id: &str) {
    let (cri, id) = (cri.clone(), id.to_owned());
    tokio::spawn(async move {
        let exit = cri.core().tasks.wait(cri.ns(), &id, None).await;
        let exit = exit.inspect_err(|err| {
            // Somebody deleted the task behind our back.
            tracing::warn!(container = id, error = %chain(err), "wait for task");
        });
        ended(&cri, &id, exit.ok()).await;
    });
}

/// Deletes the task that has ended, and records how. `None`: nobody knows.
pub(crate) async fn ended(cri: &Cri, id: &str, exit: Option<Exit>) {
    let deleted = cri.core().tasks.delete(cri.ns(), id).await;
    if let Err(err) = absent_is_fine(deleted.map(drop)) {
        tracing::warn!(container = id, error = %chain(&err), "delete task");
    }
    let Ok(record) = cri.container(id) else {
        return;
    };
    let gone = ContainerRecord {
        state: ContainerState::Exited,
        pid: 0,
        exit_code: exit.map_or(LOST, |exit| i32::try_from(exit.code).unwrap_or(LOST)),
        finished_at: Some(exit.map_or_else(SystemTime::now, |exit| exit.at)),
        reason: if exit.is_some() { "" } else { "Unknown" }.to_owned(),
        ..ContainerRecord::clone(&record)
    };
    let pod = gone.pod.clone();
    if let Err(err) = cri.store_container(gone.clone()).await {
        // What is true is shown all the same; the next daemon finds it out again.
        tracing::error!(container = id, error = %chain(&err), "record the end of a container");
        cri.show_container(Arc::new(gone));
    }
    cri.emit(Event::now(What::Stopped, id, &pod));
}

/// Notes which containers ran out of memory, as long as the daemon runs.
pub(crate) fn listen_for_oom(cri: &Cri) {
    let cri = cri.clone();
    let events = cri
        .core()
        .events
        .subscribe(&[format!("topic==\"{OOM_TOPIC}\"")]);
    let mut events = match events {
        Ok(events) => events,
        Err(err) => {
            tracing::error!(error = %chain(&err), "listen for out-of-memory events");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(envelope) => {
                    if let Some(id) = container_of_oom(&envelope.event) {
                        cri.note_oom(&id);
                    }
                }
                Err(err) => {
                    tracing::error!(error = %chain(&err), "listen for out-of-memory events");
                    return;
                }
            }
        }
    });
}

/// The id in an event of this kind.
fn container_of_oom(event: &AnyValue) -> Option<String> {
    lite_core::shim::event::container_of(event)
}
