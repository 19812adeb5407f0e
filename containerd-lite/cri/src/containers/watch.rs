//! Waits for the end of a container's first process, and records it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lite_core::shim::event::{self, TaskEvent};
use lite_core::tasks::Exit;
use lite_core::{AnyValue, chain};

use crate::events::{Event, What};
use crate::hub::{Cri, absent_is_fine};
use crate::record::{ContainerRecord, ContainerState};

/// The exit code of a process of which nobody knows how it ended.
pub(crate) const LOST: i32 = 255;

/// The topics of shims' events about memory and about ends.
const TOPICS: [&str; 2] = ["/tasks/oom", "/tasks/exit"];

/// How long an event may be behind the answer to a wait; one that came before
/// this daemon listened never comes.
const TELLING: Duration = Duration::from_secs(5);

/// Watches the container `id`, which runs.
pub(crate) fn spawn(cri: &Cri, id: &str) {
    let (cri, id) = (cri.clone(), id.to_owned());
    tokio::spawn(async move {
        let exit = cri.core().tasks.wait(cri.ns(), &id, None).await;
        let exit = exit.inspect_err(|err| {
            // Somebody deleted the task behind our back.
            tracing::warn!(container = id, error = %chain(err), "wait for task");
        });
        // A shim tells of memory before it tells of the end, in one stream: once
        // the end has come that way, so has the cause.
        let told = cri.until(|cri| cri.take_end(&id).then_some(()));
        let _ = tokio::time::timeout(TELLING, told).await;
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

/// Notes which containers ran out of memory or ended, as long as the daemon
/// runs.
pub(crate) fn listen(cri: &Cri) {
    let cri = cri.clone();
    let topics = TOPICS.map(|topic| format!("topic==\"{topic}\""));
    let events = cri.core().events.subscribe(&topics);
    let mut events = match events {
        Ok(events) => events,
        Err(err) => {
            tracing::error!(error = %chain(&err), "listen for events of shims");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(envelope) => {
                    if envelope.namespace == *cri.ns() {
                        note(&cri, &envelope.event);
                    }
                }
                Err(err) => {
                    tracing::error!(error = %chain(&err), "listen for events of shims");
                    return;
                }
            }
        }
    });
}

fn note(cri: &Cri, event: &AnyValue) {
    if let Some((id, Some(TaskEvent::Exited { process, .. }))) = event::read(event) {
        // Not that of an exec.
        if process == id {
            cri.note_end(&id);
        }
    } else if let Some(id) = event::container_of(event) {
        cri.note_oom(&id);
    }
}
