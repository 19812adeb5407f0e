//! The connection to the daemon.
//!
//! 1. [`connect`] tries the socket.
//! 2. Where the user named none and nobody answers, [`embedded::start`]
//!    starts a daemon and waits until it answers.

mod embedded;

use std::io;
use std::path::Path;

use hyper_util::rt::TokioIo;
use proto::engine::v1::engine_client::EngineClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) use embedded::launch;

use crate::failure::{Failure, reason};
use crate::parse::host::Host;

/// Largest answer the client takes: `inspect` and long lists pass gRPC's 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The engine's API.
pub(crate) type Engine = EngineClient<Channel>;

/// Connects to the daemon, starting one if `host` allows it.
pub(crate) async fn connect(host: &Host) -> Result<Engine, Failure> {
    let socket = host.socket();
    let stream = match (UnixStream::connect(&socket).await, host) {
        (Ok(stream), _) => stream,
        (Err(err), Host::Embedded { state }) if is_nobody(&err) => {
            embedded::start(state, &socket).await?
        }
        (Err(err), _) => return Err(unreachable(&socket, &err)),
    };
    speak(stream).await.map_err(|err| {
        Failure::Setup(format!(
            "connect to the daemon at unix://{}: {err}",
            socket.display()
        ))
    })
}

/// Whether the error says that no daemon listens there.
fn is_nobody(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Which socket it was and what to do about it.
fn unreachable(socket: &Path, err: &io::Error) -> Failure {
    let place = format!("the daemon at unix://{}", socket.display());
    Failure::Setup(match err.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "permission denied while connecting to {place}: run ctl as root or as a member of the socket's group"
        ),
        _ if is_nobody(err) => format!(
            "cannot connect to {place}. Is containerd-lite running? Start it, or name another socket with --host or CTL_HOST"
        ),
        _ => format!("cannot connect to {place}: {}", reason(err)),
    })
}

/// Speaks gRPC over a connected stream. A connection that breaks is not made
/// again: what was asked is in an unknown state, and the user is told.
async fn speak(stream: UnixStream) -> Result<Engine, tonic::transport::Error> {
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted)) }
    });
    // gRPC wants an authority; on a unix socket its name means nothing.
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await?;
    Ok(EngineClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}
