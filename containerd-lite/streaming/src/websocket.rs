//! The same over a `WebSocket`: standard streams and ports as numbered
//! channels, and SPDY's bytes in messages.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::channel::{self, CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use crate::forward::{self, Dial, PIECE};
use crate::protocol::{Remote, Version};
use crate::remote::{Ends, Run, Size, Wanted, pair, sizes_in};

/// No client sends longer messages.
const LONGEST: usize = 1 << 20;
/// Messages that wait for the client to read.
const WAITING: usize = 8;
/// How long a client may take to hang up after good-bye.
const LINGER: Duration = Duration::from_secs(10);
/// Ports that are forwarded over one connection: channels are bytes.
const MOST_PORTS: usize = 127;

/// Speaks `WebSocket` on a connection that was upgraded to it.
pub(crate) async fn start<T>(io: T) -> WebSocketStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Writes what all channels have to say, one after the other.
async fn write<T>(mut to: SplitSink<WebSocketStream<T>, Message>, mut from: mpsc::Receiver<Message>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = from.recv().await {
        let good_bye = message.is_close();
        if to.send(message).await.is_err() || good_bye {
            return;
        }
    }
}

fn good_bye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// The next message of the client; `None` when it is gone, or sent nothing for
/// `idle`. Clients that live ping, so nothing is nothing at all.
async fn next<T>(from: &mut SplitStream<WebSocketStream<T>>, idle: Duration) -> Option<Message>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::time::timeout(idle, from.next()).await {
        Ok(Some(Ok(message))) if !message.is_close() => Some(message),
        _ => None,
    }
}

/// Runs a program for a client.
pub(crate) async fn serve<T>(
    socket: WebSocketStream<T>,
    protocol: Remote,
    wanted: Wanted,
    run: Run,
    idle: Duration,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to, mut from) = socket.split();
    let (messages, queued) = mpsc::channel(WAITING);
    let mut writer = tokio::spawn(write(to, queued));
    let (streams, ends) = pair(wanted);
    let Ends {
        stdin,
        stdout,
        stderr,
        sizes,
        left,
    } = ends;

    // Tells the client that its program is there.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    let base64 = protocol.base64;
    let _ = messages.send(channel::message(base64, first, b"")).await;

    let outputs = async {
        tokio::join!(
            copy_out(stdout, &messages, base64, STDOUT),
            copy_out(stderr, &messages, base64, STDERR)
        );
    };
    let mut inbox = Inbox {
        protocol,
        stdin,
        sizes,
    };
    let inputs = async {
        while let Some(message) = next(&mut from, idle).await {
            inbox.take(message).await;
        }
        inbox.stdin = None;
        left.send_replace(true);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        (ended, ()) = async { tokio::join!(run(streams), outputs) } => ended,
        () = inputs => return,
    };
    let text = if protocol.version >= Version::V4 {
        Some(ended.to_json())
    } else {
        ended.to_text()
    };
    if let Some(text) = text {
        let _ = messages
            .send(channel::message(base64, ERROR, text.as_bytes()))
            .await;
    }
    let _ = messages.send(good_bye()).await;
    drop(messages);
    // A client that is still sending is heard out for a moment: hanging up
    // on it would make the kernel throw away what it has not read yet.
    let linger = async {
        let _ = (&mut writer).await;
        while let Some(Ok(_)) = from.next().await {}
    };
    if tokio::time::timeout(LINGER, linger).await.is_err() {
        writer.abort();
    }
}

/// Where the client's messages go.
struct Inbox {
    protocol: Remote,
    stdin: Option<mpsc::Sender<Bytes>>,
    sizes: Option<mpsc::Sender<Size>>,
}

impl Inbox {
    async fn take(&mut self, message: Message) {
        if message.is_ping() || message.is_pong() {
            return;
        }
        match channel::parse(self.protocol.base64, message) {
            Some((STDIN, bytes)) if !bytes.is_empty() => {
                // What the program does not read is dropped.
                if let Some(stdin) = &self.stdin {
                    let _ = stdin.send(bytes).await;
                }
            }
            Some((RESIZE, bytes)) => {
                let Ok(sizes) = sizes_in(&mut bytes.to_vec()) else {
                    return;
                };
                for size in sizes {
                    if let Some(to) = &self.sizes {
                        let _ = to.send(size).await;
                    }
                }
            }
            Some((CLOSE, bytes))
                if self.protocol.version >= Version::V5 && bytes.first() == Some(&STDIN) =>
            {
                self.stdin = None;
            }
            _ => {}
        }
    }
}

