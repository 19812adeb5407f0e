//! A blob as a stream that survives cut connections.
//!
//! The digest is not verified here: a reader that begins at an offset does
//! not see all bytes. Whoever stores the blob verifies it as a whole.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;

use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::digest::Digest;
use crate::endpoint::{Repository, host_of};
use crate::error::{Error, TransportError};
use crate::reference::Reference;
use crate::transport::Question;

/// A connection that brought this much before it broke was a good one, and
/// the count of failed attempts starts over.
const GOOD_PROGRESS_BYTES: u64 = 1 << 20;

/// Reads a blob of known size from an offset to its end.
pub struct BlobReader {
    client: Client,
    /// The servers to ask, the one in use first.
    repositories: Vec<Repository>,
    digest: Digest,
    subject: String,
    /// Of the first byte that is not wanted.
    size: u64,
    /// Of the whole blob.
    total: u64,
    /// Of the next byte to hand out.
    position: u64,
    body: Option<OpenBody>,
    failed: u32,
    /// Where the last failure was.
    failed_at: u64,
}

struct OpenBody {
    body: Body,
    host: String,
    /// Bytes to pass over, because the server does not know ranges.
    skip: u64,
    /// Where in the blob the answer ends.
    end: u64,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("subject", &self.subject)
            .field("size", &self.size)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares to read blob `digest` of `size` bytes from the repository of
    /// `reference`, beginning at byte `offset`. Connects at the first
    /// [`BlobReader::next`].
    ///
    /// # Errors
    /// [`Error::Protocol`] if the reference's registry is no address.
    pub fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<BlobReader, Error> {
        self.blob_part(reference, digest, size, offset..size)
    }

    /// The same for the bytes of `part` only.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub fn blob_part(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: u64,
        part: Range<u64>,
    ) -> Result<BlobReader, Error> {
        Ok(BlobReader {
            client: self.clone(),
            repositories: self.repositories_where(reference, |host| host.can_pull)?,
            digest: digest.clone(),
            subject: format!("blob {digest}"),
            size: part.end.min(size),
            total: size,
            position: part.start,
            body: None,
            failed: 0,
            failed_at: part.start,
        })
    }
}

impl BlobReader {
    /// How much of the blob has been read, or was passed over at the start.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next piece, never empty, or `None` once all bytes were handed out.
    /// A connection that breaks is made anew from where it broke.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Cut`] and [`Error::Stalled`] after the last attempt,
    /// [`Error::TooLarge`] and [`Error::SizeMismatch`] if the blob is not as
    /// long as it should be, and those of [`Client::resolve`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.position >= self.size {
                return self.at_end().await;
            }
            if self.body.is_none() {
                self.body = Some(self.open().await?);
            }
            let Some(open) = self.body.as_mut() else {
                continue;
            };
            let piece = open.body.next().await;
            let host = open.host.clone();
            let err = match piece {
                Ok(Some(piece)) => {
                    let skipped = open.skip.min(piece.len() as u64);
                    open.skip -= skipped;
                    let piece = piece.slice(usize::try_from(skipped).unwrap_or(usize::MAX)..);
                    if piece.is_empty() {
                        continue;
                    }
                    let end = open.end;
                    return self.deliver(piece, host, end).map(Some);
                }
                Ok(None) => self.cut(host, None),
                Err(BodyError::Cut(source)) => self.cut(host, Some(source)),
                Err(BodyError::Stalled) => Error::Stalled {
                    host,
                    subject: self.subject.clone(),
                    waited: self.client.config().idle_timeout,
                },
            };
            self.body = None;
            if self.position - self.failed_at >= GOOD_PROGRESS_BYTES {
                self.failed = 0;
            }
            self.failed_at = self.position;
            // A copy of the count, so that a dropped future counts nothing.
            let mut failed = self.failed;
            self.client.pause_or_give_up(&mut failed, err).await?;
            self.failed = failed;
        }
    }

    fn deliver(&mut self, mut piece: Bytes, host: String, end: u64) -> Result<Bytes, Error> {
        let after = self.position.saturating_add(piece.len() as u64);
        if after > end {
            return Err(self.too_large(host));
        }
        // More than the part, from a server that does not know ranges.
        let wanted = after.min(self.size) - self.position;
        piece.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.position += wanted;
        Ok(piece)
    }

    /// All bytes are here; a server that goes on had something else to send.
    async fn at_end(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut open) = self.body.take() else {
            return Ok(None);
        };
        if open.end > self.size {
            return Ok(None);
        }
        match open.body.next().await {
            Ok(Some(piece)) if !piece.is_empty() => Err(self.too_large(open.host)),
            _ => Ok(None),
        }
    }

    /// Asks for what is missing, one server after the other.
    async fn open(&mut self) -> Result<OpenBody, Error> {
        loop {
            let Some(repository) = self.repositories.first() else {
                return Err(Error::NotFound {
                    subject: self.subject.clone(),
                    host: "any registry".to_owned(),
                });
            };
            match self.open_on(repository).await {
                Err(err) if repository.has_next => {
                    tracing::debug!(error = %err, "mirror passed over");
                    self.repositories.remove(0);
                }
                opened => return opened,
            }
        }
    }

    async fn open_on(&self, repository: &Repository) -> Result<OpenBody, Error> {
        let url = repository.url("blobs", self.digest.as_str());
        let mut question = Question::get(url, self.subject.clone(), "*/*");
        question.from = self.position;
        question.until = (self.size < self.total).then_some(self.size);
        let response = self.client.ask(repository, &question).await?;
        let host = host_of(response.url());
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        if partial {
            let range = response.headers().get(CONTENT_RANGE);
            let start = range
                .and_then(|value| value.to_str().ok())
                .and_then(range_start);
            if start != Some(self.position) {
                return Err(Error::Protocol {
                    host,
                    subject: question.subject,
                    what: format!(
                        "bytes from {} on were asked for, and others came",
                        self.position
                    ),
                });
            }
        }
        // A server that does not know ranges sends all of it.
        let (skip, end) = if partial {
            (0, self.size)
        } else {
            (self.position, self.total)
        };
        let expected = end - self.position + skip;
        match response.content_length() {
            Some(actual) if actual != expected => Err(Error::SizeMismatch {
                subject: question.subject,
                host,
                expected: self.total,
                actual: actual.saturating_add(self.position - skip),
            }),
            _ => {
                let body = Body::new(response, self.client.config().idle_timeout);
                Ok(OpenBody {
                    body,
                    host,
                    skip,
                    end,
                })
            }
        }
    }

    fn cut(&self, host: String, source: Option<TransportError>) -> Error {
        Error::Cut {
            host,
            subject: self.subject.clone(),
            received: self.position,
            source,
        }
    }

    fn too_large(&self, host: String) -> Error {
        Error::TooLarge {
            subject: self.subject.clone(),
            host,
            limit: self.total,
        }
    }
}

/// `5` of `bytes 5-9/10`.
fn range_start(header: &str) -> Option<u64> {
    let range = header.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes 5-9/*"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("items 5-9/10"), None);
    }
}
