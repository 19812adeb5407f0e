//! What happens, in Docker's shape, for whoever listens: `ctl events`.
//!
//! The last few events are kept for those who ask for the past; they end with
//! the daemon. A listener that does not read misses events and is told how
//! many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use lite_core::Result;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use crate::engine::Engine;
use crate::list_filter::Filter;
use crate::record::Record;

/// As many as Docker keeps.
const KEPT: usize = 256;

/// Events that wait for a listener; then it misses the oldest.
const WAITING: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// `container`, `image`, `volume`, `network`.
    pub kind: &'static str,
    /// `start`, `die` and so on.
    pub action: String,
    /// Id or name of what it happened to.
    pub id: String,
    /// What else is known.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event that happens now.
    #[must_use]
    pub fn now(kind: &'static str, action: &str, id: &str) -> Self {
        Self {
            at: SystemTime::now(),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    /// One about a container, with what Docker tells of each.
    #[must_use]
    pub fn of_container(record: &Record, action: &str) -> Self {
        let mut event = Self::now("container", action, &record.id);
        event.attributes = record.config.labels.clone();
        event
            .attributes
            .insert("image".to_owned(), record.image.typed.clone());
        event
            .attributes
            .insert("name".to_owned(), record.name.clone());
        event
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }

    /// The object, as `docker events --format json` prints it.
    #[must_use]
    pub fn json(&self) -> Value {
        let since = self
            .at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut object = json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": "local",
            "time": since.as_secs(),
            "timeNano": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        });
        // Docker keeps these for clients of before 2016.
        if self.kind == "container" {
            object["status"] = json!(self.action);
            object["id"] = json!(self.id);
            object["from"] = json!(self.attributes.get("image"));
        }
        object
    }
}

/// Where events go.
pub(crate) struct Events {
    kept: Mutex<VecDeque<Event>>,
    live: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            live: broadcast::Sender::new(WAITING),
        }
    }
}

impl Events {
    /// Tells it to everybody.
    pub(crate) fn emit(&self, event: Event) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that a listener sees each event once. Nobody
        // listening is fine.
        let _ = self.live.send(event);
    }

    /// What is kept, and what comes from now on.
    pub(crate) fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.live.subscribe())
    }
}

/// What a listener asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Also what happened since then.
    pub since: Option<SystemTime>,
    /// End then.
    pub until: Option<SystemTime>,
    /// As typed.
    pub filters: Vec<String>,
}

/// The keys of `--filter` of `events`.
const FILTERS: [&str; 9] = [
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "scope",
    "type",
    "volume",
];

/// Events that `wanted` lets through, until nobody listens any more.
///
/// # Errors
/// InvalidArgument for a filter there is not.
pub fn listen(engine: &Engine, wanted: Wanted) -> Result<mpsc::Receiver<Event>> {
    let filter = Filter::parse(&wanted.filters, &FILTERS)?;
    let (mut past, mut live) = engine.events().listen();
    match wanted.since {
        Some(since) => past.retain(|event| event.at >= since),
        // A span that only ends begins with what is remembered.
        None if wanted.until.is_some() => {}
        None => past.clear(),
    }
    let (sender, receiver) = mpsc::channel(PAST_READ_AHEAD);
    tokio::spawn(async move {
        for event in past {
            let late = wanted.until.is_some_and(|until| event.at > until);
            if !late && passes(&event, &filter) && sender.send(event).await.is_err() {
                return;
            }
        }
        loop {
            let left = wanted
                .until
                .map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
            let over = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = live.recv() => event,
                () = over => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if passes(&event, &filter) => {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener of events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    Ok(receiver)
}

/// Events that wait for a client that does not read; then reading waits.
const PAST_READ_AHEAD: usize = 16;

fn passes(event: &Event, filter: &Filter) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let is = |kind: &str, value: &str| {
        event.kind == kind && (event.id.starts_with(value) || attribute("name") == value)
    };
    filter.any("type", |value| value == event.kind)
        && filter.any("event", |value| {
            value == event.action || event.action.split(':').next() == Some(value)
        })
        && filter.any("container", |value| {
            is("container", value) || attribute("container") == value
        })
        && filter.any("image", |value| {
            is("image", value) || attribute("image") == value
        })
        && filter.any("volume", |value| is("volume", value))
        && filter.any("network", |value| is("network", value))
        && filter.any("scope", |value| value == "local")
        && filter.labels(&event.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_kept_and_ends_somewhere() {
        let events = Events::default();
        for number in 0..300 {
            events.emit(Event::now("container", "start", &number.to_string()));
        }
        let (kept, mut live) = events.listen();
        assert_eq!((kept.len(), kept[0].id.as_str()), (KEPT, "44"));
        events.emit(Event::now("volume", "create", "v").with("driver", "local"));
        let event = live.try_recv().unwrap();
        assert_eq!(event.json()["Actor"]["Attributes"]["driver"], "local");
        assert!(live.try_recv().is_err());
    }
}
