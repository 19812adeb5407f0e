//! From an asynchronous reader to a thread that reads and blocks.

use std::io::{self, BufRead, Read};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::error::{Error, Result};

const PIECE_BYTES: usize = 256 << 10;
/// Pieces on the way: 2 MiB in all. When the disk is slower, the caller waits.
const QUEUE_PIECES: usize = 8;

/// Runs `work` on a blocking thread with the bytes of `from`. When the future
/// is dropped, `work` reads an error.
pub(super) async fn run<T: Send + 'static>(
    mut from: impl AsyncRead + Send + Unpin,
    work: impl FnOnce(Input) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (pieces, receiver) = mpsc::channel(QUEUE_PIECES);
    let working = tokio::spawn(blocking(move || {
        work(Input {
            pieces: receiver,
            piece: Bytes::new(),
            ended: false,
        })
    }));
    let mut read_error = None;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = from.read_buf(&mut piece).await;
        let ended = match read {
            Ok(0) => pieces.send(Piece::End).await.is_ok(),
            Ok(_) => match pieces.send(Piece::Bytes(piece.freeze())).await {
                Ok(()) => continue,
                // The work is over, and says itself how it went.
                Err(_) => false,
            },
            Err(err) => {
                read_error = Some(err);
                false
            }
        };
        tracing::trace!(ended, "archive handed over");
        break;
    }
    drop(pieces);
    let worked = working.await.unwrap_or_else(|join| {
        Err(crate::error::Kind::Internal
            .error("storage work")
            .because(join))
    });
    match read_error {
        Some(err) => Err(Error::io("read the archive", err)),
        None => worked,
    }
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// The blocking end.
pub(super) struct Input {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the sender went away",
                    ));
                }
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, len: usize) {
        let _ = self.piece.split_to(len.min(self.piece.len()));
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(out.len());
        out[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}
