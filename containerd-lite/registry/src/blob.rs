//! A blob as a stream that survives cut connections.
//!
//! The digest is not verified here: a reader that begins at an offset does
//! not see all bytes. Whoever stores the blob verifies it as a whole.

use std::fmt;

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
    repository: Repository,
    question: Question,
    size: u64,
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
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("subject", &self.question.subject)
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
        let repository = self.repository(reference)?;
        let url = repository.url("blobs", digest.as_str());
        Ok(BlobReader {
            client: self.clone(),
            question: Question::get(url, format!("blob {digest}"), "*/*"),
            repository,
            size,
            position: offset,
            body: None,
            failed: 0,
            failed_at: offset,
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
                    return self.deliver(piece, host).map(Some);
                }
                Ok(None) => self.cut(host, None),
                Err(BodyError::Cut(source)) => self.cut(host, Some(source)),
                Err(BodyError::Stalled) => Error::Stalled {
                    host,
                    subject: self.question.subject.clone(),
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

    fn deliver(&mut self, piece: Bytes, host: String) -> Result<Bytes, Error> {
        let end = self.position.saturating_add(piece.len() as u64);
        if end > self.size {
            return Err(self.too_large(host));
        }
        self.position = end;
        Ok(piece)
    }

    /// All bytes are here; a server that goes on had something else to send.
    async fn at_end(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut open) = self.body.take() else {
            return Ok(None);
        };
        match open.body.next().await {
            Ok(Some(piece)) if !piece.is_empty() => Err(self.too_large(open.host)),
            _ => Ok(None),
        }
    }

    async fn open(&self) -> Result<OpenBody, Error> {
        let mut question = self.question.clone();
        question.from = self.position;
        let response = self.client.ask(&self.repository, &question).await?;
        let host = host_of(response.url());
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
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
                0
            }
            _ => self.position,
        };
        let expected = self.size - self.position + skip;
        match response.content_length() {
            Some(actual) if actual != expected => Err(Error::SizeMismatch {
                subject: question.subject,
                host,
                expected: self.size,
                actual: actual.saturating_add(self.position - skip),
            }),
            _ => {
                let body = Body::new(response, self.client.config().idle_timeout);
                Ok(OpenBody { body, host, skip })
            }
        }
    }

    fn cut(&self, host: String, source: Option<TransportError>) -> Error {
        Error::Cut {
            host,
            subject: self.question.subject.clone(),
            received: self.position,
            source,
        }
    }

    fn too_large(&self, host: String) -> Error {
        Error::TooLarge {
            subject: self.question.subject.clone(),
            host,
            limit: self.size,
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
