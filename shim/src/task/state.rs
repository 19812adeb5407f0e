//! The life of a process as one function.

use crate::failure::{Failure, Result};

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits to be started.
    Created,
    /// Runs.
    Running,
    /// Is being frozen.
    Pausing,
    /// Is frozen.
    Paused,
    /// Has ended.
    Stopped,
    /// Is no more, though somebody may still hold it.
    Deleted,
}

/// What can happen to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was started.
    Started,
    /// It is to be frozen.
    Pausing,
    /// It was frozen.
    Paused,
    /// It was thawed, or could not be frozen.
    Resumed,
    /// It ended.
    Exited,
    /// It was deleted.
    Deleted,
}

/// The state after `event`; `None` if that cannot happen in `status`.
pub(crate) fn next(status: Status, event: Event) -> Option<Status> {
    match (status, event) {
        (Status::Created, Event::Started) => Some(Status::Running),
        (Status::Running, Event::Pausing) => Some(Status::Pausing),
        (Status::Pausing, Event::Paused) => Some(Status::Paused),
        (Status::Pausing | Status::Paused, Event::Resumed) => Some(Status::Running),
        (Status::Created | Status::Running | Status::Pausing | Status::Paused, Event::Exited) => {
            Some(Status::Stopped)
        }
        (Status::Stopped, Event::Deleted) => Some(Status::Deleted),
        (Status::Created, Event::Pausing | Event::Paused | Event::Resumed | Event::Deleted)
        | (Status::Running, Event::Started | Event::Paused | Event::Resumed | Event::Deleted)
        | (Status::Pausing | Status::Paused, Event::Started | Event::Pausing | Event::Deleted)
        | (Status::Paused, Event::Paused)
        | (
            Status::Stopped,
            Event::Started | Event::Pausing | Event::Paused | Event::Resumed | Event::Exited,
        )
        | (Status::Deleted, _) => None,
    }
}

impl Status {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }

    /// The state after `event`, or why the caller may not `verb` the process.
    pub(crate) fn after(self, event: Event, verb: &str) -> Result<Self> {
        match (next(self, event), self) {
            (Some(status), _) => Ok(status),
            (None, Self::Deleted) => Err(Failure::not_found("process was deleted")),
            (None, _) => Err(Failure::precondition(format!(
                "cannot {verb} a {} process",
                self.word()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_runs_its_course() {
        let events = [
            Event::Started,
            Event::Pausing,
            Event::Paused,
            Event::Resumed,
            Event::Exited,
            Event::Deleted,
        ];
        let end = events.into_iter().try_fold(Status::Created, next);
        assert_eq!(end, Some(Status::Deleted));
    }

    #[test]
    fn nothing_leads_out_of_the_grave() {
        for event in [
            Event::Started,
            Event::Pausing,
            Event::Paused,
            Event::Resumed,
            Event::Exited,
            Event::Deleted,
        ] {
            assert_eq!(next(Status::Deleted, event), None);
        }
        for event in [
            Event::Started,
            Event::Pausing,
            Event::Paused,
            Event::Resumed,
            Event::Exited,
        ] {
            assert_eq!(next(Status::Stopped, event), None);
        }
    }

    #[test]
    fn a_running_process_can_be_neither_started_nor_deleted() {
        let words = |result: Result<Status>| result.unwrap_err().to_string();
        assert_eq!(
            words(Status::Running.after(Event::Started, "start")),
            "cannot start a running process"
        );
        assert_eq!(
            words(Status::Running.after(Event::Deleted, "delete")),
            "cannot delete a running process"
        );
    }
}
