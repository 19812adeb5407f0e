//! The event exchange: whatever happens is published here once, and each
//! subscriber gets it in the same order.
//!
//! 1. [`check_topic`] checks what an event is filed under.
//! 2. [`Events::publish`] stamps an event, [`Events::forward`] takes one that
//!    a shim or a client has stamped already.
//! 3. Each [`Subscription`] has its own bounded queue behind containerd's
//!    filters; [`fields`] lets those filters look into the encoded events.
//! 4. [`news`] encodes what the stores tell of their records.
//!
//! A publisher never waits. A subscriber that lets [`QUEUE`] events pile up
//! loses its subscription: it still gets what was queued, and after that an
//! error that says how many it missed at the least, so that it can look at the
//! present state and subscribe again. Nothing is dropped in silence, and one
//! stuck client costs no more than its queue of shared pointers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::error::{Because, Kind, Result};
use crate::filter::{Fields, Filters};
use crate::namespace::{Namespace, check_identifier};
use crate::values::AnyValue;

mod fields;
mod news;

/// How many events a subscriber may be behind.
pub const QUEUE: usize = 4096;

/// An event on its way: whose, what about, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// When it was published first.
    pub timestamp: SystemTime,
    /// The namespace it happened in.
    pub namespace: Namespace,
    /// What it is about, for example `/tasks/exit`.
    pub topic: String,
    /// The event itself, an encoded protobuf message.
    pub event: AnyValue,
}

impl Fields for Envelope {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["namespace"] => Some(self.namespace.to_string()),
            ["topic"] => Some(self.topic.clone()),
            ["event", inner @ ..] => fields::text(&self.event, inner),
            _ => None,
        }
    }
}

/// The exchange; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Events {
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
}

#[derive(Debug)]
struct Subscriber {
    filters: Filters,
    queue: mpsc::Sender<Arc<Envelope>>,
    overrun: Arc<AtomicBool>,
}

/// One subscriber's end; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Arc<Envelope>>,
    overrun: Arc<AtomicBool>,
}

impl Events {
    /// An exchange without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes `event` of `namespace` under `topic`, as of now.
    ///
    /// # Errors
    /// InvalidArgument for a topic that is none.
    pub fn publish(&self, namespace: &Namespace, topic: &str, event: AnyValue) -> Result<()> {
        self.forward(Envelope {
            timestamp: SystemTime::now(),
            namespace: namespace.clone(),
            topic: topic.to_owned(),
            event,
        })
    }

    /// Passes on an event that somebody else has stamped.
    ///
    /// # Errors
    /// InvalidArgument for a topic that is none.
    pub fn forward(&self, envelope: Envelope) -> Result<()> {
        check_topic(&envelope.topic)?;
        tracing::trace!(topic = envelope.topic, namespace = %envelope.namespace, "event");
        let envelope = Arc::new(envelope);
        // The lock is what gives every subscriber the same order; nothing under it waits.
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.offer(&envelope));
        Ok(())
    }

    /// Subscribes to what any of `filters` accepts, or to everything if there
    /// are none. From the return on, no event is missed.
    ///
    /// # Errors
    /// InvalidArgument for a filter that does not parse.
    pub fn subscribe<S: AsRef<str>>(&self, filters: &[S]) -> Result<Subscription> {
        let filters = Filters::parse(filters)?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let overrun = Arc::new(AtomicBool::new(false));
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Subscriber {
                filters,
                queue,
                overrun: Arc::clone(&overrun),
            });
        Ok(Subscription {
            queue: receiver,
            overrun,
        })
    }
}

impl Subscriber {
    /// Whether the subscriber stays.
    fn offer(&self, envelope: &Arc<Envelope>) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        if !self.filters.accept(envelope.as_ref()) {
            return true;
        }
        match self.queue.try_send(Arc::clone(envelope)) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.overrun.store(true, Ordering::Release);
                tracing::warn!(
                    queued = QUEUE,
                    "event subscriber fell behind and was cut off"
                );
                false
            }
        }
    }
}

impl Subscription {
    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// ResourceExhausted once the queue has overflowed and what was in it is
    /// read; Unavailable when the exchange is gone. Both are final.
    pub async fn recv(&mut self) -> Result<Arc<Envelope>> {
        match self.queue.recv().await {
            Some(envelope) => Ok(envelope),
            None if self.overrun.load(Ordering::Acquire) => Err(Kind::ResourceExhausted.error(
                format!("event subscriber fell behind by {QUEUE} events and missed what followed"),
            )),
            None => Err(Kind::Unavailable.error("event exchange is closed")),
        }
    }
}

/// A topic is a path of identifiers: `/tasks/exec-added`.
fn check_topic(topic: &str) -> Result<()> {
    let Some(components) = topic.strip_prefix('/') else {
        return Err(
            Kind::InvalidArgument.error(format!("event topic {topic:?} must start with '/'"))
        );
    };
    components
        .split('/')
        .try_for_each(check_identifier)
        .op(|| format!("event topic {topic:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> AnyValue {
        AnyValue {
            type_url: "test.Nothing".to_owned(),
            value: Vec::new(),
        }
    }

    #[test]
    fn a_topic_is_a_path_of_identifiers() {
        for good in ["/tasks/exit", "/tasks/exec-added", "/a"] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "tasks", "/tasks/", "//", "/tasks//exit", "/ta sk"] {
            assert_eq!(
                check_topic(bad).unwrap_err().kind(),
                Kind::InvalidArgument,
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn each_subscriber_gets_what_its_filters_accept_in_order() {
        let events = Events::new();
        let mut all = events.subscribe::<&str>(&[]).unwrap();
        let mut exits = events
            .subscribe(&["topic==\"/tasks/exit\",namespace==other"])
            .unwrap();
        let here = Namespace::default();
        let other = Namespace::parse("other").unwrap();
        events.publish(&here, "/tasks/exit", event()).unwrap();
        events.publish(&other, "/tasks/start", event()).unwrap();
        events.publish(&other, "/tasks/exit", event()).unwrap();
        for topic in ["/tasks/exit", "/tasks/start", "/tasks/exit"] {
            assert_eq!(all.recv().await.unwrap().topic, topic);
        }
        assert_eq!(exits.recv().await.unwrap().namespace, other);
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_behind_gets_its_queue_and_then_an_error() {
        let events = Events::new();
        let mut slow = events.subscribe::<&str>(&[]).unwrap();
        for _ in 0..QUEUE + 3 {
            events
                .publish(&Namespace::default(), "/a", event())
                .unwrap();
        }
        for _ in 0..QUEUE {
            slow.recv().await.unwrap();
        }
        assert_eq!(
            slow.recv().await.unwrap_err().kind(),
            Kind::ResourceExhausted
        );
    }

    #[test]
    fn a_dropped_subscription_is_forgotten() {
        let events = Events::new();
        drop(events.subscribe::<&str>(&[]).unwrap());
        events
            .publish(&Namespace::default(), "/a", event())
            .unwrap();
        assert!(events.subscribers.lock().unwrap().is_empty());
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        assert_eq!(
            Events::new().subscribe(&["topic=="]).unwrap_err().kind(),
            Kind::InvalidArgument
        );
    }
}
