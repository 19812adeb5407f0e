//! A connection that a client opens streams on.
//!
//! Two tasks serve it: one reads frames and hands payloads to their streams,
//! the other writes what streams have to say, so that a stream that waits to
//! write holds up no reading. The connection ends when the client goes, when
//! nothing came or went for the idle time, or by [`Connection::close`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::frame::{self, HEAD, Head, Kind, Why};
use super::headers;

/// A control frame that is longer is an attack.
const LONGEST_CONTROL: usize = 64 << 10;
/// Data is handed on in pieces of at most this size.
const PIECE: usize = 32 << 10;
/// Pieces that wait for a stream's reader; then the connection waits.
const WAITING_PIECES: usize = 8;
/// Frames that wait for the client to read; then streams wait.
const WAITING_FRAMES: usize = 16;
/// How long a client may take to hang up after good-bye.
const LINGER: Duration = Duration::from_secs(10);
/// Streams that a client may have open.
const MOST_STREAMS: usize = 1024;

/// The server's side of a connection.
pub(crate) struct Connection {
    incoming: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
    writer: JoinHandle<()>,
    gone: watch::Receiver<bool>,
}

/// A stream that the client opened.
pub(crate) struct Stream {
    /// Its number; a client's are odd.
    pub id: u32,
    /// What it is for.
    pub headers: BTreeMap<String, String>,
    /// What the client sends.
    pub input: Input,
    /// What it is sent.
    pub output: Output,
}

/// The client's half of a stream.
pub(crate) struct Input(mpsc::Receiver<Bytes>);

/// Our half of a stream.
pub(crate) struct Output {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

enum Frame {
    Reply(u32),
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    Reset(u32, Why),
    Pong(u32),
    GoAway(u32),
}

/// The client is no longer there.
#[derive(Debug)]
pub(crate) struct Gone;

impl Input {
    /// The next piece; `None` when the client has sent all, or is gone.
    pub(crate) async fn recv(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

impl Output {
    /// Sends `bytes` once there is room.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.frame(Frame::Data {
            stream: self.id,
            fin: false,
            bytes,
        })
        .await
    }

    /// Ends our half.
    pub(crate) async fn finish(self) -> Result<(), Gone> {
        let bytes = Bytes::new();
        self.frame(Frame::Data {
            stream: self.id,
            fin: true,
            bytes,
        })
        .await
    }

    /// Ends the stream as a mistake of the client's.
    pub(crate) async fn refuse(self) {
        let _ = self.frame(Frame::Reset(self.id, Why::Cancel)).await;
    }

    async fn frame(&self, frame: Frame) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }
}

impl Connection {
    /// Serves `io` until nothing came or went for `idle`.
    pub(crate) fn start<T>(io: T, idle: Duration) -> io::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let compress = headers::Writer::new()?;
        let (from, to) = tokio::io::split(io);
        let (open, incoming) = mpsc::channel(4);
        let (frames, queued) = mpsc::channel(WAITING_FRAMES);
        let (leave, gone) = watch::channel(false);
        let last = Arc::new(LastWrite::new());
        let writer = tokio::spawn(write(BufWriter::new(to), queued, compress, last.clone()));
        let reader = Reading {
            from: BufReader::with_capacity(PIECE, from),
            headers: headers::Reader::new(),
            streams: HashMap::new(),
            newest: 0,
            open,
            frames: frames.clone(),
            idle,
            last,
        };
        tokio::spawn(async move {
            tokio::select! {
                ended = reader.run() => if let Err(err) = ended {
                    tracing::debug!(error = %err, "SPDY connection");
                },
                () = leave.closed() => {}
            }
            leave.send_replace(true);
        });
        Ok(Self {
            incoming,
            frames,
            writer,
            gone,
        })
    }

    /// The next stream that the client opens; `None` when it is gone.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Turns true when the client is gone.
    pub(crate) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }

    /// Says good-bye after all that was sent, and hangs up. A client that is
    /// still sending is heard out for a moment: hanging up on it would make
    /// the kernel throw away what it has not read yet.
    pub(crate) async fn close(self) {
        let Self {
            mut incoming,
            frames,
            writer,
            mut gone,
        } = self;
        incoming.close();
        if frames.send(Frame::GoAway(0)).await.is_ok() {
            tokio::select! {
                _ = writer => {}
                _ = gone.wait_for(|gone| *gone) => {}
            }
            let _ = tokio::time::timeout(LINGER, gone.wait_for(|gone| *gone)).await;
        }
    }
}

/// When something was last written, for the idle time.
struct LastWrite {
    begin: Instant,
    after_ms: AtomicU64,
}

