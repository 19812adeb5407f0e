//! How a supervisor removes its container.

use lite_core::{Kind, Result, chain};
use tokio::sync::oneshot;

use super::{Done, Supervisor};
use crate::launch;
use crate::signals::Signal;
use crate::state::{Event, Phase};

impl Supervisor {
    pub(super) async fn on_remove(&mut self, force: bool, reply: oneshot::Sender<Result<()>>) {
        let busy = self.record.phase == Phase::Running || self.starting.is_some();
        if busy && !force && !self.doomed {
            let name = &self.record.name;
            let _ = reply.send(Err(Kind::FailedPrecondition.error(format!(
                "cannot remove container \"/{name}\": container is running: stop the container before removing or force remove"
            ))));
            return;
        }
        self.removers.push(reply);
        if busy {
            self.doomed = true;
            if self.record.phase == Phase::Running {
                self.kill();
            }
        } else if self.record.phase != Phase::Removing {
            self.remove().await;
        }
    }

    /// Sends KILL on the side; the end comes back by way of the watch.
    pub(super) fn kill(&self) {
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        tokio::spawn(async move {
            let kill =
                engine
                    .core()
                    .tasks
                    .kill(engine.ns(), &id, None, Signal::KILL.number(), true);
            if let Err(err) = kill.await
                && err.kind() != Kind::NotFound
            {
                tracing::warn!(container_id = id, error = %chain(&err), "kill task");
            }
        });
    }

    /// Records the intent and begins the removal.
    pub(super) async fn remove(&mut self) {
        let said_by_flag = self.record.config.auto_remove && self.record.phase != Phase::Created;
        self.record.run.restarting = false;
        self.advance(Event::RemovalBegun);
        if !said_by_flag {
            self.store(None).await;
        }
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        let volumes = if self.with_volumes {
            self.record.anonymous_volumes()
        } else {
            Vec::new()
        };
        self.work
            .spawn(async move { Done::Removed(launch::remove_all(&engine, &id, volumes).await) });
    }

    pub(super) async fn on_removed(&mut self, outcome: Result<()>) -> bool {
        let removers = std::mem::take(&mut self.removers);
        match outcome {
            Ok(()) => {
                self.engine.forget(&self.record.id, &self.record.name);
                self.publish(true);
                self.emit("destroy");
                for reply in removers {
                    let _ = reply.send(Ok(()));
                }
                true
            }
            Err(err) => {
                tracing::error!(container_id = self.record.id, error = %chain(&err), "remove container");
                self.advance(Event::RemovalFailed);
                self.record.run.error = chain(&err);
                self.doomed = false;
                self.store(None).await;
                self.publish(false);
                for reply in removers {
                    let _ = reply.send(Err(Kind::error(err.kind(), chain(&err))));
                }
                false
            }
        }
    }
}
