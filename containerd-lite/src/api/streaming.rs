//! Streams by name: a client opens one and names it in a later call, which takes
//! it from [`Streams`] and talks to the client through it.
//!
//! [`receive`] and [`send`] carry bytes over such a stream with containerd's
//! flow control: whoever receives grants a window of bytes, and the sender
//! stays within it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use prost_types::Any;
use proto::containerd::services::streaming::v1 as wire;
use proto::containerd::types::transfer::{Data, WindowUpdate};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::wire::namespace;

/// Messages on their way to a client; whoever sends waits for room.
const QUEUE: usize = 16;
/// Streams that were opened and never used, of all clients.
const MAX_WAITING: usize = 1024;
/// What a sender may be ahead of its receiver, in bytes.
const WINDOW: i32 = 64 << 10;
/// What one message carries at most.
const MAX_DATA: usize = 32 << 10;

type Answers = mpsc::Sender<Result<Any, Status>>;

/// Both directions of an open stream; dropping it ends the stream.
pub(crate) struct Channel {
    /// Read by its owner only; the lock is what makes it shareable.
    from: Mutex<Streaming<Any>>,
    to: Answers,
}

/// The streams that wait for the call that uses them, by tenant and name.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<(String, String), Channel>>>);

impl Streams {
    /// Takes the stream `id`; nobody else gets it after that.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) fn take(&self, ns: &str, id: &str) -> Result<Channel, Status> {
        self.waiting()
            .remove(&(ns.to_owned(), id.to_owned()))
            .ok_or_else(|| Status::not_found(format!("stream {id:?}: not found")))
    }

    fn put(&self, ns: &str, id: &str, channel: Channel) -> Result<(), Status> {
        let mut waiting = self.waiting();
        waiting.retain(|_, channel| !channel.to.is_closed());
        if waiting.len() >= MAX_WAITING {
            return Err(Status::resource_exhausted("too many streams are open"));
        }
        let key = (ns.to_owned(), id.to_owned());
        if waiting.contains_key(&key) {
            return Err(Status::already_exists(format!(
                "stream {id:?}: already exists"
            )));
        }
        waiting.insert(key, channel);
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// Sends one message.
    ///
    /// # Errors
    /// Cancelled if the client is gone.
    pub(crate) async fn send(
        &self,
        kind: &str,
        message: &impl prost::Message,
    ) -> Result<(), Status> {
        let message = Any {
            type_url: kind.to_owned(),
            value: message.encode_to_vec(),
        };
        let gone = |_| Status::cancelled("the stream's client is gone");
        self.to.send(Ok(message)).await.map_err(gone)
    }

    /// The next message of the type `kind`; others are passed over. `None` at
    /// the end.
    ///
    /// # Errors
    /// Those of the stream; InvalidArgument for a message that cannot be read.
    pub(crate) async fn next<M: prost::Message + Default>(
        &mut self,
        kind: &str,
    ) -> Result<Option<M>, Status> {
        let from = self.from.get_mut().unwrap_or_else(PoisonError::into_inner);
        while let Some(message) = from.message().await? {
            if message.type_url.rsplit('/').next() == Some(kind) {
                let decoded = M::decode(message.value.as_slice());
                return decoded
                    .map(Some)
                    .map_err(|err| Status::invalid_argument(format!("message {kind}: {err}")));
            }
        }
        Ok(None)
    }
}

pub(crate) const DATA: &str = "containerd.types.transfer.Data";
pub(crate) const WINDOW_UPDATE: &str = "containerd.types.transfer.WindowUpdate";

/// The bytes that the client sends over `channel`.
pub(crate) fn receive(mut channel: Channel) -> impl AsyncRead + Send + Unpin {
    let (reader, mut writer) = tokio::io::duplex(usize::try_from(WINDOW).unwrap_or(MAX_DATA));
    tokio::spawn(async move {
        let mut window = 0;
        loop {
            if window < WINDOW {
                let update = WindowUpdate { update: WINDOW };
                if channel.send(WINDOW_UPDATE, &update).await.is_err() {
                    return;
                }
                window += WINDOW;
            }
            // A client that breaks off is told by the archive's missing end.
            let Ok(Some(Data { data })) = channel.next::<Data>(DATA).await else {
                return;
            };
            window -= i32::try_from(data.len()).unwrap_or(i32::MAX);
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    reader
}

/// Sends what `pieces` yields to the client, within the window that it grants.
///
/// # Errors
/// Cancelled if the client goes away first.
pub(crate) async fn send(
    mut channel: Channel,
    mut pieces: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Status> {
    let mut window = 0_i64;
    while let Some(piece) = pieces.recv().await {
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            while window <= 0 {
                let update: Option<WindowUpdate> = channel.next(WINDOW_UPDATE).await?;
                let update = update.ok_or_else(|| Status::cancelled("the receiver is gone"))?;
                window += i64::from(update.update.max(0));
            }
            let room = usize::try_from(window).unwrap_or(MAX_DATA);
            let (now, later) = rest.split_at(rest.len().min(MAX_DATA).min(room));
            rest = later;
            window -= i64::try_from(now.len()).unwrap_or(i64::MAX);
            let data = Data { data: now.to_vec() };
            channel.send(DATA, &data).await?;
        }
    }
    Ok(())
}

/// A writer for a thread that may block, whose bytes come out of the receiver.
pub(crate) fn pipe() -> (impl Write + Send, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (
        io::BufWriter::with_capacity(MAX_DATA, Pipe(sender)),
        receiver,
    )
}

struct Pipe(mpsc::Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(bytes.to_vec())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the receiver is gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The adapter that opens streams.
#[derive(Clone)]
pub struct StreamingApi {
    streams: Streams,
}

impl StreamingApi {
    /// What is opened waits in `streams`.
    #[must_use]
    pub fn new(streams: Streams) -> Self {
        Self { streams }
    }
}

#[tonic::async_trait]
impl wire::streaming_server::Streaming for StreamingApi {
    type StreamStream = BoxStream<'static, Result<Any, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<Any>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let ns = namespace(&request)?;
        let mut from = request.into_inner();
        let first = from.message().await?.unwrap_or_default();
        let init = wire::StreamInit::decode(first.value.as_slice())
            .ok()
            .filter(|init| !init.id.is_empty())
            .ok_or_else(|| Status::invalid_argument("a stream begins with its StreamInit"))?;
        let (to, answers) = mpsc::channel(QUEUE);
        let ready = Any {
            type_url: "google.protobuf.Empty".to_owned(),
            value: Vec::new(),
        };
        // There is room: it is the first.
        let _ = to.try_send(Ok(ready));
        let from = Mutex::new(from);
        self.streams
            .put(ns.as_str(), &init.id, Channel { from, to })?;
        let answers = stream::unfold(answers, |mut answers| async move {
            answers.recv().await.map(|answer| (answer, answers))
        });
        Ok(Response::new(answers.boxed()))
    }
}
