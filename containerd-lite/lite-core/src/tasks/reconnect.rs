//! Finds the tasks that an earlier daemon left, all at once.
//!
//! Every bundle under the state directory is one of these:
//! - its shim answers and has the container: the task is taken over, and an
//!   exit that happened meanwhile is announced;
//! - its shim answers but has no container: its creation was cut short, and
//!   all of it is undone;
//! - its shim is dead: the shim's binary cleans up, and exit and end are announced;
//! - its shim does not answer in time: it is left alone, as its container may
//!   be well, and its id stays taken on disk;
//! - it has no shim, or is half removed: it is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::bundle::{Bundle, Record};
use super::command::Command;
use super::ending;
use super::slots::{Key, Shared};
use super::supervisor::{Start, supervise};
use super::view::View;
use crate::blocking;
use crate::error::{Because, Error, Kind, Result, chain};
use crate::namespace::{Namespace, check_identifier};
use crate::shim::event::{self, TaskEvent};
use crate::shim::{Deleted, Endpoint, Exit, ProcessState, Shim, Status, log};

/// Bundles looked at in parallel: each may run a shim's binary.
const AT_ONCE: usize = 16;

/// A shim answers from memory; one that takes longer is stuck.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Default)]
pub struct Reconnected {
    /// How many tasks were taken over.
    pub tasks: usize,
    /// What was not as it should be.
    pub repairs: Vec<Repair>,
}

/// One bundle that needed more than a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The container's namespace.
    pub namespace: Namespace,
    /// The container's id.
    pub id: String,
    /// What was found and done.
    pub what: String,
    /// How the container ended, if it is over with its task.
    pub exit: Option<Exit>,
}

enum Found {
    Task,
    Repaired { what: String, exit: Option<Exit> },
}

/// Reconnects to every bundle's shim, or cleans up.
pub(super) async fn reconnect(shared: Arc<Shared>) -> Result<Reconnected> {
    let dir = shared.dir.clone();
    let keys = blocking(move || scan(&dir)).await?;
    let mut work = JoinSet::new();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    for key in keys {
        // All ids are taken before anything is looked at, so that shims'
        // events already wait for their tasks.
        let commands = shared.reserve(&key)?;
        let (shared, permits) = (Arc::clone(&shared), Arc::clone(&permits));
        work.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let found = look(&shared, &key, commands).await;
            if !matches!(found, Ok(Found::Task)) {
                shared.release(&key);
            }
            (key, found)
        });
    }
    let mut report = Reconnected::default();
    while let Some(done) = work.join_next().await {
        let (key, found) =
            done.map_err(|join| Kind::Internal.error("reconnect to shims").because(join))?;
        let (what, exit) = match found {
            Ok(Found::Task) => {
                report.tasks += 1;
                continue;
            }
            Ok(Found::Repaired { what, exit }) => (what, exit),
            Err(err) => (format!("left alone: {}", chain(&err)), None),
        };
        report.repairs.push(Repair {
            namespace: key.namespace,
            id: key.id,
            what,
            exit,
        });
    }
    Ok(report)
}

/// Lists the bundles, and removes those that were half removed.
fn scan(dir: &Path) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for namespace in subdirectories(dir)? {
        let Some(parsed) = name(&namespace).and_then(|name| Namespace::parse(name).ok()) else {
            continue;
        };
        for bundle in subdirectories(&namespace)? {
            match name(&bundle) {
                Some(id) if check_identifier(id).is_ok() => keys.push(Key {
                    namespace: parsed.clone(),
                    id: id.to_owned(),
                }),
                Some(id) if id.starts_with('.') => {
                    let rest = Bundle {
                        path: bundle.clone(),
                    };
                    rest.remove()
                        .op(|| format!("remove rest of a bundle {}", bundle.display()))?;
                }
                _ => {}
            }
        }
    }
    Ok(keys)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    let op = || format!("list {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.op(op)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.op(op)?;
        if entry.file_type().op(op)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

async fn look(shared: &Arc<Shared>, key: &Key, commands: mpsc::Receiver<Command>) -> Result<Found> {
    let bundle = Bundle::at(&shared.dir, &key.namespace, &key.id);
    let reader = bundle.clone();
    let (record, endpoint) = blocking(move || {
        let record = reader.load()?;
        let endpoint = record
            .as_ref()
            .and_then(|record| record.endpoint.clone())
            .or_else(|| reader.address());
        Ok((record, endpoint))
    })
    .await?;
    let Some(record) = record else {
        blocking(move || bundle.remove()).await?;
        return Ok(repaired("removed a bundle without a shim"));
    };
    let remains = Remains {
        shared,
        key,
        record,
        bundle,
        commands,
    };
    let Some(endpoint) = endpoint else {
        return remains.never_created(None).await;
    };
    match connect(&endpoint, key).await {
        Ok((shim, init)) => remains.take_over(shim, init).await,
        Err((Some(shim), err)) if err.kind() == Kind::NotFound => {
            remains.never_created(Some(shim)).await
        }
        Err((_, err)) if err.kind() == Kind::Unavailable => remains.shim_is_dead().await,
        Err((_, err)) => Err(err),
    }
}

/// Connects and asks for init's state; the error comes with the connection if
/// there is one. A shim that answers `start` with version 3 may be one of
/// version 2 that was running before its binary was replaced.
async fn connect(
    endpoint: &Endpoint,
    key: &Key,
) -> std::result::Result<(Shim, ProcessState), (Option<Shim>, Error)> {
    let shim = Shim::connect(endpoint, &key.namespace, &key.id)
        .await
        .map_err(|err| (None, err))?;
    match shim.state(None, STATE_TIMEOUT).await {
        Ok(state) => Ok((shim, state)),
        Err(err) if err.kind() == Kind::Unimplemented && endpoint.version > 2 => {
            let older = Endpoint {
                version: 2,
                ..endpoint.clone()
            };
            Box::pin(connect(&older, key)).await
        }
        Err(err) => Err((Some(shim), err)),
    }
}

/// A bundle with a record, and what to do with it.
struct Remains<'a> {
    shared: &'a Arc<Shared>,
    key: &'a Key,
    record: Record,
    bundle: Bundle,
    commands: mpsc::Receiver<Command>,
}

