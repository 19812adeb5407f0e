//! The life of a container as one function from phase and event to phase.

use serde::{Deserialize, Serialize};

/// Where in its life a container is. `Creating` and `Removing` are intents:
/// they are recorded before the work, so that a daemon which was killed in
/// the middle knows what to undo or to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its record exists, its files may not.
    Creating,
    /// Complete, and never ran.
    Created,
    /// Its main process runs.
    Running,
    /// Its main process has ended.
    Exited,
    /// It is being removed.
    Removing,
    /// Its removal went wrong half way; only another removal can follow.
    Dead,
}

/// What can happen to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Snapshot and files are in place.
    Made,
    /// The main process runs.
    Started,
    /// The main process could not be started.
    StartFailed,
    /// The main process has ended.
    Ended,
    /// The removal begins.
    RemovalBegun,
    /// The removal went wrong.
    RemovalFailed,
}

/// The phase that follows, or `None` where the event cannot happen.
#[must_use]
pub fn next(phase: Phase, event: Event) -> Option<Phase> {
    match (phase, event) {
        (Phase::Creating, Event::Made) => Some(Phase::Created),
        (Phase::Created | Phase::Exited, Event::Started) => Some(Phase::Running),
        // A container whose start failed is what it was, as in Docker.
        (Phase::Created | Phase::Exited, Event::StartFailed) => Some(phase),
        (Phase::Running, Event::Ended) => Some(Phase::Exited),
        (
            Phase::Creating | Phase::Created | Phase::Exited | Phase::Dead | Phase::Removing,
            Event::RemovalBegun,
        ) => Some(Phase::Removing),
        (Phase::Removing, Event::RemovalFailed) => Some(Phase::Dead),
        (Phase::Creating, Event::Started | Event::StartFailed)
        | (
            Phase::Created | Phase::Exited | Phase::Running | Phase::Removing | Phase::Dead,
            Event::Made,
        )
        | (Phase::Running | Phase::Removing | Phase::Dead, Event::Started | Event::StartFailed)
        | (
            Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead,
            Event::Ended,
        )
        | (Phase::Running, Event::RemovalBegun)
        | (
            Phase::Creating | Phase::Created | Phase::Running | Phase::Exited | Phase::Dead,
            Event::RemovalFailed,
        ) => None,
    }
}

impl Phase {
    /// Docker's word for it in `State.Status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating | Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_can_run_again_after_it_ended() {
        let life = [
            Event::Made,
            Event::StartFailed,
            Event::Started,
            Event::Ended,
            Event::Started,
            Event::Ended,
        ];
        let end = life.into_iter().try_fold(Phase::Creating, next);
        assert_eq!(end, Some(Phase::Exited));
    }

    #[test]
    fn a_running_container_is_not_removed() {
        assert_eq!(next(Phase::Running, Event::RemovalBegun), None);
    }

    #[test]
    fn nothing_but_removal_leaves_a_dead_container() {
        for event in [
            Event::Made,
            Event::Started,
            Event::StartFailed,
            Event::Ended,
            Event::RemovalFailed,
        ] {
            assert_eq!(next(Phase::Dead, event), None, "{event:?}");
        }
        assert_eq!(
            next(Phase::Dead, Event::RemovalBegun),
            Some(Phase::Removing)
        );
    }
}