impl LastWrite {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            after_ms: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let after = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(after, Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        let at = Duration::from_millis(self.after_ms.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(at)
    }
}

async fn write(
    mut to: BufWriter<impl AsyncWrite + Unpin>,
    mut queued: mpsc::Receiver<Frame>,
    mut compress: headers::Writer,
    last: Arc<LastWrite>,
) {
    let written = async {
        while let Some(frame) = queued.recv().await {
            let good_bye = matches!(frame, Frame::GoAway(_));
            write_frame(&mut to, frame, &mut compress).await?;
            if queued.is_empty() || good_bye {
                to.flush().await?;
            }
            last.now();
            if good_bye {
                break;
            }
        }
        to.shutdown().await
    };
    if let Err(err) = written.await {
        let err: io::Error = err;
        tracing::debug!(error = %err, "write to a SPDY connection");
    }
}

async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    frame: Frame,
    compress: &mut headers::Writer,
) -> io::Result<()> {
    match frame {
        Frame::Data { stream, fin, bytes } => {
            let mut pieces = bytes.chunks(PIECE).peekable();
            if pieces.peek().is_none() {
                return to.write_all(&frame::data_head(stream, fin, 0)).await;
            }
            while let Some(piece) = pieces.next() {
                let fin = fin && pieces.peek().is_none();
                to.write_all(&frame::data_head(stream, fin, piece.len()))
                    .await?;
                to.write_all(piece).await?;
            }
            Ok(())
        }
        Frame::Reply(stream) => {
            let block = compress.write(&BTreeMap::new())?;
            to.write_all(&frame::reply(stream, &block)).await
        }
        Frame::Reset(stream, why) => to.write_all(&frame::reset(stream, why)).await,
        Frame::Pong(id) => to.write_all(&frame::ping(id)).await,
        Frame::GoAway(last) => to.write_all(&frame::go_away(last)).await,
    }
}

struct Reading<R> {
    from: BufReader<R>,
    headers: headers::Reader,
    /// Streams whose client may still send.
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    newest: u32,
    open: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    idle: Duration,
    last: Arc<LastWrite>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn run(mut self) -> io::Result<()> {
        while let Some(head) = self.head().await? {
            match frame::parse(head) {
                Head::Data {
                    stream,
                    fin,
                    length,
                } => self.data(stream, fin, length).await?,
                Head::Control { length, .. } if length > LONGEST_CONTROL => {
                    return Err(broken("a control frame is longer than any is"));
                }
                Head::Control { kind, fin, length } => {
                    let mut payload = vec![0; length];
                    self.from.read_exact(&mut payload).await?;
                    self.control(kind, fin, &payload).await?;
                }
                Head::Foreign => return Err(broken("a frame is of another version of SPDY")),
            }
        }
        Ok(())
    }

    /// The next head; `None` at the end, which nothing for a long time is too.
    async fn head(&mut self) -> io::Result<Option<[u8; HEAD]>> {
        let mut head = [0; HEAD];
        let read = {
            let mut read = std::pin::pin!(self.from.read_exact(&mut head));
            let mut wait = self.idle;
            loop {
                tokio::select! {
                    read = &mut read => break read,
                    () = tokio::time::sleep(wait) => {
                        let ago = self.last.ago();
                        if ago >= self.idle {
                            return Ok(None);
                        }
                        wait = self.idle - ago;
                    }
                }
            }
        };
        match read {
            Ok(_) => Ok(Some(head)),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(err) => Err(err),
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            self.from.read_exact(&mut piece).await?;
            length -= piece.len();
            // What nobody reads any more is dropped.
            if let Some(to) = self.streams.get(&stream) {
                let _ = to.send(piece.into()).await;
            }
        }
        if fin {
            self.streams.remove(&stream);
        }
        Ok(())
    }

    async fn control(&mut self, kind: Kind, fin: bool, payload: &[u8]) -> io::Result<()> {
        let number = || frame::number(payload).ok_or_else(|| broken("a frame is cut short"));
        match kind {
            Kind::Open => self.opened(fin, payload).await,
            Kind::Reset => {
                self.streams.remove(&number()?);
                Ok(())
            }
            Kind::Ping => {
                // An even number is the answer to a ping of ours.
                let id = number()?;
                if id % 2 == 1 {
                    self.say(Frame::Pong(id)).await
                } else {
                    Ok(())
                }
            }
            Kind::GoAway | Kind::Other => Ok(()),
        }
    }

    async fn opened(&mut self, fin: bool, payload: &[u8]) -> io::Result<()> {
        let (id, block) = frame::opened(payload).ok_or_else(|| broken("a frame is cut short"))?;
        // Read in any case: all blocks are one compressed stream.
        let headers = self.headers.read(block)?;
        if id % 2 == 0 || id <= self.newest {
            return self.say(Frame::Reset(id, Why::ProtocolError)).await;
        }
        self.newest = id;
        self.streams.retain(|_, reader| !reader.is_closed());
        if self.streams.len() >= MOST_STREAMS {
            return self.say(Frame::Reset(id, Why::RefusedStream)).await;
        }
        let (to, from) = mpsc::channel(WAITING_PIECES);
        if !fin {
            self.streams.insert(id, to);
        }
        self.say(Frame::Reply(id)).await?;
        let stream = Stream {
            id,
            headers,
            input: Input(from),
            output: Output {
                id,
                frames: self.frames.clone(),
            },
        };
        // Nobody takes any more: the connection is about to be closed.
        let _ = self.open.send(stream).await;
        Ok(())
    }

    async fn say(&mut self, frame: Frame) -> io::Result<()> {
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