impl Remains<'_> {
    async fn take_over(self, shim: Shim, init: ProcessState) -> Result<Found> {
        let log = log::follow(&self.bundle.path, &self.key.id)?;
        let mut view = View::new(ProcessState {
            id: self.key.id.clone(),
            ..init
        });
        for exec in execs(&shim).await {
            view.execs.insert(exec.id.clone(), exec);
        }
        let start = Start {
            shared: Arc::clone(self.shared),
            key: self.key.clone(),
            shim,
            binary: self.record.shim,
            bundle: self.bundle,
            view,
            commands: self.commands,
            log,
        };
        supervise(start, true);
        Ok(Found::Task)
    }

    async fn never_created(self, shim: Option<Shim>) -> Result<Found> {
        if let Some(shim) = shim {
            ending::shut_down(&shim, false).await;
        }
        ending::clean_up(self.shared, self.key, &self.record.shim, self.bundle).await?;
        Ok(repaired("undid a creation that was cut short"))
    }

    async fn shim_is_dead(mut self) -> Result<Found> {
        // What the shim still managed to say counts for more than a guess.
        let mut told = None;
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Event(envelope) = command {
                if let Some((_, Some(TaskEvent::Exited { process, pid, exit }))) =
                    event::read(&envelope.event)
                    && process == self.key.id
                {
                    told = Some(Deleted { pid, exit });
                }
                self.shared.events.forward(envelope)?;
            }
        }
        let result = ending::clean_up(
            self.shared,
            self.key,
            &self.record.shim,
            self.bundle.clone(),
        )
        .await;
        let (pid, note) = match &result {
            Ok(deleted) => (deleted.pid, String::new()),
            Err(err) => (0, format!("; {}", chain(err))),
        };
        let deleted = told.unwrap_or_else(|| Deleted {
            pid,
            exit: ending::lost_exit(result.ok()),
        });
        if told.is_none() {
            let event = event::exited(&self.key.id, &self.key.id, deleted.pid, deleted.exit);
            self.shared.publish(self.key, event::EXIT_TOPIC, event);
        }
        self.shared.publish(
            self.key,
            event::DELETE_TOPIC,
            event::deleted(&self.key.id, deleted),
        );
        self.shared.remember_end(self.key, deleted.pid);
        Ok(Found::Repaired {
            what: format!("cleaned up after a dead shim{note}"),
            exit: Some(deleted.exit),
        })
    }
}

fn repaired(what: &str) -> Found {
    Found::Repaired {
        what: what.to_owned(),
        exit: None,
    }
}

/// The execs that still run. Ones that have ended are asked for when a client
/// names them: shims do not list those.
async fn execs(shim: &Shim) -> Vec<ProcessState> {
    let mut found = Vec::new();
    // A shim that cannot list processes has a container without any.
    for process in shim.pids().await.unwrap_or_default() {
        let Some(exec) = process.exec_id else {
            continue;
        };
        if let Ok(state) = shim.state(Some(&exec), STATE_TIMEOUT).await
            && state.status != Status::Unknown
        {
            found.push(ProcessState { id: exec, ..state });
        }
    }
    found
}
