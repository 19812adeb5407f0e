//! Which ids are taken, how to reach each task, and what all tasks have in
//! common. No task's state is here: that is its supervisor's.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::command::Command;
use super::view::View;
use crate::error::{Kind, Result};
use crate::events::Events;
use crate::namespace::Namespace;
use crate::shim::{Launcher, Shim, event};
use crate::values::AnyValue;

/// Commands and events that wait for one supervisor. When it is full, callers
/// and that container's shim wait.
const COMMANDS: usize = 64;

/// How many ends of dead shims' tasks to remember, so that an event their shim
/// had sent before it died is not published a second time.
const REMEMBERED_ENDS: usize = 256;

#[derive(Debug)]
pub(super) struct Shared {
    /// `<state>/tasks`.
    pub(super) dir: PathBuf,
    /// Where the default runtime keeps its state.
    pub(super) runtime_root: String,
    pub(super) launcher: Launcher,
    pub(super) events: Events,
    slots: Mutex<HashMap<Key, Slot>>,
    ended: Mutex<VecDeque<(Key, u32)>>,
}

/// A task's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) namespace: Namespace,
    pub(super) id: String,
}

/// A taken id. From the moment it is taken its shim's events have a place to
/// go, so that none is lost however early it comes.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) commands: mpsc::Sender<Command>,
    /// Absent while the task is being created or found again.
    pub(super) handle: Option<Handle>,
}

/// How to reach a task.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<View>,
    pub(super) shim: Shim,
}

impl Shared {
    pub(super) fn new(state: &Path, launcher: Launcher, events: Events) -> Self {
        Self {
            dir: state.join("tasks"),
            runtime_root: state.join("runc").to_string_lossy().into_owned(),
            launcher,
            events,
            slots: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an id; its commands arrive at the result.
    pub(super) fn reserve(&self, key: &Key) -> Result<mpsc::Receiver<Command>> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let mut slots = self.slots();
        if slots.contains_key(key) {
            return Err(Kind::AlreadyExists.error(format!("task {}: already exists", key.id)));
        }
        slots.insert(
            key.clone(),
            Slot {
                commands,
                handle: None,
            },
        );
        Ok(receiver)
    }

    /// Gives the id back.
    pub(super) fn release(&self, key: &Key) {
        self.slots().remove(key);
    }

    /// Remembers that the end of `key`'s task with init `pid` was announced
    /// on behalf of its dead shim.
    pub(super) fn remember_end(&self, key: &Key, pid: u32) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == REMEMBERED_ENDS {
            ended.pop_front();
        }
        ended.push_back((key.clone(), pid));
    }

    /// Whether a shim's report of an end arrives after we have announced it.
    pub(super) fn is_old_news(&self, key: &Key, reported: Option<&event::TaskEvent>) -> bool {
        let Some(event::TaskEvent::Exited { pid, .. } | event::TaskEvent::Deleted { pid, .. }) =
            reported
        else {
            return false;
        };
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended
            .iter()
            .any(|(old, old_pid)| old == key && old_pid == pid)
    }

    /// Publishes an event of our own making.
    pub(super) fn publish(&self, key: &Key, topic: &str, event: AnyValue) {
        if let Err(err) = self.events.publish(&key.namespace, topic, event) {
            tracing::error!(topic, container_id = key.id, error = %err, "publish event");
        }
    }

    /// Whether the shim also holds other containers, as a pod's does.
    pub(super) fn others_use(&self, key: &Key, shim: &Shim) -> bool {
        self.slots().iter().any(|(other, slot)| {
            other != key
                && slot
                    .handle
                    .as_ref()
                    .is_some_and(|handle| handle.shim.socket() == shim.socket())
        })
    }
}
