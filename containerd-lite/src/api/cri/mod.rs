//! Kubernetes' CRI: [`images`] and [`runtime`], a service each; what is said of
//! pods and containers is read and written by [`config`] and [`records`].

mod config;
mod records;

mod events;
mod stats;

mod images;
mod runtime;

pub use images::CriImagesApi;
pub use runtime::CriRuntimeApi;

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use proto::runtime::v1 as wire;
use tonic::Status;

/// A stream of answers.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many entries of a list go into one message of a stream; far below what
/// a client takes (16 MiB) however long their labels are.
const ENTRIES: usize = 500;

/// `entries` as a stream of messages, each of which `message` makes.
fn in_parts<T, M: Send + 'static>(entries: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Messages<M> {
    let mut entries = entries.into_iter().peekable();
    let mut messages = Vec::new();
    while entries.peek().is_some() {
        messages.push(Ok(message(entries.by_ref().take(ENTRIES).collect())));
    }
    Box::pin(stream::iter(messages))
}

/// Nanoseconds since 1970, as all of CRI's times.
fn nanos(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every message has numbers as optional fields"
)]
fn number(value: u64) -> Option<wire::UInt64Value> {
    Some(wire::UInt64Value { value })
}