async fn copy_out(
    from: Option<mpsc::Receiver<Bytes>>,
    to: &mpsc::Sender<Message>,
    base64: bool,
    number: u8,
) {
    let Some(mut from) = from else { return };
    while let Some(bytes) = from.recv().await {
        for piece in bytes.chunks(PIECE) {
            if to
                .send(channel::message(base64, number, piece))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Forwards `ports`, each on two channels: one for data and one for the word
/// of what went wrong. Both begin with the port's number.
pub(crate) async fn forward_channels<T>(
    socket: WebSocketStream<T>,
    base64: bool,
    ports: Vec<u16>,
    dial: Dial,
    idle: Duration,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to, mut from) = socket.split();
    let (messages, queued) = mpsc::channel(WAITING);
    let writer = tokio::spawn(write(to, queued));
    let mut inputs = Vec::new();
    let mut forwards = tokio::task::JoinSet::new();
    for (at, port) in (0_u8..).zip(ports.into_iter().take(MOST_PORTS)) {
        let (input, bytes) = mpsc::channel(WAITING);
        inputs.push(Some(input));
        let channels = Channels {
            base64,
            data: at * 2,
            messages: messages.clone(),
        };
        forwards.spawn(forward_one(port, channels, bytes, dial.clone()));
    }
    let take = async {
        while let Some(message) = next(&mut from, idle).await {
            if let Some((number, bytes)) = channel::parse(base64, message)
                && number % 2 == 0
                && let Some(Some(input)) = inputs.get(usize::from(number / 2))
            {
                let _ = input.send(bytes).await;
            }
        }
    };
    let all = async { while forwards.join_next().await.is_some() {} };
    tokio::select! {
        () = take => {}
        () = all => {}
    }
    let _ = messages.send(good_bye()).await;
    drop(messages);
    let _ = tokio::time::timeout(LINGER, writer).await;
}

struct Channels {
    base64: bool,
    data: u8,
    messages: mpsc::Sender<Message>,
}

impl Channels {
    async fn send(&self, number: u8, bytes: &[u8]) -> bool {
        let message = channel::message(self.base64, number, bytes);
        self.messages.send(message).await.is_ok()
    }
}

async fn forward_one(port: u16, channels: Channels, mut input: mpsc::Receiver<Bytes>, dial: Dial) {
    for number in [channels.data, channels.data + 1] {
        if !channels.send(number, &port.to_le_bytes()).await {
            return;
        }
    }
    let connection = match dial(port).await {
        Ok(connection) => connection,
        Err(err) => {
            let text = format!("forward port {port}: {err}");
            channels.send(channels.data + 1, text.as_bytes()).await;
            return;
        }
    };
    let (mut read, mut write) = connection.into_split();
    let there = async {
        while let Some(bytes) = input.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    };
    let back = async {
        while let Some(bytes) = forward::read(&mut read).await {
            if !channels.send(channels.data, &bytes).await {
                return;
            }
        }
    };
    // Channels cannot be closed alone: with the port's end all is over.
    tokio::select! {
        ((), ()) = async { tokio::join!(there, std::future::pending::<()>()) } => {}
        () = back => {}
    }
}

/// The bytes that travel in a client's messages, as a connection.
pub(crate) fn tunnel<T>(socket: WebSocketStream<T>, idle: Duration) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = tokio::io::duplex(2 * PIECE);
    tokio::spawn(async move {
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let (mut to, mut from) = socket.split();
        let there = async {
            while let Some(message) = next(&mut from, idle).await {
                let mut bytes = match message {
                    Message::Binary(bytes) => bytes,
                    _ => continue,
                };
                while bytes.has_remaining() {
                    if far_write.write_all_buf(&mut bytes).await.is_err() {
                        return;
                    }
                }
            }
            let _ = far_write.shutdown().await;
        };
        let back = async {
            let mut piece = vec![0; PIECE];
            while let Ok(length) = far_read.read(&mut piece).await {
                if length == 0 {
                    break;
                }
                let bytes = Bytes::copy_from_slice(&piece[..length]);
                if to.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
            let _ = to.send(good_bye()).await;
        };
        tokio::join!(there, back);
    });
    near
}
