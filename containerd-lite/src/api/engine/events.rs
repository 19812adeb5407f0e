//! What happens, as it happens.

use std::time::SystemTime;

use engine::Engine;
use engine::events::{self, Wanted};
use futures_util::StreamExt;
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;
use tokio_stream::wrappers::ReceiverStream;

use super::Messages;

pub(super) fn listen(
    engine: &Engine,
    request: wire::EventsRequest,
) -> Result<Messages<wire::Event>> {
    let wanted = Wanted {
        since: moment(request.since)?,
        until: moment(request.until)?,
        filters: request.filters,
    };
    let events = events::listen(engine, wanted)?;
    Ok(Box::pin(ReceiverStream::new(events).map(|event| {
        Ok(wire::Event {
            json: event.json().to_string(),
        })
    })))
}

/// A point in time of the wire.
pub(super) fn moment(time: Option<prost_types::Timestamp>) -> Result<Option<SystemTime>> {
    time.map(SystemTime::try_from).transpose().map_err(|err| {
        Kind::InvalidArgument
            .error("moment out of range")
            .because(err)
    })
}
