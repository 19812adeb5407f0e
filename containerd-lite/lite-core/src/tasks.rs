//! Tasks: the running instances of containers.
//!
//! 1. [`bundle`] keeps a task's directory.
//! 2. [`phrases`] tells what a runtime's words mean.
//! 3. [`view`] is what is known of a task, and how reports change it.
//! 4. [`slots`] knows which ids are taken and how to reach each task, by the
//!    [`command`]s that it takes.
//! 5. [`supervisor`] is the one owner of a task's run-time state: it takes
//!    commands, hears from the shim, and publishes a [`view`] after each change.
//! 6. [`ending`] is what a task's end takes, in order or after a dead shim.
//! 7. [`create`] brings a task into being, [`reconnect`] finds those that an
//!    earlier daemon left running.
//!
//! Nothing here is durable but what [`bundle`] writes under the state
//! directory; a running task lives in its shim, not in the daemon. What does
//! not change a task's state (signals, sizes, statistics) goes to the shim
//! directly, on the caller's own task.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::containers::Runtime;
use crate::error::{Error, Kind, Result};
use crate::events::{Envelope, Events};
use crate::labels::Labels;
use crate::namespace::{Namespace, check_identifier};
pub use crate::shim::{
    DEFAULT_RUNTIME, Deleted, Exit, ProcessEntry, ProcessState, Status, TaskIo, runtime_options,
};
use crate::shim::{Launcher, event};
use crate::values::{AnyValue, Mount};

mod bundle;
mod phrases;
mod view;

mod command;
mod slots;

mod ending;
mod supervisor;

mod create;
mod reconnect;
mod usage;

pub use reconnect::{Reconnected, Repair};
pub use usage::ResourceUsage;

use command::Command;
use slots::{Handle, Key, Shared};

/// Where tasks live and what shims are told.
#[derive(Debug, Clone)]
pub struct TasksConfig {
    /// The daemon's state directory; bundles are in its `tasks`, the default
    /// runtime's own state in its `runc`.
    pub state: PathBuf,
    /// How shims are found and called.
    pub launcher: Launcher,
}

/// What a new task is made from.
#[derive(Debug, Clone)]
pub struct CreateTask {
    /// The container's id.
    pub id: String,
    /// The OCI spec: `config.json`.
    pub spec: Vec<u8>,
    /// The root file system, for the shim to mount.
    pub rootfs: Vec<Mount>,
    /// Init's standard streams.
    pub io: TaskIo,
    /// The container's runtime.
    pub runtime: Runtime,
    /// Options for this task; absent, the runtime's own are used.
    pub options: Option<AnyValue>,
}

/// Every task of the daemon. Clones share them.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

impl Tasks {
    /// Tasks under `config.state`, none of them known yet: those that an
    /// earlier daemon left are found by [`Tasks::reconnect`].
    #[must_use]
    pub fn new(config: TasksConfig, events: Events) -> Self {
        Self {
            shared: Arc::new(Shared::new(&config.state, config.launcher, events)),
        }
    }

    /// Creates a task and returns its init's pid. The program does not run
    /// until [`Tasks::start`]. A failure leaves no bundle, shim or mount.
    ///
    /// The work goes on if the caller stops waiting.
    ///
    /// # Errors
    /// AlreadyExists if the container has a task; else what runtime and shim
    /// say, of the kinds that a runtime's words are known to mean.
    pub async fn create(&self, namespace: &Namespace, request: CreateTask) -> Result<u32> {
        check_identifier(&request.id)?;
        let key = Key {
            namespace: namespace.clone(),
            id: request.id.clone(),
        };
        let work = create::create(Arc::clone(&self.shared), key, request);
        tokio::spawn(work)
            .await
            .unwrap_or_else(|join| Err(Kind::Internal.error("create task").because(join)))
    }

    /// Finds the tasks under the state directory again, in parallel: live
    /// shims are connected to, an exit that happened meanwhile becomes known
    /// and its event is published, and what dead shims left is cleaned up.
    /// Called once, before anything else.
    ///
    /// # Errors
    /// If the state directory cannot be read. What goes wrong with a single
    /// task is in the report.
    pub async fn reconnect(&self) -> Result<Reconnected> {
        reconnect::reconnect(Arc::clone(&self.shared)).await
    }

