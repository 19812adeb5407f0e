//! Blobs and manifests to a registry.
//!
//! A blob ([`Client::push_blob`]):
//! 1. If the registry has it, that was all.
//! 2. If another repository of the registry may have it, it is mounted from
//!    there: nothing is sent.
//! 3. An upload is begun, and all bytes are sent with the request that ends it;
//!    in chunks if the configuration says so, or if the registry finds it too
//!    large for one request.
//! 4. An upload that broke is asked how far it came, and goes on there.
//!
//! A manifest ([`Client::push_manifest`]) is one request, made when all that it
//! refers to is there.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use reqwest::header::{LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::client::Client;
use crate::digest::Digest;
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::payload::{FilePart, Payload};
use crate::reference::Reference;
use crate::resolve::{ACCEPT_MANIFESTS, header_digest};
use crate::transport::Question;

/// What a registry that takes no large requests gets at a time.
const SMALL_CHUNK: u64 = 16 << 20;

/// A blob to be sent.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Holds exactly its bytes.
    pub file: Arc<File>,
    /// Repositories of the same registry that may have it, without the
    /// registry: `library/busybox`.
    pub from: Vec<String>,
    /// Bytes that have gone out.
    pub sent: Arc<AtomicU64>,
}

/// How a blob came to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Existed,
    /// It was in this repository.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// Why an attempt to upload ended.
enum Broken {
    /// Asking how far it came may save what was sent.
    Resumable(Error),
    /// The registry wants smaller requests.
    TooLarge(Error),
    Final(Error),
}

impl Client {
    /// Whether the repository of `reference` has blob `digest`.
    ///
    /// # Errors
    /// Those of the registry, but for [`Error::NotFound`].
    pub async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        self.exists(&self.writable(reference, &[])?, "blobs", digest)
            .await
    }

    /// Whether the repository of `reference` has manifest `digest`.
    ///
    /// # Errors
    /// Those of the registry, but for [`Error::NotFound`].
    pub async fn has_manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<bool, Error> {
        self.exists(&self.writable(reference, &[])?, "manifests", digest)
            .await
    }

    /// Brings a blob into the repository of `reference`.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::Refused`], [`Error::Unreachable`] and
    /// the others, after the last attempt.
    pub async fn push_blob(&self, reference: &Reference, blob: &Upload) -> Result<Uploaded, Error> {
        let repository = self.writable(reference, &blob.from)?;
        if self.exists(&repository, "blobs", &blob.digest).await? {
            blob.sent.store(blob.size, Ordering::Relaxed);
            return Ok(Uploaded::Existed);
        }
        let mut session = None;
        for from in &blob.from {
            match self.begin(&repository, blob, Some(from)).await {
                Ok(None) => {
                    blob.sent.store(blob.size, Ordering::Relaxed);
                    return Ok(Uploaded::Mounted(from.clone()));
                }
                Ok(begun) => {
                    session = begun;
                    break;
                }
                // Not ours to see, or not known there: sent instead.
                Err(err) => tracing::debug!(error = %err, from, "blob not mounted"),
            }
        }
        self.upload(&repository, blob, session).await?;
        Ok(Uploaded::Sent)
    }

    /// Stores a manifest or index under the tag of `reference`, or under its
    /// digest if the reference has one; returns the digest.
    ///
    /// # Errors
    /// As [`Client::push_blob`]; [`Error::DigestMismatch`] if the registry
    /// stored other bytes.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, Error> {
        let repository = self.writable(reference, &[])?;
        let expected = Digest::of(&bytes);
        let name = match (reference.digest(), reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => expected.to_string(),
        };
        let subject = format!("manifest {}:{name}", repository.name);
        let url = repository.url("manifests", &name);
        let mut question = Question::send(Method::PUT, url, subject.clone(), Payload::Bytes(bytes));
        question.media_type = Some(media_type.to_owned());
        let response = self.ask(&repository, &question).await?;
        match header_digest(response.headers()) {
            Some(actual) if actual != expected => Err(Error::DigestMismatch {
                subject,
                host: host_of(response.url()),
                expected,
                actual,
            }),
            _ => Ok(expected),
        }
    }

    fn writable(&self, reference: &Reference, from: &[String]) -> Result<Repository, Error> {
        let mut found = self.repositories_where(reference, |host| host.can_push)?;
        // The registry itself when it may be written to, else the one mirror
        // that may.
        let own = found
            .iter()
            .position(|repository| !repository.host.is_mirror);
        let mut repository = found.swap_remove(own.unwrap_or_default());
        repository.has_next = false;
        Ok(repository.for_push(from))
    }

    async fn exists(
        &self,
        repository: &Repository,
        kind: &str,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let url = repository.url(kind, digest.as_str());
        // A registry has only what is accepted.
        let accept = match kind {
            "manifests" => ACCEPT_MANIFESTS,
            _ => "*/*",
        };
        let mut question = Question::get(url, format!("{kind} {digest}"), accept);
        question.method = Method::HEAD;
        match self.ask(repository, &question).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Begins an upload and returns where it goes on; `None` if the blob was
    /// mounted instead.
    async fn begin(
        &self,
        repository: &Repository,
        blob: &Upload,
        from: Option<&str>,
    ) -> Result<Option<Url>, Error> {
        let mut url = repository.url("blobs", "uploads/");
        if let Some(from) = from {
            url.query_pairs_mut()
                .append_pair("mount", blob.digest.as_str())
                .append_pair("from", from);
        }
        let subject = format!("upload of blob {}", blob.digest);
        let question = Question::send(Method::POST, url, subject, Payload::None);
        let response = self.ask(repository, &question).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(None);
        }
        location(repository, &response, &question.subject).map(Some)
    }

    /// Sends the blob, going on where an attempt broke off.
    async fn upload(
        &self,
        repository: &Repository,
        blob: &Upload,
        mut session: Option<Url>,
    ) -> Result<(), Error> {
        let mut chunk = self.config().chunk_bytes.unwrap_or(u64::MAX).max(1);
        let (mut failed, mut offset, mut resuming) = (0, 0, false);
        loop {
            let at = match session.take() {
                Some(at) => at,
                None => {
                    offset = 0;
                    match self.begin(repository, blob, None).await? {
                        Some(at) => at,
                        None => return Ok(()),
                    }
                }
            };
            // What arrived of a request that was to be the only one goes on in
            // further ones.
            let whole = offset == 0 && !resuming && blob.size <= chunk;
            let tried = if whole {
                self.finish(repository, blob, &at, 0).await
            } else {
                self.in_chunks(repository, blob, at.clone(), offset, chunk)
                    .await
            };
            let err = match tried {
                Ok(()) => return Ok(()),
                Err(Broken::Final(err)) => return Err(err),
                Err(Broken::TooLarge(err)) if chunk <= SMALL_CHUNK => return Err(err),
                Err(Broken::TooLarge(_)) => {
                    chunk = SMALL_CHUNK;
                    continue;
                }
                Err(Broken::Resumable(err)) => err,
            };
            let before = offset;
            self.pause_or_give_up(&mut failed, err).await?;
            if let Some((next, held)) = self.progress(repository, blob, &at).await {
                if held > before {
                    failed = 0;
                }
                (session, offset, resuming) = (Some(next), held, true);
            }
        }
    }

    /// Sends the bytes from `offset` on, `chunk` at a time, and ends the upload.
    async fn in_chunks(
        &self,
        repository: &Repository,
        blob: &Upload,
        mut at: Url,
        mut offset: u64,
        chunk: u64,
    ) -> Result<(), Broken> {
        while offset < blob.size {
            let len = chunk.min(blob.size - offset);
            let question = Question::send(
                Method::PATCH,
                at,
                format!("upload of blob {}", blob.digest),
                part(blob, offset, len),
            );
            let response = self.ask_once(repository, &question).await.map_err(broken)?;
            at = location(repository, &response, &question.subject).map_err(Broken::Final)?;
            offset += len;
        }
        self.finish(repository, blob, &at, offset).await
    }

    /// Ends an upload with the bytes from `offset` on.
    async fn finish(
        &self,
        repository: &Repository,
        blob: &Upload,
        at: &Url,
        offset: u64,
    ) -> Result<(), Broken> {
        let mut url = at.clone();
        url.query_pairs_mut()
            .append_pair("digest", blob.digest.as_str());
        let payload = if offset < blob.size {
            part(blob, offset, blob.size - offset)
        } else {
            Payload::None
        };
        let subject = format!("upload of blob {}", blob.digest);
        let question = Question::send(Method::PUT, url, subject, payload);
        self.ask_once(repository, &question)
            .await
            .map(drop)
            .map_err(broken)
    }

    /// Where a broken upload goes on, and with which byte; `None` if it must
    /// begin anew.
    async fn progress(
        &self,
        repository: &Repository,
        blob: &Upload,
        at: &Url,
    ) -> Option<(Url, u64)> {
        let subject = format!("upload of blob {}", blob.digest);
        let question = Question::get(at.clone(), subject, "*/*");
        let response = self.ask(repository, &question).await.ok()?;
        let held = received(response.headers().get(RANGE)?.to_str().ok()?)?;
        let next =
            location(repository, &response, &question.subject).unwrap_or_else(|_| at.clone());
        (held <= blob.size).then_some((next, held))
    }
}

