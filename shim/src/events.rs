//! Tells the daemon what happens, in order, without ever holding a task up.
//!
//! Events wait in a bounded queue and are forwarded one by one over the
//! daemon's ttrpc socket. While the daemon is away they stay, and are tried
//! again with growing pauses. When the queue is full the oldest event is
//! dropped and the loss logged: a daemon that was away that long asks for the
//! state of its tasks anyway.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use prost::Message;
use proto::containerd::events as wire;
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use proto::containerd::types::Envelope;
use tokio::sync::Notify;
use ttrpc_wire::{CallError, Client};

use crate::failure::warn;

/// About 200 kB of exits at worst.
const MAX_QUEUED: usize = 1024;

/// How often an event is offered to a daemon that answers with an error.
const MAX_REFUSALS: u32 = 5;

const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An event with the topic and the type name it goes by.
pub(crate) trait Event: Message {
    /// The topic, such as `/tasks/exit`.
    const TOPIC: &'static str;
    /// The type, such as `containerd.events.TaskExit`.
    const TYPE: &'static str;
}

macro_rules! events {
    ($($name:ident $topic:literal)*) => {$(
        impl Event for wire::$name {
            const TOPIC: &'static str = concat!("/tasks/", $topic);
            const TYPE: &'static str = concat!("containerd.events.", stringify!($name));
        }
    )*};
}

events! {
    TaskCreate "create"
    TaskStart "start"
    TaskExecAdded "exec-added"
    TaskExecStarted "exec-started"
    TaskPaused "paused"
    TaskResumed "resumed"
    TaskCheckpointed "checkpointed"
    TaskOom "oom"
    TaskExit "exit"
    TaskDelete "delete"
}

/// The queue of events for one daemon.
pub(crate) struct Publisher {
    namespace: String,
    /// The daemon's ttrpc socket; none when it did not say.
    daemon: Option<PathBuf>,
    queue: RefCell<VecDeque<Envelope>>,
    changed: Notify,
    empty: Notify,
}

impl Publisher {
    /// A publisher for the daemon behind the socket `daemon`.
    pub(crate) fn new(namespace: String, daemon: Option<PathBuf>) -> Self {
        Self {
            namespace,
            daemon,
            queue: RefCell::default(),
            changed: Notify::new(),
            empty: Notify::new(),
        }
    }

    /// Queues `event`.
    pub(crate) fn publish<E: Event>(&self, event: &E) {
        if self.daemon.is_none() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(prost_types::Any {
                type_url: E::TYPE.to_owned(),
                value: event.encode_to_vec(),
            }),
        };
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= MAX_QUEUED
            && let Some(lost) = queue.pop_front()
        {
            warn(
                "event queue is full, dropped the oldest",
                &std::io::Error::other(lost.topic),
            );
        }
        queue.push_back(envelope);
        self.changed.notify_one();
    }

    /// Forwards for ever.
    pub(crate) async fn run(&self) {
        let Some(daemon) = &self.daemon else {
            return std::future::pending().await;
        };
        let mut client = None;
        let mut pause = FIRST_PAUSE;
        let mut refusals = 0;
        loop {
            let next = self.queue.borrow().front().cloned();
            let Some(envelope) = next else {
                self.empty.notify_waiters();
                self.changed.notified().await;
                continue;
            };
            let sent = match &client {
                Some(client) => self.forward(client, &envelope).await,
                None => match Client::connect(daemon).await {
                    Ok(new) => self.forward(client.insert(new), &envelope).await,
                    Err(err) => Err(CallError::Io(err)),
                },
            };
            match sent {
                Err(CallError::Status(status)) if refusals + 1 < MAX_REFUSALS => {
                    refusals += 1;
                    warn("daemon refused an event", &status);
                }
                Err(err) if !matches!(err, CallError::Status(_)) => client = None,
                _ => {
                    self.done_with(&envelope);
                    (pause, refusals) = (FIRST_PAUSE, 0);
                    continue;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Resolves when nothing is left to forward.
    pub(crate) async fn flushed(&self) {
        loop {
            let empty = self.empty.notified();
            if self.queue.borrow().is_empty() {
                return;
            }
            empty.await;
        }
    }

    async fn forward(&self, client: &Client, envelope: &Envelope) -> Result<(), CallError> {
        let request = ForwardRequest {
            envelope: Some(envelope.clone()),
        };
        let metadata = [("containerd-namespace-ttrpc", self.namespace.as_str())];
        client
            .call::<_, ()>(
                "containerd.services.events.ttrpc.v1.Events",
                "Forward",
                &request,
                Some(FORWARD_TIMEOUT),
                &metadata,
            )
            .await
    }

    /// Takes the front out, unless it was dropped meanwhile.
    fn done_with(&self, envelope: &Envelope) {
        let mut queue = self.queue.borrow_mut();
        if queue.front() == Some(envelope) {
            queue.pop_front();
        }
    }
}
