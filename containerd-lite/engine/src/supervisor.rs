//! The owner of one container's run-time state. Everybody else sends it a
//! [`Command`] or reads the last published [`View`].
//!
//! The loop never waits for slow work: starting, watching, reaping and
//! removing run as tasks of their own, whose outcome comes back as one more
//! event. Every change of the record is stored before it counts as done,
//! except where the task itself is the evidence: a daemon that is killed
//! between a start and its record finds the task running and records it then.

mod end;
mod removal;
mod start;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lite_core::{Kind, Result, chain};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::events;
use crate::launch::Launched;
use crate::reconcile::{Ending, Plan};
use crate::record::Record;
use crate::spec::Window;
use crate::state::{self, Event, Phase};
use lite_core::session::Session;

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

/// A change of a record.
pub(crate) type Change = Box<dyn FnOnce(&mut Record) + Send>;

/// What a supervisor can be asked.
pub(crate) enum Command {
    /// Start the main process. With `attach`, a session is in place before.
    Start {
        attach: bool,
        window: Option<Window>,
        reply: oneshot::Sender<Started>,
    },
    /// Change the record, and store it.
    Change {
        change: Change,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Stop or continue all of the container's processes.
    Pause {
        on: bool,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Remove the container; with `force` kill it first, with `volumes` also
    /// its anonymous volumes.
    Remove {
        force: bool,
        volumes: bool,
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

    /// Changes the record.
    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<()> {
        let change: Change = Box::new(change);
        self.ask(|reply| Command::Change { change, reply }).await
    }

    /// Stops all processes where they are, or lets them go on.
    pub(crate) async fn pause(&self, on: bool) -> Result<()> {
        self.ask(|reply| Command::Pause { on, reply }).await
    }

    /// Asks for the removal.
    pub(crate) async fn remove(&self, force: bool, volumes: bool) -> Result<()> {
        self.ask(|reply| Command::Remove {
            force,
            volumes,
            reply,
        })
        .await
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
    Paused(bool, Result<()>, oneshot::Sender<Result<()>>),
    /// The wait before this restart is over.
    RestartDue(u32),
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
    /// Anonymous volumes go with it.
    with_volumes: bool,
    /// The last wait before a start by the policy.
    last_delay: Duration,
    /// The health checks of this run, aborted at its end.
    checks: Option<tokio::task::JoinHandle<()>>,
}

/// How long the daemon's start waits for a container's end to be recorded.
const SETTLING: Duration = Duration::from_secs(5);

/// Starts the supervisor of `record`'s container, which begins with `plan`.
pub(crate) fn spawn(engine: Engine, mut record: Record, plan: Plan) -> Handle {
    if let Plan::Watch(pid) = plan {
        record.phase = Phase::Running;
        record.run.pid = pid;
        record.run.restarting = false;
        record.run.started_at.get_or_insert_with(SystemTime::now);
    }
    if let Plan::Reap(_) = plan {
        record.phase = Phase::Running;
    }
    let first = View {
        record: Arc::new(record.clone()),
        gone: false,
    };
    // `--rm` means the volumes nobody named as well.
    let with_volumes = record.config.auto_remove;
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
        with_volumes,
        last_delay: Duration::ZERO,
        checks: None,
    };
    // Asked here, not in the task: by the time that runs, the daemon may have opened.
    let with_daemon = supervisor.engine.is_opening();
    tokio::spawn(supervisor.run(plan, with_daemon));
    Handle {
        commands: sender,
        view,
    }
}

impl Supervisor {
    async fn run(mut self, plan: Plan, with_daemon: bool) {
        self.begin(plan, with_daemon).await;
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

    async fn begin(&mut self, plan: Plan, with_daemon: bool) {
        match plan {
            Plan::Keep if with_daemon => self.start_with_daemon(),
            Plan::Keep => {}
            Plan::Watch(_) => {
                self.let_go_on();
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
            } => {
                self.record.run.restarting = false;
                self.record.run.restarts = 0;
                self.on_start(attach, window, reply);
            }
            Command::Change { change, reply } => {
                change(&mut self.record);
                let stored = self.try_store(None).await;
                self.publish(false);
                let _ = reply.send(stored);
            }
            Command::Pause { on, reply } => self.on_pause(on, reply),
            Command::Remove {
                force,
                volumes,
                reply,
            } => {
                self.with_volumes |= volumes;
                self.on_remove(force, reply).await;
            }
        }
    }

    /// Returns true when the container is gone.
    async fn on_done(&mut self, done: Done) -> bool {
        match done {
            Done::Started(outcome) => self.on_started(outcome).await,
            Done::Ended(ending) => self.reap(ending),
            Done::Reaped(ending) => self.ended(ending).await,
            Done::Dropped => {}
            Done::RestartDue(number) => self.on_restart_due(number),
            Done::Paused(on, outcome, reply) => self.on_paused(on, outcome, reply).await,
            Done::Removed(outcome) => return self.on_removed(outcome).await,
        }
        false
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

    /// Tells everybody who listens.
    fn emit(&self, action: &str) {
        self.engine
            .emit(events::Event::of_container(&self.record, action));
    }

    /// Stores the record. A write that fails is told and not fatal: what runs
    /// runs, and the next change or the next start of the daemon tries again.
    async fn store(&self, spec: Option<Vec<u8>>) {
        if let Err(err) = self.try_store(spec).await {
            tracing::error!(container_id = self.record.id, error = %chain(&err), "store container record");
        }
    }

    async fn try_store(&self, spec: Option<Vec<u8>>) -> Result<()> {
        let (engine, record) = (self.engine.clone(), self.record.clone());
        lite_core::blocking(move || engine.store(&record, spec.as_deref())).await
    }
}
