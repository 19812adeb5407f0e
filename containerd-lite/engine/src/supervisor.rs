//! The owner of one container's run-time state. Everybody else sends it a
//! [`Command`] or reads the last published [`View`].
//!
//! The loop never waits for slow work: starting, watching, reaping and
//! removing run as tasks of their own, whose outcome comes back as one more
//! event. Every change of the record is stored before it counts as done,
//! except where the task itself is the evidence: a daemon that is killed
//! between a start and its record finds the task running and records it then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lite_core::{Error, Kind, Result, chain};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::exit;
use crate::launch::{self, Launched};
use crate::reconcile::{Ending, Plan};
use crate::record::Record;
use crate::session::Session;
use crate::signals::Signal;
use crate::spec::Window;
use crate::state::{self, Event, Phase};

/// Commands that wait for one supervisor; senders wait when it is full.
const COMMANDS: usize = 16;

/// What is known of a container.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// As last stored or about to be.
    pub(crate) record: Arc<Record>,
    /// Removed for good.
    pub(crate) gone: bool,
}

/// Answer to a start: the session, where one was asked for.
pub(crate) type Started = Result<Option<Session>>;

/// What a supervisor can be asked.
pub(crate) enum Command {
    /// Start the main process. With `attach`, a session is in place before.
    Start {
        attach: bool,
        window: Option<Window>,
        reply: oneshot::Sender<Started>,
    },
    /// Remove the container; with `force` kill it first.
    Remove {
        force: bool,
        reply: oneshot::Sender<Result<()>>,
    },
}

/// How to reach a container's supervisor.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
}

