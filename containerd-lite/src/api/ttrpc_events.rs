//! containerd's ttrpc events service: shims report here what happens to tasks.

use std::io;
use std::time::SystemTime;

use lite_core::tasks::Tasks;
use lite_core::{AnyValue, Envelope, Namespace};
use prost::Message as _;
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use tokio::net::UnixListener;
use ttrpc_wire::{Code, Request, Status};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// Serves every shim that connects to `listener`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: UnixListener, tasks: Tasks) -> io::Result<()> {
    ttrpc_wire::serve_send(listener, move |request| answer(tasks.clone(), request)).await
}

async fn answer(tasks: Tasks, request: Request) -> Result<Vec<u8>, Status> {
    if request.service != SERVICE {
        return Err(Status::no_service(&request.service));
    }
    if request.method != "Forward" {
        return Err(Status::no_method(&request.method));
    }
    let invalid = |text: String| Status::new(Code::InvalidArgument, text);
    let request =
        ForwardRequest::decode(&request.payload[..]).map_err(|err| invalid(err.to_string()))?;
    let envelope = request
        .envelope
        .ok_or_else(|| invalid("envelope: missing".to_owned()))?;
    let event = envelope
        .event
        .ok_or_else(|| invalid("event: missing".to_owned()))?;
    let namespace =
        Namespace::parse(&envelope.namespace).map_err(|err| invalid(lite_core::chain(&err)))?;
    let timestamp = envelope
        .timestamp
        .and_then(|time| SystemTime::try_from(time).ok());
    let forwarded = tasks.forward(Envelope {
        timestamp: timestamp.unwrap_or_else(SystemTime::now),
        namespace,
        topic: envelope.topic,
        event: AnyValue {
            type_url: event.type_url,
            value: event.value,
        },
    });
    forwarded
        .await
        .map_err(|err| invalid(lite_core::chain(&err)))?;
    Ok(Vec::new())
}
