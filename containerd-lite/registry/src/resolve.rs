//! From a reference to the manifest or index that it names.
//!
//! 1. [`Client::resolve`] asks for the digest behind a tag, by HEAD where the
//!    registry answers it in full, so that an image that is here already
//!    costs one small request.
//! 2. [`Client::manifest`] fetches a manifest by digest and verifies it.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};

use crate::client::Client;
use crate::digest::Digest;
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::reference::Reference;
use crate::transport::Question;

/// Everything an image can be, the newest first.
pub(crate) const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

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
        let mut last = None;
        for repository in self.repositories_where(reference, |host| host.can_resolve)? {
            match self.resolve_on(&repository, reference).await {
                Err(err) if repository.has_next => {
                    tracing::debug!(error = %err, "mirror passed over");
                    last = Some(err);
                }
                told => return told,
            }
        }
        Err(last.unwrap_or_else(|| nowhere(reference)))
    }

    async fn resolve_on(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Resolved, Error> {
        let mut question = manifest_question(repository, reference);
        question.method = Method::HEAD;
        match self.ask(repository, &question).await {
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
        self.get_manifest(repository, reference).await
    }

    /// Fetches the manifest `digest` of the repository of `reference`.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::DigestMismatch`] if other bytes came,
    /// [`Error::TooLarge`] over the limit of the configuration.
    pub async fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<Bytes, Error> {
        let pinned = reference.pinned(digest.clone());
        let mut last = None;
        for repository in self.repositories_where(reference, |host| host.can_pull)? {
            match self.get_manifest(&repository, &pinned).await {
                Err(err) if repository.has_next => last = Some(err),
                got => return got.map(|resolved| resolved.bytes.unwrap_or_default()),
            }
        }
        Err(last.unwrap_or_else(|| nowhere(reference)))
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
                Err(err) if repository.has_next => return Err(err),
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
        let host = host_of(response.url());
        let media_type = media_type(response.headers());
        let promised = reference
            .digest()
            .cloned()
            .or_else(|| header_digest(response.headers()));
        let limit = self.config().max_manifest_bytes;
        let bytes = self.document(response, subject, limit).await?;
        let actual = Digest::of(&bytes);
        match promised {
            Some(expected) if expected != actual => Err(Error::DigestMismatch {
                subject: subject.to_owned(),
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

fn nowhere(reference: &Reference) -> Error {
    Error::NotFound {
        subject: format!("repository {}", reference.name()),
        host: reference.domain().to_owned(),
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

pub(crate) fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok()
}

/// The content type without parameters such as a character set.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let bare = text.split(';').next().unwrap_or(text).trim();
    (!bare.is_empty()).then(|| bare.to_ascii_lowercase())
}