fn part(blob: &Upload, offset: u64, len: u64) -> Payload {
    Payload::Part(FilePart {
        file: blob.file.clone(),
        offset,
        len,
        position: blob.sent.clone(),
    })
}

fn broken(err: Error) -> Broken {
    match &err {
        Error::Refused { status, .. } if status.starts_with("413") => Broken::TooLarge(err),
        // A chunk that does not fit: how far it came will tell.
        Error::Refused { status, .. } if status.starts_with("416") => Broken::Resumable(err),
        Error::NotFound { .. } => Broken::Resumable(err),
        err_ if err_.is_transient() => Broken::Resumable(err),
        _ => Broken::Final(err),
    }
}

/// Bytes that `0-9` says have arrived. A registry with none, or with one, says
/// `0-0`: nothing is lost by sending one byte again.
fn received(range: &str) -> Option<u64> {
    let range = range.trim().trim_start_matches("bytes=");
    let (_, last) = range.split_once('-')?;
    match last.trim().parse::<u64>().ok()? {
        0 => None,
        last => last.checked_add(1),
    }
}

/// Where the registry wants the next request of an upload.
fn location(repository: &Repository, response: &Response, subject: &str) -> Result<Url, Error> {
    let nonsense = |what: &str| Error::Protocol {
        host: host_of(response.url()),
        subject: subject.to_owned(),
        what: what.to_owned(),
    };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| nonsense("an upload without a location"))?;
    let url = response
        .url()
        .join(location)
        .map_err(|_| nonsense("the location of an upload is no URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if repository.is_plain() => Ok(url),
        "http" => Err(Error::PlainHttp {
            host: host_of(&url),
        }),
        _ => Err(nonsense("the location of an upload is no web address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_received_is_read() {
        assert_eq!(received("0-9"), Some(10));
        assert_eq!(received("bytes=0-9"), Some(10));
        assert_eq!(received("0-0"), None);
        assert_eq!(received("x"), None);
    }
}