impl Handle {
    /// The record as last published.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.view.borrow().record)
    }

    /// Waits until the main process does not run, and returns the record then.
    pub(crate) async fn not_running(&self) -> Arc<Record> {
        self.until(|view| view.record.phase != Phase::Running).await
    }

    /// Waits until the container is gone, and returns its last record. One
    /// that could not be removed ends the wait too.
    pub(crate) async fn gone(&self) -> Arc<Record> {
        self.until(|view| view.gone || view.record.phase == Phase::Dead)
            .await
    }

    /// Waits until what [`spawn`] was told to begin with shows in the record,
    /// at most for [`SETTLING`]: a shim that hangs holds up only its container.
    pub(crate) async fn settled(&self, plan: Plan) {
        let shows = async {
            match plan {
                Plan::Keep | Plan::Watch(_) | Plan::DropTask => {}
                Plan::Reap(_) | Plan::Record(_) => drop(self.not_running().await),
                Plan::Remove => drop(self.gone().await),
            }
        };
        // What is late goes on, and shows when it is done.
        let _ = tokio::time::timeout(SETTLING, shows).await;
    }

    async fn until(&self, done: impl FnMut(&View) -> bool) -> Arc<Record> {
        let mut view = self.view.clone();
        // A closed channel is a container that is gone: the last view stands.
        let _ = view.wait_for(done).await;
        Arc::clone(&view.borrow().record)
    }

    /// Asks for a start.
    pub(crate) async fn start(&self, attach: bool, window: Option<Window>) -> Started {
        self.ask(|reply| Command::Start {
            attach,
            window,
            reply,
        })
        .await
    }

    /// Asks for the removal.
    pub(crate) async fn remove(&self, force: bool) -> Result<()> {
        self.ask(|reply| Command::Remove { force, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let gone = || Kind::NotFound.error(format!("No such container: {}", self.record().id));
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The end of a piece of work.
enum Done {
    Started(Result<Launched>),
    Ended(Ending),
    Reaped(Ending),
    Dropped,
    Removed(Result<()>),
}

struct Supervisor {
    engine: Engine,
    record: Record,
    published: watch::Sender<View>,
    commands: mpsc::Receiver<Command>,
    work: JoinSet<Done>,
    /// Who waits for the start that is under way.
    starting: Option<Vec<(bool, oneshot::Sender<Started>)>>,
    /// Who waits for the removal that is wanted or under way.
    removers: Vec<oneshot::Sender<Result<()>>>,
    /// To be removed as soon as nothing runs.
    doomed: bool,
}

/// How long the daemon's start waits for a container's end to be recorded.
const SETTLING: Duration = Duration::from_secs(5);

/// Starts the supervisor of `record`'s container, which begins with `plan`.
pub(crate) fn spawn(engine: Engine, mut record: Record, plan: Plan) -> Handle {
    if let Plan::Watch(pid) = plan {
        record.phase = Phase::Running;
        record.run.pid = pid;
        record.run.started_at.get_or_insert_with(SystemTime::now);
    }
    if let Plan::Reap(_) = plan {
        record.phase = Phase::Running;
    }
    let first = View {
        record: Arc::new(record.clone()),
        gone: false,
    };
    let (published, view) = watch::channel(first);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let supervisor = Supervisor {
        engine,
        record,
        published,
        commands,
        work: JoinSet::new(),
        starting: None,
        removers: Vec::new(),
        doomed: false,
    };
    tokio::spawn(supervisor.run(plan));
    Handle {
        commands: sender,
        view,
    }
}

impl Supervisor {
    async fn run(mut self, plan: Plan) {
        self.begin(plan).await;
        loop {
            let gone = tokio::select! {
                biased; // an end that has already happened is seen before a command
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(done) => self.on_done(done).await,
                    Err(join) => {
                        tracing::error!(container_id = self.record.id, error = %join, "container work");
                        false
                    }
                },
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.on_command(command).await;
                        false
                    }
                    None => true,
                },
            };
            if gone {
                return;
            }
        }
    }

    async fn begin(&mut self, plan: Plan) {
        match plan {
            Plan::Keep => {}
            Plan::Watch(_) => {
                self.store(None).await;
                self.watch();
            }
            Plan::Reap(ending) => self.reap(ending),
            Plan::Record(ending) => self.ended(ending).await,
            Plan::DropTask => self.drop_task(),
            Plan::Remove => self.remove().await,
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Start {
                attach,
                window,
                reply,
            } => self.on_start(attach, window, reply),
            Command::Remove { force, reply } => self.on_remove(force, reply).await,
        }
    }

    /// Returns true when the container is gone.
    async fn on_done(&mut self, done: Done) -> bool {
        match done {
            Done::Started(outcome) => self.on_started(outcome).await,
            Done::Ended(ending) => self.reap(ending),
            Done::Reaped(ending) => self.ended(ending).await,
            Done::Dropped => {}
            Done::Removed(outcome) => return self.on_removed(outcome).await,
        }
        false
    }

    fn on_start(&mut self, attach: bool, window: Option<Window>, reply: oneshot::Sender<Started>) {
        if let Some(waiting) = &mut self.starting {
            waiting.push((false, reply));
            return;
        }
        let refusal = match state::next(self.record.phase, Event::Started) {
            Some(_) if !self.doomed => None,
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

    async fn on_started(&mut self, outcome: Result<Launched>) {
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
                self.publish(false);
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

    /// Waits for the end of the main process.
    fn watch(&mut self) {
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
    fn reap(&mut self, ending: Ending) {
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            launch::delete_task(&engine, &id).await;
            Done::Reaped(ending)
        });
    }

    fn drop_task(&mut self) {
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work.spawn(async move {
            launch::delete_task(&engine, &id).await;
            Done::Dropped
        });
    }

    async fn ended(&mut self, ending: Ending) {
        self.advance(Event::Ended);
        self.record.run.pid = 0;
        self.record.run.exit_code = ending.code;
        self.record.run.finished_at = Some(ending.at);
        if self.record.config.auto_remove || self.doomed {
            // "Running" without a task means the same to the next daemon as
            // "exited": one write less on the way of every `run --rm`.
            self.publish(false);
            self.remove().await;
        } else {
            self.store(None).await;
            self.publish(false);
        }
    }

    async fn on_remove(&mut self, force: bool, reply: oneshot::Sender<Result<()>>) {
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
    fn kill(&self) {
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
    async fn remove(&mut self) {
        let said_by_flag = self.record.config.auto_remove && self.record.phase != Phase::Created;
        self.advance(Event::RemovalBegun);
        if !said_by_flag {
            self.store(None).await;
        }
        let (engine, id) = (self.engine.clone(), self.record.id.clone());
        self.work
            .spawn(async move { Done::Removed(launch::remove_all(&engine, &id).await) });
    }

    async fn on_removed(&mut self, outcome: Result<()>) -> bool {
        let removers = std::mem::take(&mut self.removers);
        match outcome {
            Ok(()) => {
                self.engine.forget(&self.record.id, &self.record.name);
                self.publish(true);
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

    fn advance(&mut self, event: Event) {
        match state::next(self.record.phase, event) {
            Some(phase) => self.record.phase = phase,
            None => {
                tracing::error!(container_id = self.record.id, phase = ?self.record.phase, ?event, "impossible event")
            }
        }
    }

    fn publish(&self, gone: bool) {
        self.published.send_replace(View {
            record: Arc::new(self.record.clone()),
            gone,
        });
    }

    /// Stores the record. A write that fails is told and not fatal: what runs
    /// runs, and the next change or the next start of the daemon tries again.
    async fn store(&self, spec: Option<Vec<u8>>) {
        let (engine, record) = (self.engine.clone(), self.record.clone());
        let stored = lite_core::blocking(move || engine.store(&record, spec.as_deref())).await;
        if let Err(err) = stored {
            tracing::error!(container_id = self.record.id, error = %chain(&err), "store container record");
        }
    }
}
