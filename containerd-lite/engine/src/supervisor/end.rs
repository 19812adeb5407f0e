//! How a supervisor takes its container's end, and what else changes while it
//! runs: pauses, and starts by the restart policy.

use std::time::{Duration, SystemTime};

use lite_core::{Kind, Result, chain};
use tokio::sync::oneshot;

use super::{Done, Supervisor};
use crate::reconcile::Ending;
use crate::state::{Event, Phase};
use crate::{events, exit, health, launch, restart};

type Reply = oneshot::Sender<Result<()>>;

impl Supervisor {
    /// Waits for the end of the main process.
    pub(super) fn watch(&mut self) {
        self.checks = health::spawn(&self.engine, &self.record);
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            match engine.core().tasks.wait(engine.ns(), &id, None).await {
                Ok(exit) => Done::Ended(exit.into()),
                Err(err) => {
                    // Somebody deleted the task behind our back.
                    tracing::warn!(container_id = id, error = %chain(&err), "wait for task");
                    Done::Ended(Ending {
                        code: exit::LOST,
                        at: SystemTime::now(),
                    })
                }
            }
        });
    }

    /// Deletes the ended task, so that the container can be started again.
    pub(super) fn reap(&mut self, ending: Ending) {
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            launch::delete_task(&engine, &id).await;
            launch::leave_networks(&engine, &id).await;
            Done::Reaped(ending)
        });
    }

    pub(super) fn drop_task(&mut self) {
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            launch::delete_task(&engine, &id).await;
            Done::Dropped
        });
    }

    pub(super) async fn ended(&mut self, ending: Ending) {
        if let Some(checks) = self.checks.take() {
            checks.abort();
        }
        self.advance(Event::Ended);
        let run = &mut self.record.run;
        run.pid = 0;
        run.paused = false;
        run.exit_code = ending.code;
        run.finished_at = Some(ending.at);
        self.engine
            .emit(events::Event::of_container(&self.record, "die").with("exitCode", ending.code));
        if self.record.config.auto_remove || self.doomed {
            // "Running" without a task means the same to the next daemon as
            // "exited": one write less on the way of every `run --rm`.
            self.publish(false);
            self.remove().await;
            return;
        }
        let restart = self.next_start();
        self.record.run.restarting = restart.is_some();
        self.store(None).await;
        self.publish(false);
        if let Some(delay) = restart {
            self.restart_in(delay);
        }
    }

    /// How long to wait before the policy starts the container again.
    fn next_start(&self) -> Option<Duration> {
        let run = &self.record.run;
        let ran_for = match (run.started_at, run.finished_at) {
            (Some(start), Some(end)) => end.duration_since(start).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        restart::after(
            self.record.host.restart,
            &restart::End {
                code: run.exit_code,
                stopped: run.stopped,
                restarts: run.restarts,
                ran_for,
                last_delay: self.last_delay,
            },
        )
    }

    fn restart_in(&mut self, delay: Duration) {
        self.last_delay = delay;
        let number = self.record.run.restarts;
        self.work.spawn(async move {
            tokio::time::sleep(delay).await;
            Done::RestartDue(number)
        });
    }

    /// A wait that a stop, a start or another end has overtaken is void.
    pub(super) fn on_restart_due(&mut self, number: u32) {
        let run = &mut self.record.run;
        if !run.restarting || run.restarts != number || self.doomed {
            return;
        }
        run.restarts += 1;
        // Whether it came up shows in the record; nobody waits for it.
        let (reply, _) = tokio::sync::oneshot::channel();
        self.on_start(false, None, reply);
    }

    /// Starts what ran when an earlier daemon ended, where its policy says so.
    pub(super) fn start_with_daemon(&mut self) {
        let run = &self.record.run;
        let again = self.record.phase == Phase::Exited
            && (run.restarting || restart::with_daemon(self.record.host.restart, run.stopped));
        if again {
            self.record.run.restarting = true;
            self.restart_in(Duration::ZERO);
        }
    }

    pub(super) fn on_pause(&mut self, on: bool, reply: Reply) {
        let name = &self.record.id;
        let refusal = match (self.record.phase, self.record.run.paused) {
            (Phase::Running, paused) if paused != on => None,
            (Phase::Running, true) => Some(format!("Container {name} is already paused")),
            (Phase::Running, false) => Some(format!("Container {name} is not paused")),
            _ => Some(format!("Container {name} is not running")),
        };
        if let Some(why) = refusal {
            let _ = reply.send(Err(Kind::FailedPrecondition.error(why)));
            return;
        }
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            let tasks = &engine.core().tasks;
            let outcome = if on {
                tasks.pause(engine.ns(), &id).await
            } else {
                tasks.resume(engine.ns(), &id).await
            };
            Done::Paused(on, outcome, reply)
        });
    }

    pub(super) async fn on_paused(&mut self, on: bool, outcome: Result<()>, reply: Reply) {
        if outcome.is_ok() {
            self.record.run.paused = on;
            self.publish(false);
            self.emit(if on { "pause" } else { "unpause" });
            self.store(None).await;
        }
        let _ = reply.send(outcome);
    }

    /// Ends the pause that a commit of an earlier daemon has begun.
    pub(super) fn let_go_on(&mut self) {
        if std::mem::take(&mut self.record.run.held) {
            self.record.run.paused = true;
            let (reply, _told_to_nobody) = oneshot::channel();
            self.on_pause(false, reply);
        }
    }
}
