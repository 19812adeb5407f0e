//! `containerd-lite --address SOCK publish --topic T --namespace NS`: the way an
//! older shim reports an event, by running the binary it was told of with the
//! event as a `google.protobuf.Any` on standard input.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use proto::containerd::services::events::v1::PublishRequest;
use proto::containerd::services::events::v1::events_client::EventsClient;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Endpoint, Uri};

use crate::config::PublishArgs;
use crate::serve::StartError;

/// As long as containerd's own shims wait for an event to be taken.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the daemon's gRPC server accepts in one message.
const MAX_EVENT_BYTES: u64 = 4 << 20;

/// Reads the event and publishes it to the daemon at `socket`.
///
/// # Errors
/// If the input is no Any, nobody listens at `socket`, or the daemon refuses.
pub async fn run(socket: &Path, args: &PublishArgs) -> Result<(), StartError> {
    let mut input = Vec::new();
    // Nothing else runs in this process that the read could hold up.
    std::io::stdin()
        .take(MAX_EVENT_BYTES)
        .read_to_end(&mut input)
        .map_err(|err| StartError::new("read event from standard input", err))?;
    let event = prost_types::Any::decode(input.as_slice())
        .map_err(|err| StartError::new("decode event on standard input", err))?;

    let path = socket.to_owned();
    // The address is never looked at: the connector below dials the socket.
    let channel = Endpoint::from_static("http://localhost")
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|err| StartError::new(format!("connect to {}", socket.display()), err))?;

    let mut request = Request::new(PublishRequest {
        topic: args.topic.clone(),
        event: Some(event),
    });
    let namespace = MetadataValue::try_from(&args.namespace)
        .map_err(|err| StartError::new(format!("namespace {:?}", args.namespace), err))?;
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace);
    EventsClient::new(channel)
        .publish(request)
        .await
        .map_err(|err| StartError::new(format!("publish event on topic {}", args.topic), err))?;
    Ok(())
}
