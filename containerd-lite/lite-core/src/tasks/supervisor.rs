//! The one owner of a task's run-time state.
//!
//! It sleeps until a command comes, the shim reports something, or a call to
//! the shim that it has started has an outcome; after each it publishes what
//! changed. Its handlers never wait: calls run beside it, and their outcomes
//! come back as [`Done`]. So an exit is seen while a start is still under way,
//! and a slow delete keeps nobody from reading the state.
//!
//! It ends in one of two ways: the task was deleted, or the shim died. In the
//! second case [`Supervisor::lost`] has the shim's binary clean up, and
//! announces the exits and the end that the shim can no longer announce.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::bundle::Bundle;
use super::command::{Command, Reply, tell};
use super::ending::{LOST, clean_up, delete, lost_exit};
use super::slots::{Handle, Key, Shared};
use super::view::View;
use crate::error::{Kind, Result};
use crate::events::Envelope;
use crate::shim::event::{self, TaskEvent};
use crate::shim::log::LogReader;
use crate::shim::{Deleted, Exit, ProcessState, Shim, Status, TaskIo};

mod exits;

/// How long a shim may take to say what state a process is in.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The outcome of a call that ran beside the supervisor.
enum Done {
    Started {
        exec: Option<String>,
        result: Result<u32>,
        reply: Reply<u32>,
    },
    Added {
        exec: String,
        io: TaskIo,
        result: Result<()>,
        reply: Reply<()>,
    },
    Ended {
        exec: Option<String>,
        result: Result<Exit>,
    },
    Deleted {
        result: Result<Deleted>,
        gone: bool,
        reply: Reply<Deleted>,
    },
    ExecDeleted {
        exec: String,
        result: Result<Deleted>,
        reply: Reply<Deleted>,
    },
    Paused {
        paused: bool,
        result: Result<()>,
        reply: Reply<()>,
    },
    Adopted {
        exec: String,
        result: Result<ProcessState>,
        reply: Reply<ProcessState>,
    },
    Cleaned {
        result: Result<Deleted>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Alive,
    /// The shim has been asked to delete the task.
    Deleting,
    /// The shim is gone and its binary is cleaning up.
    Lost,
}

/// Everything a supervisor starts from.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) key: Key,
    pub(super) shim: Shim,
    /// The shim's binary, for its `delete`.
    pub(super) binary: PathBuf,
    pub(super) bundle: Bundle,
    pub(super) view: View,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) log: LogReader,
}

struct Supervisor {
    shared: Arc<Shared>,
    key: Key,
    shim: Shim,
    binary: PathBuf,
    bundle: Bundle,
    published: watch::Sender<View>,
    commands: mpsc::Receiver<Command>,
    work: JoinSet<Done>,
    waiting: Vec<(Option<String>, Reply<Exit>)>,
    deleter: Option<Reply<Deleted>>,
    /// Processes whose exit event has gone out, by exec id, init by the container's.
    announced: HashSet<String>,
    phase: Phase,
    closed: bool,
    _log: LogReader,
}

/// Starts a supervisor and makes its task known. With `announce`, exits that
/// `start.view` already holds are published: nobody else will.
pub(super) fn supervise(start: Start, announce: bool) {
    let (published, view) = watch::channel(start.view);
    let mut supervisor = Supervisor {
        shared: start.shared,
        key: start.key,
        shim: start.shim,
        binary: start.binary,
        bundle: start.bundle,
        published,
        commands: start.commands,
        work: JoinSet::new(),
        waiting: Vec::new(),
        deleter: None,
        announced: HashSet::new(),
        phase: Phase::Alive,
        closed: false,
        _log: start.log,
    };
    supervisor.await_exits();
    if announce {
        supervisor.announce_exits();
    }
    if let Some(slot) = supervisor.shared.slots().get_mut(&supervisor.key) {
        slot.handle = Some(Handle {
            commands: slot.commands.clone(),
            view,
            shim: supervisor.shim.clone(),
        });
    }
    tokio::spawn(supervisor.run());
}