    /// Starts init, or the exec `exec`, and returns its pid.
    ///
    /// # Errors
    /// NotFound; ExecutableNotFound and ExecutableNotRunnable if the runtime
    /// says so; else Unknown with the runtime's words.
    pub async fn start(&self, namespace: &Namespace, id: &str, exec: Option<&str>) -> Result<u32> {
        let exec = exec.map(str::to_owned);
        self.ask(namespace, id, |reply| Command::Start { exec, reply })
            .await
    }

    /// Adds a process to a task. `process` is an OCI process as JSON; it does
    /// not run until [`Tasks::start`] is called with `exec_id`.
    ///
    /// # Errors
    /// NotFound for the task, AlreadyExists for the exec id.
    pub async fn exec(
        &self,
        namespace: &Namespace,
        id: &str,
        exec_id: &str,
        io: TaskIo,
        process: AnyValue,
    ) -> Result<()> {
        check_identifier(exec_id)?;
        let exec = exec_id.to_owned();
        self.ask(namespace, id, |reply| Command::Exec {
            exec,
            io,
            process,
            reply,
        })
        .await
    }

    /// Waits until init or the exec has ended; returns at once if it has and
    /// was not deleted.
    ///
    /// # Errors
    /// NotFound if there is no such task or exec.
    pub async fn wait(&self, namespace: &Namespace, id: &str, exec: Option<&str>) -> Result<Exit> {
        self.known(namespace, id, exec).await?;
        let exec = exec.map(str::to_owned);
        self.ask(namespace, id, |reply| Command::Wait { exec, reply })
            .await
    }

    /// Deletes a task that has ended or was never started; its shim ends and
    /// its bundle goes.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition while it runs.
    pub async fn delete(&self, namespace: &Namespace, id: &str) -> Result<Deleted> {
        self.ask(namespace, id, |reply| Command::Delete { reply })
            .await
    }

    /// Deletes an exec that has ended or was never started.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition while it runs.
    pub async fn delete_process(
        &self,
        namespace: &Namespace,
        id: &str,
        exec_id: &str,
    ) -> Result<Deleted> {
        self.known(namespace, id, Some(exec_id)).await?;
        let exec = exec_id.to_owned();
        self.ask(namespace, id, |reply| Command::DeleteExec { exec, reply })
            .await
    }

    /// Freezes every process of a task.
    ///
    /// # Errors
    /// NotFound; what the runtime says.
    pub async fn pause(&self, namespace: &Namespace, id: &str) -> Result<()> {
        self.ask(namespace, id, |reply| Command::Pause { reply })
            .await
    }

    /// Lets a paused task go on.
    ///
    /// # Errors
    /// NotFound; what the runtime says.
    pub async fn resume(&self, namespace: &Namespace, id: &str) -> Result<()> {
        self.ask(namespace, id, |reply| Command::Resume { reply })
            .await
    }

    /// The last published state of init, or of an exec.
    ///
    /// # Errors
    /// NotFound if there is no such task or exec.
    pub async fn get(
        &self,
        namespace: &Namespace,
        id: &str,
        exec: Option<&str>,
    ) -> Result<ProcessState> {
        self.known(namespace, id, exec).await
    }

    /// The last published state of every task's init, by id.
    #[must_use]
    pub fn list(&self, namespace: &Namespace) -> Vec<ProcessState> {
        let mut states: Vec<_> = self
            .shared
            .slots()
            .iter()
            .filter(|(key, _)| key.namespace == *namespace)
            .filter_map(|(_, slot)| Some(slot.handle.as_ref()?.view.borrow().init.clone()))
            .collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        states
    }

    /// Sends a signal to init, to an exec, or with `all` to every process.
    ///
    /// # Errors
    /// NotFound if the task or exec does not exist or has ended.
    pub async fn kill(
        &self,
        namespace: &Namespace,
        id: &str,
        exec: Option<&str>,
        signal: u32,
        all: bool,
    ) -> Result<()> {
        let shim = self.handle(namespace, id)?.shim;
        shim.kill(exec, signal, all)
            .await
            .map_err(phrases::classify)
    }

    /// Lists every process in a task.
    ///
    /// # Errors
    /// NotFound.
    pub async fn pids(&self, namespace: &Namespace, id: &str) -> Result<Vec<ProcessEntry>> {
        self.handle(namespace, id)?
            .shim
            .pids()
            .await
            .map_err(phrases::classify)
    }

    /// Sets the size, in characters, of a process's terminal.
    ///
    /// # Errors
    /// NotFound; what the shim says without a terminal.
    pub async fn resize(
        &self,
        namespace: &Namespace,
        id: &str,
        exec: Option<&str>,
        width: u32,
        height: u32,
    ) -> Result<()> {
        self.handle(namespace, id)?
            .shim
            .resize(exec, width, height)
            .await
            .map_err(phrases::classify)
    }

