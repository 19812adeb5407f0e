//! The calling side: many calls at once on one connection.
//!
//! A call takes the next odd stream id and queues its frame in the same
//! breath, because servers demand that ids arrive in ascending order. One task
//! writes the queue, another reads responses and hands each to the call that
//! waits for its id. A call may be dropped at any point without disturbing
//! the others.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::frame::{self, Frame, FrameKind};
use crate::status::{Code, Status};

/// Frames that wait to be written. When it is full, further calls wait.
const QUEUED_FRAMES: usize = 16;

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The server answered with an error.
    Status(Status),
    /// The connection went before the answer came.
    Closed,
    /// No answer within the call's timeout.
    Timeout,
    /// The answer, or the request, does not fit the protocol.
    Malformed(String),
    /// The socket's own error.
    Io(io::Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Closed => f.write_str("ttrpc: closed"),
            Self::Timeout => f.write_str("ttrpc: no answer in time"),
            Self::Malformed(what) => write!(f, "ttrpc: {what}"),
            Self::Io(_) => f.write_str("ttrpc connection"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(err) => Some(err),
            Self::Status(_) | Self::Closed | Self::Timeout | Self::Malformed(_) => None,
        }
    }
}

/// One connection to a server. Clones share it; it closes with the last one.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Vec<u8>>,
    calls: Arc<Mutex<Calls>>,
    closed: watch::Receiver<bool>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The calls under way. `closed` is set, under the same lock, by whoever
/// empties the map for the last time, so that no call is entered after that.
#[derive(Debug, Default)]
struct Calls {
    last_stream: Option<u32>,
    waiting: HashMap<u32, oneshot::Sender<Result<Vec<u8>, CallError>>>,
    closed: bool,
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    // The map is whole between any two statements, so a panic elsewhere
    // while it was held does not spoil it.
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a call when its caller stops waiting, for whatever reason.
struct Waiting<'a> {
    calls: &'a Mutex<Calls>,
    stream: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.calls).waiting.remove(&self.stream);
    }
}

impl Client {
    /// Connects to the server that listens on `path`. Runs its tasks on the
    /// current tokio runtime.
    ///
    /// # Errors
    /// `connect(2)`'s.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::over(UnixStream::connect(path).await?))
    }

    /// A client on a connection that stands already.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        let calls = Arc::new(Mutex::new(Calls::default()));
        let (say_closed, closed) = watch::channel(false);
        let (queue, frames) = mpsc::channel(QUEUED_FRAMES);
        tokio::spawn(write_frames(frames, to));
        let reader = tokio::spawn(read_responses(from, Arc::clone(&calls), say_closed));
        let reader = reader.abort_handle();
        Self {
            shared: Arc::new(Shared {
                queue,
                calls,
                closed,
                reader,
            }),
        }
    }

    /// Calls `service`/`method` and waits for the answer. The server is told
    /// of `timeout` too.
    ///
    /// # Errors
    /// [`CallError::Closed`] when the connection goes, before or meanwhile.
    pub async fn call<Req: Message, Resp: Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &Req,
        timeout: Option<Duration>,
        metadata: &[(&str, &str)],
    ) -> Result<Resp, CallError> {
        let message = proto::ttrpc::Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: timeout.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX)),
            metadata: metadata
                .iter()
                .map(|&(key, value)| proto::ttrpc::KeyValue {
                    key: key.to_owned(),
                    value: value.to_owned(),
                })
                .collect(),
        };
        let message = message.encode_to_vec();
        let answer = self.exchange(&message);
        let payload = match timeout {
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| CallError::Timeout)??,
            None => answer.await?,
        };
        Resp::decode(payload.as_slice())
            .map_err(|err| CallError::Malformed(format!("decode the answer of {method}: {err}")))
    }

    /// Resolves when the peer has closed the connection.
    pub async fn closed(&self) {
        let mut closed = self.shared.closed.clone();
        // An error means that the reader is gone, which is the same.
        let _ = closed.wait_for(|&closed| closed).await;
    }

    async fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, CallError> {
        let shared = &*self.shared;
        let slot = shared
            .queue
            .reserve()
            .await
            .map_err(|_| CallError::Closed)?;
        let (tell, told) = oneshot::channel();
        let waiting = {
            let mut calls = lock(&shared.calls);
            if calls.closed {
                return Err(CallError::Closed);
            }
            let stream = calls
                .last_stream
                .map_or(Some(1), |last| last.checked_add(2))
                .ok_or(CallError::Closed)?;
            let bytes = frame::encode(stream, FrameKind::Request, message).ok_or_else(|| {
                CallError::Malformed(format!(
                    "request of {} bytes is over the limit of {}",
                    message.len(),
                    frame::MAX_PAYLOAD_BYTES
                ))
            })?;
            calls.last_stream = Some(stream);
            calls.waiting.insert(stream, tell);
            slot.send(bytes);
            Waiting {
                calls: &shared.calls,
                stream,
            }
        };
        let answer = told.await;
        drop(waiting);
        answer.unwrap_or(Err(CallError::Closed))
    }
}

/// Writes queued frames until the last client is gone or the socket breaks.
async fn write_frames(mut frames: mpsc::Receiver<Vec<u8>>, mut to: OwnedWriteHalf) {
    while let Some(bytes) = frames.recv().await {
        if frame::write(&mut to, &bytes).await.is_err() {
            // The reader sees the same end and fails the calls.
            return;
        }
    }
}

/// Hands each response to its call until the connection ends, then fails the
/// calls that are left.
async fn read_responses(
    mut from: OwnedReadHalf,
    calls: Arc<Mutex<Calls>>,
    closed: watch::Sender<bool>,
) {
    let end = loop {
        match frame::read(&mut from).await {
            Ok(Some(Frame::Whole {
                stream,
                kind: FrameKind::Response,
                payload,
            })) => answer(&calls, stream, open(&payload)),
            Ok(Some(Frame::TooLong {
                stream,
                kind: FrameKind::Response,
                length,
            })) => {
                answer(
                    &calls,
                    stream,
                    Err(CallError::Malformed(format!(
                        "an answer of {length} bytes is over the limit"
                    ))),
                );
            }
            // Not an answer to anything: of no concern to a unary client.
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(err) => break Some(err),
        }
    };
    let left = {
        let mut calls = lock(&calls);
        calls.closed = true;
        std::mem::take(&mut calls.waiting)
    };
    for (_, tell) in left {
        let why = match &end {
            Some(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                CallError::Malformed("the connection ended inside a frame".to_owned())
            }
            Some(err) if err.kind() != io::ErrorKind::ConnectionReset => {
                CallError::Io(io::Error::from(err.kind()))
            }
            _ => CallError::Closed,
        };
        // A caller that no longer listens needs no answer.
        let _ = tell.send(Err(why));
    }
    closed.send_replace(true);
}

fn answer(calls: &Mutex<Calls>, stream: u32, result: Result<Vec<u8>, CallError>) {
    // None: the caller gave up, or nobody ever asked.
    if let Some(tell) = lock(calls).waiting.remove(&stream) {
        let _ = tell.send(result);
    }
}

fn open(payload: &[u8]) -> Result<Vec<u8>, CallError> {
    let response = proto::ttrpc::Response::decode(payload)
        .map_err(|err| CallError::Malformed(format!("decode a response: {err}")))?;
    match response.status {
        Some(status) if status.code != 0 => Err(CallError::Status(Status::new(
            Code::from(status.code),
            status.message,
        ))),
        _ => Ok(response.payload),
    }
}