impl Supervisor {
    async fn run(mut self) {
        let shim = self.shim.clone();
        let closed = shim.closed();
        tokio::pin!(closed);
        loop {
            let ended = tokio::select! {
                biased; // what has already happened is seen before a new command
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(done) => self.on_done(done),
                    // A panic in a call; whoever waits for it gets NotFound from the dropped reply.
                    Err(join) => {
                        tracing::error!(container_id = self.key.id, error = %join, "task call");
                        false
                    }
                },
                () = &mut closed, if !self.closed => {
                    self.closed = true;
                    if self.phase == Phase::Alive {
                        self.lost();
                    }
                    false
                }
                Some(command) = self.commands.recv() => {
                    self.on_command(command);
                    false
                }
            };
            if ended {
                break;
            }
        }
        self.pass_on_leftovers();
    }

    fn on_command(&mut self, command: Command) {
        let shim = self.shim.clone();
        match command {
            Command::Event(envelope) => self.on_event(envelope),
            Command::Wait { exec, reply } => self.on_wait(exec, reply),
            Command::Delete { reply } => self.on_delete(reply),
            Command::DeleteExec { exec, reply } => self.on_delete_exec(exec, reply),
            Command::Start { exec, reply } => {
                self.work.spawn(async move {
                    let result = shim.start(exec.as_deref()).await;
                    Done::Started {
                        exec,
                        result,
                        reply,
                    }
                });
            }
            Command::Exec {
                exec,
                io,
                process,
                reply,
            } => {
                self.work.spawn(async move {
                    let result = shim.exec(&exec, &io, &process).await;
                    Done::Added {
                        exec,
                        io,
                        result,
                        reply,
                    }
                });
            }
            Command::Pause { reply } => {
                self.work.spawn(async move {
                    Done::Paused {
                        paused: true,
                        result: shim.pause().await,
                        reply,
                    }
                });
            }
            Command::Resume { reply } => {
                self.work.spawn(async move {
                    Done::Paused {
                        paused: false,
                        result: shim.resume().await,
                        reply,
                    }
                });
            }
            Command::Adopt { exec, reply } => {
                self.work.spawn(async move {
                    let result = shim.state(Some(&exec), STATE_TIMEOUT).await;
                    Done::Adopted {
                        exec,
                        result,
                        reply,
                    }
                });
            }
        }
    }

    /// Takes in one outcome; true if the task is at its end.
    fn on_done(&mut self, done: Done) -> bool {
        match done {
            Done::Started {
                exec,
                result,
                reply,
            } => self.on_started(exec, result, reply),
            Done::Added {
                exec,
                io,
                result,
                reply,
            } => self.on_added(exec, io, result, reply),
            // An error says that the process or the shim is gone, and both
            // show in other ways.
            Done::Ended { exec, result } => {
                if let Ok(exit) = result {
                    self.exited(exec.as_deref(), exit);
                }
            }
            Done::Paused {
                paused,
                result,
                reply,
            } => {
                if result.is_ok() {
                    self.published.send_modify(|view| view.paused(paused));
                }
                tell(reply, result);
            }
            Done::ExecDeleted {
                exec,
                result,
                reply,
            } => self.on_exec_deleted(&exec, result, reply),
            Done::Adopted {
                exec,
                result,
                reply,
            } => self.on_adopted(exec, result, reply),
            Done::Deleted {
                result,
                gone,
                reply,
            } => return self.on_deleted(result, gone, reply),
            Done::Cleaned { result } => {
                self.on_cleaned(result);
                return true;
            }
        }
        false
    }

    fn on_started(&mut self, exec: Option<String>, result: Result<u32>, reply: Reply<u32>) {
        if let Ok(pid) = result {
            self.published
                .send_modify(|view| view.started(exec.as_deref(), pid));
            if exec.is_some() {
                self.await_exit(exec);
            }
        }
        tell(reply, result);
    }

    fn on_added(&mut self, exec: String, io: TaskIo, result: Result<()>, reply: Reply<()>) {
        if result.is_ok() {
            let state = ProcessState {
                id: exec.clone(),
                pid: 0,
                status: Status::Created,
                io,
                exit: None,
            };
            self.published
                .send_modify(|view| drop(view.execs.insert(exec, state)));
        }
        tell(reply, result);
    }

    fn on_exec_deleted(&mut self, exec: &str, result: Result<Deleted>, reply: Reply<Deleted>) {
        if result.is_ok() {
            self.published
                .send_modify(|view| drop(view.execs.remove(exec)));
            self.announced.remove(exec);
            self.waiting
                .retain(|(waited, _)| waited.as_deref() != Some(exec));
        }
        tell(reply, result);
    }

    fn on_event(&mut self, envelope: Envelope) {
        match event::read(&envelope.event) {
            Some((_, Some(TaskEvent::Exited { process, exit, .. }))) => {
                let exec = (process != self.key.id).then_some(process.as_str());
                // The state changes first: whoever acts on the event finds it so.
                self.exited(exec, exit);
                if !self.announced.insert(process) {
                    return;
                }
            }
            Some((_, Some(TaskEvent::Paused))) => {
                self.published.send_modify(|view| view.paused(true))
            }
            Some((_, Some(TaskEvent::Resumed))) => {
                self.published.send_modify(|view| view.paused(false))
            }
            _ => {}
        }
        if let Err(err) = self.shared.events.forward(envelope) {
            tracing::warn!(container_id = self.key.id, error = %err, "event of a shim");
        }
    }

    fn on_delete(&mut self, reply: Reply<Deleted>) {
        if self.published.borrow().is_running(None) && self.phase == Phase::Alive {
            let status = self.published.borrow().init.status;
            let status = format!("{status:?}").to_lowercase();
            let err = Kind::FailedPrecondition
                .error(format!("task must be stopped before deletion: {status}"));
            return tell(reply, Err(err));
        }
        match self.phase {
            Phase::Deleting => tell(
                reply,
                Err(Kind::FailedPrecondition
                    .error(format!("task {} is being deleted", self.key.id))),
            ),
            // Answered when the clean-up is done.
            Phase::Lost => self.deleter = Some(reply),
            Phase::Alive => {
                self.phase = Phase::Deleting;
                let shared_shim = self.shared.others_use(&self.key, &self.shim);
                let (shim, bundle) = (self.shim.clone(), self.bundle.clone());
                self.work.spawn(async move {
                    let (result, gone) = delete(&shim, bundle, shared_shim).await;
                    Done::Deleted {
                        result,
                        gone,
                        reply,
                    }
                });
            }
        }
    }

    fn on_deleted(&mut self, result: Result<Deleted>, gone: bool, reply: Reply<Deleted>) -> bool {
        if gone {
            if let Ok(deleted) = &result {
                self.exited(None, deleted.exit);
            }
            self.shared.release(&self.key);
            tell(reply, result);
            return true;
        }
        self.phase = Phase::Alive;
        if self.closed {
            // The shim died of it; the caller gets what the clean-up finds.
            self.deleter = Some(reply);
            self.lost();
        } else {
            tell(reply, result);
        }
        false
    }

    fn on_delete_exec(&mut self, exec: String, reply: Reply<Deleted>) {
        if self.published.borrow().is_running(Some(&exec)) {
            let err = Kind::FailedPrecondition
                .error(format!("process {exec} must be stopped before deletion"));
            return tell(reply, Err(err));
        }
        let shim = self.shim.clone();
        self.work.spawn(async move {
            let result = shim.delete(Some(&exec)).await;
            Done::ExecDeleted {
                exec,
                result,
                reply,
            }
        });
    }

    fn on_adopted(
        &mut self,
        exec: String,
        result: Result<ProcessState>,
        reply: Reply<ProcessState>,
    ) {
        if let Ok(state) = &result
            && !self.published.borrow().execs.contains_key(&exec)
        {
            let alive = state.exit.is_none() && state.status != Status::Created;
            let state = ProcessState {
                id: exec.clone(),
                ..state.clone()
            };
            self.published
                .send_modify(|view| drop(view.execs.insert(exec.clone(), state)));
            if alive {
                self.await_exit(Some(exec));
            }
        }
        tell(reply, result);
    }

    /// Has the shim's binary clean up after the dead shim.
    fn lost(&mut self) {
        self.phase = Phase::Lost;
        tracing::warn!(container_id = self.key.id, namespace = %self.key.namespace, "shim is gone, cleaning up");
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        let (binary, bundle) = (self.binary.clone(), self.bundle.clone());
        self.work.spawn(async move {
            Done::Cleaned {
                result: clean_up(&shared, &key, &binary, bundle).await,
            }
        });
    }

    fn on_cleaned(&mut self, result: Result<Deleted>) {
        if let Err(err) = &result {
            tracing::warn!(
                container_id = self.key.id,
                error = crate::error::chain(err),
                "clean up after shim"
            );
        }
        let lost = lost_exit(result.ok());
        let execs: Vec<String> = self.published.borrow().execs.keys().cloned().collect();
        for exec in &execs {
            self.exited(
                Some(exec),
                Exit {
                    code: LOST,
                    at: lost.at,
                },
            );
        }
        self.exited(None, lost);
        self.announce_exits();
        let init = self.published.borrow().init.clone();
        let deleted = Deleted {
            pid: init.pid,
            exit: init.exit.unwrap_or(lost),
        };
        self.shared.remember_end(&self.key, deleted.pid);
        self.shared.release(&self.key);
        self.shared.publish(
            &self.key,
            event::DELETE_TOPIC,
            event::deleted(&self.key.id, deleted),
        );
        if let Some(reply) = self.deleter.take() {
            tell(reply, Ok(deleted));
        }
    }

    /// Events that were queued when the task ended still reach subscribers;
    /// commands are answered by dropping their reply.
    fn pass_on_leftovers(mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Event(envelope) = command {
                self.on_event(envelope);
            }
        }
    }
}
