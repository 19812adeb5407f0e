//! Remembers which containers the kernel took a process from because memory
//! ran out: shims tell by an event.

use lite_core::{AnyValue, chain};

use crate::engine::Engine;
use crate::events::Event;

/// The topic of shims' events about it.
const TOPIC: &str = "/tasks/oom";

/// Listens as long as the daemon runs.
pub(crate) fn watch(engine: &Engine) {
    let engine = engine.clone();
    let mut events = match engine
        .core()
        .events
        .subscribe(&[format!("topic==\"{TOPIC}\"")])
    {
        Ok(events) => events,
        Err(err) => {
            tracing::error!(error = %chain(&err), "listen for out-of-memory events");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            let envelope = match events.recv().await {
                Ok(envelope) => envelope,
                Err(err) => {
                    tracing::error!(error = %chain(&err), "listen for out-of-memory events");
                    return;
                }
            };
            let handle = container_id(&envelope.event).and_then(|id| engine.find(&id).ok());
            if let Some(handle) = handle {
                engine.emit(Event::of_container(&handle.record(), "oom"));
                // A container that is gone needs no mark.
                let _ = handle.change(|record| record.run.oom_killed = true).await;
            }
        }
    });
}

/// The first field of the event's message, a string: protobuf's tag 0x0a, a
/// length, the bytes. Ids are shorter than what needs a second byte of length.
fn container_id(event: &AnyValue) -> Option<String> {
    let [0x0a, length @ 0..=0x7f, rest @ ..] = event.value.as_slice() else {
        return None;
    };
    let id = rest.get(..usize::from(*length))?;
    String::from_utf8(id.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_off_the_message() {
        let event = |value: &[u8]| AnyValue {
            type_url: String::new(),
            value: value.to_vec(),
        };
        assert_eq!(container_id(&event(b"\x0a\x02c1")), Some("c1".to_owned()));
        assert_eq!(container_id(&event(b"\x0a\x05c1")), None);
        assert_eq!(container_id(&event(b"")), None);
    }
}
