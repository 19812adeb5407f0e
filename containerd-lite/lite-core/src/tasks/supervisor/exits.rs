//! How exits become known: recorded once, told to those who wait, announced.

use super::super::command::{Reply, tell};
use super::{Done, Supervisor};
use crate::error::Kind;
use crate::shim::{Exit, Status, event};

impl Supervisor {
    pub(super) fn on_wait(&mut self, exec: Option<String>, reply: Reply<Exit>) {
        let known = self
            .published
            .borrow()
            .process(exec.as_deref())
            .map(|process| process.exit);
        match known {
            Some(Some(exit)) => tell(reply, Ok(exit)),
            Some(None) => {
                // Callers that gave up must not pile up here.
                self.waiting.retain(|(_, reply)| !reply.is_closed());
                self.waiting.push((exec, reply));
            }
            None => tell(
                reply,
                Err(Kind::NotFound.error(format!("process {} not found", exec.unwrap_or_default()))),
            ),
        }
    }

    /// Records an exit and answers those who wait for it.
    pub(super) fn exited(&mut self, exec: Option<&str>, exit: Exit) {
        self.published.send_modify(|view| view.exited(exec, exit));
        let Some(exit) = self
            .published
            .borrow()
            .process(exec)
            .and_then(|process| process.exit)
        else {
            return;
        };
        for (waited, reply) in std::mem::take(&mut self.waiting) {
            if waited.as_deref() == exec {
                tell(reply, Ok(exit));
            } else {
                self.waiting.push((waited, reply));
            }
        }
    }

    /// Publishes every exit in the view whose event has not gone out.
    pub(super) fn announce_exits(&mut self) {
        let view = self.published.borrow().clone();
        for process in view.execs.values().chain([&view.init]) {
            if let Some(exit) = process.exit
                && self.announced.insert(process.id.clone())
            {
                let event = event::exited(&self.key.id, &process.id, process.pid, exit);
                self.shared.publish(&self.key, event::EXIT_TOPIC, event);
            }
        }
    }

    /// Waits, beside the events, for every process that has not ended: an
    /// event can be lost with the shim's connection, an answer cannot.
    pub(super) fn await_exits(&mut self) {
        let view = self.published.borrow().clone();
        if view.init.exit.is_none() {
            self.await_exit(None);
        }
        for process in view.execs.into_values() {
            if process.exit.is_none() && process.status != Status::Created {
                self.await_exit(Some(process.id));
            }
        }
    }

    pub(super) fn await_exit(&mut self, exec: Option<String>) {
        let shim = self.shim.clone();
        self.work.spawn(async move {
            let result = shim.wait(exec.as_deref()).await;
            Done::Ended { exec, result }
        });
    }
}
