//! What a request carries to a registry, such that it can be sent again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// Read from the file and handed to the connection at a time.
const PIECE: usize = 64 << 10;
/// Pieces between the reading thread and the connection.
const QUEUE: usize = 4;

/// The body of a request.
#[derive(Debug, Clone, Default)]
pub(crate) enum Payload {
    #[default]
    None,
    Bytes(Bytes),
    Part(FilePart),
}

/// Bytes of a file.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Where in the file the connection has taken bytes up to.
    pub(crate) position: Arc<AtomicU64>,
}

impl Payload {
    pub(crate) fn into_body(self) -> Option<reqwest::Body> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.into()),
            Self::Part(part) => Some(reqwest::Body::wrap(PartBody::start(part))),
        }
    }
}

/// A file's bytes on their way into a connection. A thread reads ahead, and
/// stops when the connection is dropped.
struct PartBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    position: Arc<AtomicU64>,
}

impl PartBody {
    fn start(part: FilePart) -> Self {
        let FilePart {
            file,
            offset,
            len,
            position,
        } = part;
        position.store(offset, Ordering::Relaxed);
        let (sender, pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let (mut at, end) = (offset, offset + len);
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; want];
                let read = file.read_exact_at(&mut piece, at);
                at += want as u64;
                let failed = read.is_err();
                let sent = sender.blocking_send(read.map(|()| Bytes::from(piece)));
                if failed || sent.is_err() {
                    return;
                }
            }
        });
        Self {
            pieces,
            left: len,
            position,
        }
    }
}

impl http_body::Body for PartBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| {
            piece.map(|piece| {
                let piece = piece?;
                let len = piece.len() as u64;
                self.left = self.left.saturating_sub(len);
                self.position.fetch_add(len, Ordering::Relaxed);
                Ok(Frame::data(piece))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
