//! How a supervisor starts its container.

use lite_core::{Error, Kind, Result, chain};
use tokio::sync::oneshot;

use super::{Done, Started, Supervisor};
use crate::launch::{self, Launched};
use crate::spec::Window;
use crate::state::{self, Event, Phase};
use crate::{exit, health};

impl Supervisor {
    pub(super) fn on_start(
        &mut self,
        attach: bool,
        window: Option<Window>,
        reply: oneshot::Sender<Started>,
    ) {
        if let Some(waiting) = &mut self.starting {
            waiting.push((false, reply));
            return;
        }
        let refusal = match state::next(self.record.phase, Event::Started) {
            Some(_) if !self.doomed => None,
            None if self.record.run.paused => {
                Some("cannot start a paused container, try unpause instead")
            }
            None if self.record.phase == Phase::Running => {
                // Nothing to do, as in Docker.
                let _ = reply.send(Ok(None));
                return;
            }
            _ => Some("container is marked for removal and cannot be started"),
        };
        if let Some(why) = refusal {
            let _ = reply.send(Err(Kind::FailedPrecondition.error(why)));
            return;
        }
        self.starting = Some(vec![(attach, reply)]);
        let (engine, record) = (self.engine.clone(), self.record.clone());
        self.work.spawn(async move {
            Done::Started(launch::launch(&engine, &record, attach, window).await)
        });
    }

    pub(super) async fn on_started(&mut self, outcome: Result<Launched>) {
        let waiting = self.starting.take().unwrap_or_default();
        match outcome {
            Ok(Launched {
                pid,
                at,
                spec,
                mut session,
            }) => {
                self.advance(Event::Started);
                self.record.run.pid = pid;
                self.record.run.exit_code = 0;
                self.record.run.error.clear();
                self.record.run.started_at = Some(at);
                self.record.run.finished_at = None;
                self.record.run.stopped = false;
                self.record.run.restarting = false;
                self.record.run.oom_killed = false;
                self.record.run.health = health::first(&self.record);
                self.publish(false);
                self.emit("start");
                self.watch();
                for (attach, reply) in waiting {
                    let _ = reply.send(Ok(if attach { session.take() } else { None }));
                }
                self.store(Some(spec)).await;
                if self.doomed {
                    self.kill();
                }
            }
            Err(err) => self.on_start_failed(&err, waiting).await,
        }
    }

    async fn on_start_failed(
        &mut self,
        err: &Error,
        waiting: Vec<(bool, oneshot::Sender<Started>)>,
    ) {
        self.advance(Event::StartFailed);
        self.record.run.exit_code = exit::of_failed_start(err.kind());
        self.record.run.error = chain(err);
        self.record.run.restarting = false;
        // Each waiter gets the same kind and words.
        let answer = || Kind::error(err.kind(), chain(err));
        if self.record.config.auto_remove || self.doomed {
            // Told when it is gone, so that the name is free by then.
            self.publish(false);
            let (reply, removed) = oneshot::channel();
            self.removers.push(reply);
            let errors: Vec<_> = waiting
                .into_iter()
                .map(|(_, reply)| (reply, answer()))
                .collect();
            tokio::spawn(async move {
                let _ = removed.await;
                for (reply, err) in errors {
                    let _ = reply.send(Err(err));
                }
            });
            self.remove().await;
            return;
        }
        self.store(None).await;
        self.publish(false);
        for (_, reply) in waiting {
            let _ = reply.send(Err(answer()));
        }
    }
}