    /// Closes a process's standard input.
    ///
    /// # Errors
    /// NotFound.
    pub async fn close_io(
        &self,
        namespace: &Namespace,
        id: &str,
        exec: Option<&str>,
    ) -> Result<()> {
        self.handle(namespace, id)?
            .shim
            .close_stdin(exec)
            .await
            .map_err(phrases::classify)
    }

    /// Samples a task's resource use: a cgroup v1 or v2 metrics message.
    ///
    /// # Errors
    /// NotFound; what the shim says.
    pub async fn metrics(&self, namespace: &Namespace, id: &str) -> Result<Option<AnyValue>> {
        self.handle(namespace, id)?
            .shim
            .stats()
            .await
            .map_err(phrases::classify)
    }

    /// Samples a task's resource use, whatever the version of its cgroups.
    ///
    /// # Errors
    /// NotFound; what the shim says.
    pub async fn usage(&self, namespace: &Namespace, id: &str) -> Result<ResourceUsage> {
        match self.metrics(namespace, id).await? {
            Some(sample) => usage::read(&sample),
            None => Ok(ResourceUsage::default()),
        }
    }

    /// Changes a task's limits; `resources` is an OCI LinuxResources as JSON.
    ///
    /// # Errors
    /// NotFound; what the runtime says.
    pub async fn update(
        &self,
        namespace: &Namespace,
        id: &str,
        resources: Option<AnyValue>,
        annotations: &Labels,
    ) -> Result<()> {
        self.handle(namespace, id)?
            .shim
            .update(resources.as_ref(), annotations)
            .await
            .map_err(phrases::classify)
    }

    /// Not offered yet.
    ///
    /// # Errors
    /// NotFound, else Unimplemented.
    pub fn checkpoint(&self, namespace: &Namespace, id: &str) -> Result<()> {
        self.handle(namespace, id)?;
        Err(Kind::Unimplemented.error(format!("checkpoint task {id}")))
    }

    /// Takes an event from outside: one about a task goes by way of its
    /// supervisor, all others straight to the subscribers.
    ///
    /// # Errors
    /// InvalidArgument for a topic that is none.
    pub async fn forward(&self, envelope: Envelope) -> Result<()> {
        let Some((id, reported)) = event::read(&envelope.event) else {
            return self.shared.events.forward(envelope);
        };
        let key = Key {
            namespace: envelope.namespace.clone(),
            id,
        };
        let commands = self
            .shared
            .slots()
            .get(&key)
            .map(|slot| slot.commands.clone());
        let unheard = match commands {
            Some(commands) => match commands.send(Command::Event(envelope)).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(Command::Event(envelope))) => envelope,
                Err(_) => return Err(Kind::Internal.error("forward event")),
            },
            None => envelope,
        };
        if self.shared.is_old_news(&key, reported.as_ref()) {
            return Ok(());
        }
        self.shared.events.forward(unheard)
    }

    /// The state of a process; an exec that an earlier daemon started is asked
    /// for at the shim.
    async fn known(
        &self,
        namespace: &Namespace,
        id: &str,
        exec: Option<&str>,
    ) -> Result<ProcessState> {
        let handle = self.handle(namespace, id)?;
        if let Some(state) = handle.view.borrow().process(exec) {
            return Ok(state.clone());
        }
        let wanted = exec.unwrap_or_default().to_owned();
        self.ask(namespace, id, |reply| Command::Adopt {
            exec: wanted,
            reply,
        })
        .await
    }

    fn handle(&self, namespace: &Namespace, id: &str) -> Result<Handle> {
        let key = Key {
            namespace: namespace.clone(),
            id: id.to_owned(),
        };
        self.shared
            .slots()
            .get(&key)
            .and_then(|slot| slot.handle.clone())
            .ok_or_else(|| not_found(id))
    }

    async fn ask<T>(
        &self,
        namespace: &Namespace,
        id: &str,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let handle = self.handle(namespace, id)?;
        let (reply, answer) = oneshot::channel();
        handle
            .commands
            .send(command(reply))
            .await
            .map_err(|_| not_found(id))?;
        // A supervisor that ends without an answer has lost its task.
        answer
            .await
            .unwrap_or_else(|_| Err(not_found(id)))
            .map_err(phrases::classify)
    }
}

fn not_found(id: &str) -> Error {
    Kind::NotFound.error(format!("task {id} not found"))
}
