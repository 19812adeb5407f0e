//! From a reference to the manifest or index that it names.
//!
//! 1. [`Client::resolve`] asks for the digest behind a tag, by HEAD where the
//!    registry answers it in full, so that an image that is here already
//!    costs one small request.
//! 2. [`Client::manifest`] fetches a manifest by digest and verifies it.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};

use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::digest::Digest;
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::reference::Reference;
use crate::transport::Question;

/// Everything an image can be, the newest first.
const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a reference names at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// For example `application/vnd.oci.image.index.v1+json`.
    pub media_type: String,
    /// Of the manifest or index.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The manifest itself, verified, if finding the digest took fetching it.
    pub bytes: Option<Bytes>,
}

impl Client {
    /// Finds the manifest or index that `reference` names. A digest in the
    /// reference wins over its tag.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::Unreachable`]
    /// and the others.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        let repository = self.repository(reference)?;
        let mut question = manifest_question(&repository, reference);
        question.method = Method::HEAD;
        match self.ask(&repository, &question).await {
            Ok(response) => {
                if let Some(resolved) = from_head(&response, reference)
                    && resolved.size <= self.config().max_manifest_bytes
                {
                    return Ok(resolved);
                }
            }
            // Some registries do not know HEAD; GET will tell.
            Err(Error::Refused { .. }) => {}
            Err(err) => return Err(err),
        }
        self.get_manifest(&repository, reference).await
    }

    /// Fetches the manifest `digest` of the repository of `reference`.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::DigestMismatch`] if other bytes came,
    /// [`Error::TooLarge`] over the limit of the configuration.
    pub async fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<Bytes, Error> {
        let repository = self.repository(reference)?;
        let pinned = reference.pinned(digest.clone());
        let resolved = self.get_manifest(&repository, &pinned).await?;
        Ok(resolved.bytes.unwrap_or_default())
    }

    async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Resolved, Error> {
        let question = manifest_question(repository, reference);
        let mut failed = 0;
        loop {
            let response = self.ask(repository, &question).await?;
            match self
                .read_manifest(response, reference, &question.subject)
                .await
            {
                Ok(resolved) => return Ok(resolved),
                Err(err) => self.pause_or_give_up(&mut failed, err).await?,
            }
        }
    }

    async fn read_manifest(
        &self,
        response: Response,
        reference: &Reference,
        subject: &str,
    ) -> Result<Resolved, Error> {
        let config = self.config();
        let host = host_of(response.url());
        let subject = subject.to_owned();
        let media_type = media_type(response.headers());
        let promised = reference
            .digest()
            .cloned()
            .or_else(|| header_digest(response.headers()));
        let limit = config.max_manifest_bytes;
        let body = Body::new(response, config.idle_timeout).collect(limit);
        let bytes = match tokio::time::timeout(config.document_timeout, body).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => {
                return Err(Error::TooLarge {
                    subject,
                    host,
                    limit,
                });
            }
            Ok(Err(BodyError::Cut(source))) => {
                return Err(Error::Cut {
                    host,
                    subject,
                    received: 0,
                    source: Some(source),
                });
            }
            Ok(Err(BodyError::Stalled)) => {
                return Err(Error::Stalled {
                    host,
                    subject,
                    waited: config.idle_timeout,
                });
            }
            Err(_elapsed) => {
                return Err(Error::Stalled {
                    host,
                    subject,
                    waited: config.document_timeout,
                });
            }
        };
        let actual = Digest::of(&bytes);
        match promised {
            Some(expected) if expected != actual => Err(Error::DigestMismatch {
                subject,
                host,
                expected,
                actual,
            }),
            _ => Ok(Resolved {
                media_type: media_type.unwrap_or_default(),
                digest: actual,
                size: bytes.len() as u64,
                bytes: Some(bytes),
            }),
        }
    }
}

fn manifest_question(repository: &Repository, reference: &Reference) -> Question {
    let (name, subject) = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => (
            digest.as_str(),
            format!("manifest {}@{digest}", repository.name),
        ),
        (None, tag) => {
            let tag = tag.unwrap_or_default();
            (tag, format!("manifest {}:{tag}", repository.name))
        }
    };
    Question::get(repository.url("manifests", name), subject, ACCEPT_MANIFESTS)
}

/// What HEAD tells, if it tells all of it. Nothing is verified yet, but for a
/// digest in the reference that another one contradicts.
fn from_head(response: &Response, reference: &Reference) -> Option<Resolved> {
    let headers = response.headers();
    let digest = header_digest(headers)?;
    if reference.digest().is_some_and(|wanted| *wanted != digest) {
        return None;
    }
    // `Response::content_length` is 0 for HEAD.
    let size = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    Some(Resolved {
        media_type: media_type(headers)?,
        digest,
        size,
        bytes: None,
    })
}

fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok()
}

/// The content type without parameters such as a character set.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let bare = text.split(';').next().unwrap_or(text).trim();
    (!bare.is_empty()).then(|| bare.to_ascii_lowercase())
}
