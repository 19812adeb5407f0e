//! The answering side: each request of each connection runs as a task of its own.
//!
//! A handler's future is dropped when its connection closes or when the
//! request's timeout has passed, so that callers who went away leave nothing
//! behind. Work that must not stop half way has to run in a task that the
//! handler spawns.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, LocalSet};

use crate::frame::{self, Frame, FrameKind};
use crate::status::{Code, Status};

/// Requests of one connection that may be under way at once; one more is
/// refused with [`Code::ResourceExhausted`].
const MAX_CALLS: usize = 4096;

/// How long to hold off accepting after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The full name of the service, such as `containerd.task.v2.Task`.
    pub service: String,
    /// The name of the method, such as `Create`.
    pub method: String,
    /// The encoded request message.
    pub payload: Vec<u8>,
    /// How long the caller will wait.
    pub timeout: Option<Duration>,
    /// Keys and values beside the message; keys may repeat.
    pub metadata: Vec<(String, String)>,
}

/// Serves each connection of `listener` for as long as its future is polled;
/// each request runs as its own task on the current thread.
///
/// # Errors
/// When the listener itself is broken. Being out of descriptors or memory is
/// waited out.
pub async fn serve<H, F>(listener: UnixListener, handler: H) -> io::Result<()>
where
    H: Fn(Request) -> F + Clone + 'static,
    F: Future<Output = Result<Vec<u8>, Status>> + 'static,
{
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut connections = JoinSet::new();
            loop {
                let stream = accept(&listener).await?;
                while connections.try_join_next().is_some() {}
                let handler = handler.clone();
                connections.spawn_local(connection(stream, move |tasks, request, reply| {
                    tasks.spawn_local(run(handler(request), reply));
                }));
            }
        })
        .await
}

/// [`serve`] for handlers that may move between threads.
///
/// # Errors
/// As [`serve`].
pub async fn serve_send<H, F>(listener: UnixListener, handler: H) -> io::Result<()>
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Vec<u8>, Status>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let stream = accept(&listener).await?;
        while connections.try_join_next().is_some() {}
        let handler = handler.clone();
        connections.spawn(connection(stream, move |tasks, request, reply| {
            tasks.spawn(run(handler(request), reply));
        }));
    }
}

async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            Err(err) if passes(&err) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Err(err) => return Err(err),
        }
    }
}

/// ECONNABORTED, EINTR, ENFILE, EMFILE, ENOBUFS, ENOMEM: see `accept(2)`.
fn passes(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(103 | 4 | 23 | 24 | 105 | 12))
}

/// Where one request's answer goes.
struct Reply {
    to: Arc<Mutex<OwnedWriteHalf>>,
    stream: u32,
    timeout: Option<Duration>,
}

async fn run<F: Future<Output = Result<Vec<u8>, Status>>>(answer: F, reply: Reply) {
    let result = match reply.timeout {
        Some(limit) => tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| {
                Err(Status::new(
                    Code::DeadlineExceeded,
                    "context deadline exceeded",
                ))
            }),
        None => answer.await,
    };
    // The reader of this connection sees the same end.
    let _ = reply.send(result).await;
}

impl Reply {
    async fn send(self, result: Result<Vec<u8>, Status>) -> io::Result<()> {
        let bytes = match result {
            Ok(payload) => {
                let size = payload.len();
                let response = proto::ttrpc::Response {
                    status: None,
                    payload,
                };
                frame::encode(self.stream, FrameKind::Response, &response.encode_to_vec()).or_else(
                    || {
                        let status = Status::new(
                            Code::ResourceExhausted,
                            format!("an answer of {size} bytes is over the limit"),
                        );
                        self.refusal(status)
                    },
                )
            }
            Err(status) => self.refusal(status),
        };
        let Some(bytes) = bytes else { return Ok(()) };
        frame::write(&mut *self.to.lock().await, &bytes).await
    }

    /// An error's frame; a message too long for a frame is left out.
    fn refusal(&self, status: Status) -> Option<Vec<u8>> {
        let code = status.code;
        [status, Status::new(code, "")]
            .into_iter()
            .find_map(|status| {
                let response = proto::ttrpc::Response {
                    status: Some(status.into_wire()),
                    payload: Vec::new(),
                };
                frame::encode(self.stream, FrameKind::Response, &response.encode_to_vec())
            })
    }
}

/// Reads requests until the peer closes or breaks the framing, and gives
/// each to `launch` with the set its task belongs into.
async fn connection<L>(stream: UnixStream, launch: L)
where
    L: Fn(&mut JoinSet<()>, Request, Reply),
{
    let (mut from, to) = stream.into_split();
    let to = Arc::new(Mutex::new(to));
    let mut tasks = JoinSet::new();
    let mut last_stream = 0;
    // An error ends the connection as its close would: a peer that is out of
    // step cannot be understood again.
    while let Ok(Some(frame)) = frame::read(&mut from).await {
        while tasks.try_join_next().is_some() {}
        let (stream, received) = match frame {
            Frame::Whole {
                stream,
                kind: FrameKind::Request,
                payload,
            } => (stream, decode(&payload)),
            Frame::TooLong {
                stream,
                kind: FrameKind::Request,
                length,
            } => {
                let limit = frame::MAX_PAYLOAD_BYTES;
                let words =
                    format!("message length {length} exceed maximum message size of {limit}");
                (stream, Err(Status::new(Code::ResourceExhausted, words)))
            }
            // Part of a stream: none is open here.
            Frame::Whole {
                kind: FrameKind::Data,
                ..
            }
            | Frame::TooLong {
                kind: FrameKind::Data,
                ..
            } => continue,
            Frame::Whole { .. } | Frame::TooLong { .. } => return,
        };
        let received = check_stream(stream, last_stream).and(received);
        last_stream = last_stream.max(stream);
        let mut reply = Reply {
            to: Arc::clone(&to),
            stream,
            timeout: None,
        };
        let received = match received {
            Ok(_) if tasks.len() >= MAX_CALLS => Err(Status::new(
                Code::ResourceExhausted,
                "too many calls on one connection",
            )),
            other => other,
        };
        match received {
            Ok(request) => {
                reply.timeout = request.timeout;
                launch(&mut tasks, request, reply);
            }
            Err(status) => {
                if reply.send(Err(status)).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn check_stream(stream: u32, last: u32) -> Result<(), Status> {
    if stream % 2 != 1 {
        return Err(Status::new(
            Code::InvalidArgument,
            "StreamID must be odd for client initiated streams",
        ));
    }
    if stream <= last {
        return Err(Status::new(
            Code::InvalidArgument,
            "StreamID cannot be re-used and must increment",
        ));
    }
    Ok(())
}

fn decode(payload: &[u8]) -> Result<Request, Status> {
    let request = proto::ttrpc::Request::decode(payload)
        .map_err(|err| Status::new(Code::InvalidArgument, format!("unmarshal request: {err}")))?;
    Ok(Request {
        service: request.service,
        method: request.method,
        payload: request.payload,
        timeout: u64::try_from(request.timeout_nano)
            .ok()
            .filter(|&nanos| nanos > 0)
            .map(Duration::from_nanos),
        metadata: request
            .metadata
            .into_iter()
            .map(|pair| (pair.key, pair.value))
            .collect(),
    })
}
