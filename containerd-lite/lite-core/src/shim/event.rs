//! What shims report about their tasks: reading their events as far as the
//! daemon acts on them, and writing the ones a dead shim owes.

use prost::Message;
use proto::containerd::events::{TaskDelete, TaskExit, TaskPaused, TaskResumed};

use crate::shim::process::{Deleted, Exit};
use crate::shim::wire;
use crate::values::AnyValue;

/// Topic of an exit, of init or of an exec.
pub const EXIT_TOPIC: &str = "/tasks/exit";
/// Topic of a task's end.
pub const DELETE_TOPIC: &str = "/tasks/delete";

/// An event that changes what the daemon knows of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// A process has ended; for init `process` is the container's id.
    Exited {
        /// The container's id or the exec id.
        process: String,
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The container, or with a differing `process` an exec, was deleted.
    Deleted {
        /// Empty or the container's id: the container itself.
        process: String,
        /// The pid it had.
        pid: u32,
    },
    /// Every process is frozen.
    Paused,
    /// The processes go on.
    Resumed,
}

/// The container that a task event is about, and what it says if the daemon
/// acts on it. `None` for any other event and for what cannot be decoded.
#[must_use]
pub fn read(event: &AnyValue) -> Option<(String, Option<TaskEvent>)> {
    let bytes = event.value.as_slice();
    let name = event
        .type_url
        .rsplit('/')
        .next()?
        .strip_prefix("containerd.events.Task")?;
    match name {
        "Exit" => {
            let event = TaskExit::decode(bytes).ok()?;
            let exit = wire::exit(event.exit_status, event.exited_at);
            Some((
                event.container_id,
                Some(TaskEvent::Exited {
                    process: event.id,
                    pid: event.pid,
                    exit,
                }),
            ))
        }
        "Delete" => {
            let event = TaskDelete::decode(bytes).ok()?;
            Some((
                event.container_id,
                Some(TaskEvent::Deleted {
                    process: event.id,
                    pid: event.pid,
                }),
            ))
        }
        "Paused" => Some((
            TaskPaused::decode(bytes).ok()?.container_id,
            Some(TaskEvent::Paused),
        )),
        "Resumed" => Some((
            TaskResumed::decode(bytes).ok()?.container_id,
            Some(TaskEvent::Resumed),
        )),
        // Every other task event has the container's id in the place where
        // TaskPaused has it, and what follows is skipped.
        _ => Some((TaskPaused::decode(bytes).ok()?.container_id, None)),
    }
}

/// The container that an event about a task is about.
#[must_use]
pub fn container_of(event: &AnyValue) -> Option<String> {
    read(event).map(|(container, _)| container)
}

/// The event that `process` of `container` has ended.
#[must_use]
pub fn exited(container: &str, process: &str, pid: u32, exit: Exit) -> AnyValue {
    let event = TaskExit {
        container_id: container.to_owned(),
        id: process.to_owned(),
        pid,
        exit_status: exit.code,
        exited_at: Some(wire::timestamp(exit.at)),
    };
    AnyValue {
        type_url: "containerd.events.TaskExit".to_owned(),
        value: event.encode_to_vec(),
    }
}

/// The event that `container`'s task is gone.
#[must_use]
pub fn deleted(container: &str, deleted: Deleted) -> AnyValue {
    let event = TaskDelete {
        container_id: container.to_owned(),
        pid: deleted.pid,
        exit_status: deleted.exit.code,
        exited_at: Some(wire::timestamp(deleted.exit.at)),
        id: String::new(),
    };
    AnyValue {
        type_url: "containerd.events.TaskDelete".to_owned(),
        value: event.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let exit = Exit {
            code: 137,
            at: UNIX_EPOCH + Duration::from_secs(7),
        };
        let (container, event) = read(&exited("c", "e", 42, exit)).unwrap();
        assert_eq!(container, "c");
        assert_eq!(
            event.unwrap(),
            TaskEvent::Exited {
                process: "e".to_owned(),
                pid: 42,
                exit
            }
        );
        let (container, event) = read(&deleted("c", Deleted { pid: 42, exit })).unwrap();
        assert_eq!(container, "c");
        assert_eq!(
            event.unwrap(),
            TaskEvent::Deleted {
                process: String::new(),
                pid: 42
            }
        );
    }

    #[test]
    fn events_that_change_nothing_still_name_their_container() {
        let value = proto::containerd::events::TaskExecStarted {
            container_id: "c".to_owned(),
            exec_id: "e".to_owned(),
            pid: 3,
        }
        .encode_to_vec();
        let event = AnyValue {
            type_url: "containerd.events.TaskExecStarted".to_owned(),
            value,
        };
        assert_eq!(read(&event), Some(("c".to_owned(), None)));
    }

    #[test]
    fn other_events_are_not_about_tasks() {
        let event = AnyValue {
            type_url: "containerd.events.ContainerCreate".to_owned(),
            value: Vec::new(),
        };
        assert_eq!(read(&event), None);
    }
}
