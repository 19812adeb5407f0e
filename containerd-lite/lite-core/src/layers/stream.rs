//! Decompression and digests, beside the writer.
//!
//! One thread reads the stored bytes, digests them and decompresses; a second one
//! digests the result, as both together take longer than writing does. Buffers go
//! from one to the next and to the writer. The queues are short: when the writer
//! is slower, the others wait.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use super::Applied;
use crate::digest::Digest;
use crate::error::{Kind, Result};

const BUFFER: usize = 256 << 10;

/// Buffers in each of the two queues: 2 MiB in all.
const QUEUE: usize = 4;

/// A buffer of the uncompressed stream, or why there are no more.
type Piece = io::Result<Vec<u8>>;

/// Runs `write` on the uncompressed stream of `input` and returns what the
/// digests came to. More than `limit` uncompressed bytes are an error.
pub(super) fn digested(
    input: impl Read + Send,
    limit: u64,
    write: impl FnOnce(&mut Plain) -> Result<()>,
) -> Result<Applied> {
    let (sender, decompressed) = sync_channel(QUEUE);
    let (forward, receiver) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let result = read(input, limit, &sender);
            if let Err(err) = &result {
                // The writer hears of it in its place in the stream.
                let _ = sender.send(Err(io::Error::new(err.kind(), err.to_string())));
            }
            result
        });
        let hashing = scope.spawn(move || hash(&decompressed, &forward));
        let mut plain = Plain {
            receiver,
            buffer: Vec::new(),
            at: 0,
        };
        let written = write(&mut plain);
        // A writer that stopped early must not leave the others waiting.
        drop(plain);
        let gone = |_| Kind::Internal.error("layer reader");
        let (read, diff_id) = (reading.join().map_err(gone)?, hashing.join().map_err(gone)?);
        written?;
        let (digest, size) = read.map_err(super::stream_fault)?;
        Ok(Applied {
            digest,
            diff_id,
            size,
        })
    })
}

/// Digests what passes; ends when either side does.
fn hash(decompressed: &Receiver<Piece>, forward: &SyncSender<Piece>) -> Digest {
    let mut hasher = Sha256::new();
    for piece in decompressed {
        if let Ok(buffer) = &piece {
            hasher.update(buffer);
        }
        if forward.send(piece).is_err() {
            break;
        }
    }
    Digest::from_hash(&hasher.finalize())
}

/// The uncompressed stream.
pub(super) struct Plain {
    receiver: Receiver<Piece>,
    buffer: Vec<u8>,
    at: usize,
}

impl BufRead for Plain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() {
            match self.receiver.recv() {
                Ok(buffer) => (self.buffer, self.at) = (buffer?, 0),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at = (self.at + len).min(self.buffer.len());
    }
}

impl Read for Plain {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(out.len());
        out[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

/// Digests what is read through it.
struct Digesting<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        self.hasher.update(&out[..len]);
        Ok(len)
    }
}

/// Decompresses `input` into `sender`; the digest of what was stored, and the
/// size of what came of it.
fn read(input: impl Read, limit: u64, sender: &SyncSender<Piece>) -> io::Result<(Digest, u64)> {
    let mut stored = Digesting {
        inner: input,
        hasher: Sha256::new(),
    };
    let mut source = BufReader::with_capacity(BUFFER, &mut stored);
    let magic = source.fill_buf()?;
    let size = if magic.starts_with(&[0x1f, 0x8b]) {
        let plain = flate2::bufread::MultiGzDecoder::new(&mut source);
        forward(plain, limit, sender)?
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        forward(zstd::Decoder::with_buffer(&mut source)?, limit, sender)?
    } else {
        forward(&mut source, limit, sender)?
    };
    // Bytes behind the compressed stream belong to the blob's digest.
    io::copy(&mut source, &mut io::sink())?;
    Ok((Digest::from_hash(&stored.hasher.finalize()), size))
}

fn forward(mut plain: impl Read, limit: u64, sender: &SyncSender<Piece>) -> io::Result<u64> {
    let mut size = 0_u64;
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        (&mut plain).take(BUFFER as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(size);
        }
        size += buffer.len() as u64;
        if size > limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the layer has more than {limit} bytes uncompressed"),
            ));
        }
        if sender.send(Ok(buffer)).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the writer stopped",
            ));
        }
    }
}
