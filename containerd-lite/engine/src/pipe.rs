//! Bytes between async callers and work that reads or writes them in its own
//! thread. Both ways wait when the other side is slow, and end when it is gone.

use std::io::{self, Read, Write};

use bytes::Bytes;
use lite_core::Result;
use tokio::sync::mpsc;

/// Pieces that may wait.
const WAITING: usize = 4;

/// Bytes in a piece: well below gRPC's limit.
const PIECE: usize = 256 << 10;

/// Runs `work` in a thread of its own; what it writes comes out in pieces, and
/// an error as the last of them. A receiver that is dropped ends it.
pub(crate) fn produce(
    work: impl FnOnce(&mut Source) -> Result<()> + Send + 'static,
) -> mpsc::Receiver<Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let last = sender.clone();
    tokio::spawn(async move {
        let outcome = lite_core::blocking(move || {
            let mut source = Source {
                sender,
                held: Vec::new(),
            };
            work(&mut source)?;
            // Whoever is gone does not miss the rest.
            let _ = source.flush();
            Ok(())
        });
        if let Err(err) = outcome.await {
            let _nobody_listens = last.send(Err(err)).await;
        }
    });
    receiver
}

/// What work of [`produce`] writes to.
pub(crate) struct Source {
    sender: mpsc::Sender<Result<Bytes>>,
    held: Vec<u8>,
}

impl Write for Source {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.held));
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Pieces of bytes from a client, an error where it breaks off.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// The pieces as a reader, for a thread of its own.
pub(crate) struct Sink {
    pieces: Pieces,
    held: Bytes,
}

impl Sink {
    pub(crate) fn new(pieces: Pieces) -> Self {
        Self {
            pieces,
            held: Bytes::new(),
        }
    }
}

impl Read for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.held = piece?,
            }
        }
        let len = buffer.len().min(self.held.len());
        buffer[..len].copy_from_slice(&self.held.split_to(len));
        Ok(len)
    }
}
