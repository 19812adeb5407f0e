//! What to do with a container found at the daemon's start: a pure decision
//! ([`decide`]) from what is recorded and what its task is doing.

use std::time::SystemTime;

use lite_core::Kind;
use lite_core::tasks::Status;

use crate::engine::Engine;
use crate::exit;
use crate::record::Record;
use crate::state::Phase;

/// What became of the task while no daemon was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is none.
    Nothing,
    /// It was made, but its process not started.
    NotStarted,
    /// Its process runs, with this pid.
    Running(u32),
    /// Its process has ended.
    Ended(Ending),
}

/// How and when a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Docker's exit code.
    pub(crate) code: i32,
    /// When.
    pub(crate) at: SystemTime,
}

/// What a supervisor does before it takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing: record and reality agree.
    Keep,
    /// Watch the task, whose process has this pid.
    Watch(u32),
    /// Delete the task, and record how it ended.
    Reap(Ending),
    /// Record an end without task.
    Record(Ending),
    /// Delete a task that never ran.
    DropTask,
    /// Finish, or undo by removing, what an earlier daemon began.
    Remove,
}

/// Decides what to do at the time `now`.
#[must_use]
pub(crate) fn decide(phase: Phase, auto_remove: bool, seen: Seen, now: SystemTime) -> Plan {
    match (phase, seen) {
        // Half made or half removed: intents without an outcome.
        (Phase::Creating | Phase::Removing, _) => Plan::Remove,
        (_, Seen::Running(pid)) => Plan::Watch(pid),
        (_, Seen::Ended(ending)) => Plan::Reap(ending),
        (Phase::Created | Phase::Exited, Seen::NotStarted) if !auto_remove => Plan::DropTask,
        // Nobody is left to start a container that removes itself after an
        // attached run: it would stay for ever. One that never had a task
        // may still be started by hand.
        (Phase::Created, Seen::NotStarted) | (Phase::Exited, _) if auto_remove => Plan::Remove,
        (Phase::Running, Seen::NotStarted | Seen::Nothing) if auto_remove => Plan::Remove,
        (Phase::Running, Seen::NotStarted | Seen::Nothing) => Plan::Record(Ending {
            code: exit::LOST,
            at: now,
        }),
        (Phase::Created | Phase::Exited, Seen::NotStarted | Seen::Nothing) | (Phase::Dead, _) => {
            Plan::Keep
        }
    }
}

/// Looks at a container's task and decides.
pub(crate) async fn look(engine: &Engine, record: &Record) -> Plan {
    let seen = match engine.core().tasks.get(engine.ns(), &record.id, None).await {
        Ok(state) => match (state.status, state.exit) {
            (Status::Created, _) => Seen::NotStarted,
            (Status::Stopped, exit) => Seen::Ended(exit.map_or(
                Ending {
                    code: exit::LOST,
                    at: SystemTime::now(),
                },
                Ending::from,
            )),
            _ => Seen::Running(state.pid),
        },
        Err(err) => {
            if err.kind() != Kind::NotFound {
                tracing::warn!(container_id = record.id, error = %lite_core::chain(&err), "look at task");
            }
            Seen::Nothing
        }
    };
    decide(
        record.phase,
        record.config.auto_remove,
        seen,
        SystemTime::now(),
    )
}

impl From<lite_core::tasks::Exit> for Ending {
    fn from(exit: lite_core::tasks::Exit) -> Self {
        Self {
            code: i32::try_from(exit.code).unwrap_or(exit::LOST),
            at: exit.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const ENDING: Ending = Ending { code: 3, at: NOW };

    #[track_caller]
    fn check(phase: Phase, auto_remove: bool, seen: Seen, plan: Plan) {
        assert_eq!(
            decide(phase, auto_remove, seen, NOW),
            plan,
            "{phase:?} {auto_remove} {seen:?}"
        );
    }

    #[test]
    fn a_running_container_goes_on_under_the_new_daemon() {
        check(Phase::Running, false, Seen::Running(7), Plan::Watch(7));
        // The daemon died between the start and its record.
        check(Phase::Created, false, Seen::Running(7), Plan::Watch(7));
        check(Phase::Exited, true, Seen::Running(7), Plan::Watch(7));
    }

    #[test]
    fn an_end_that_nobody_saw_is_recorded() {
        check(
            Phase::Running,
            false,
            Seen::Ended(ENDING),
            Plan::Reap(ENDING),
        );
        check(
            Phase::Created,
            false,
            Seen::Ended(ENDING),
            Plan::Reap(ENDING),
        );
        let lost = Ending { code: 255, at: NOW };
        check(Phase::Running, false, Seen::Nothing, Plan::Record(lost));
    }

    #[test]
    fn what_was_half_done_is_removed() {
        check(Phase::Creating, false, Seen::Nothing, Plan::Remove);
        check(Phase::Removing, false, Seen::Nothing, Plan::Remove);
        check(Phase::Created, false, Seen::NotStarted, Plan::DropTask);
    }

    #[test]
    fn a_container_that_removes_itself_does_so_late_rather_than_never() {
        check(Phase::Running, true, Seen::Nothing, Plan::Remove);
        check(Phase::Exited, true, Seen::Nothing, Plan::Remove);
        check(Phase::Created, true, Seen::NotStarted, Plan::Remove);
        check(Phase::Created, true, Seen::Nothing, Plan::Keep);
    }

    #[test]
    fn a_container_at_rest_is_left_alone() {
        check(Phase::Created, false, Seen::Nothing, Plan::Keep);
        check(Phase::Exited, false, Seen::Nothing, Plan::Keep);
        check(Phase::Dead, false, Seen::Nothing, Plan::Keep);
    }
}
