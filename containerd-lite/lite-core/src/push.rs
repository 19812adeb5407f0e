//! Push: an image of the stores to a registry.
//!
//! What a caller needs, from first to last:
//! - [`Core::registry`](crate::Core) is the daemon's client, without anybody's
//!   credentials. [`RegistryClient::with_credentials`](crate::RegistryClient)
//!   makes one that has them and shares its connections;
//!   [`login`](crate::accounts::login) says whether they are good and what to keep.
//! - [`push`] takes such a client, the descriptor of a stored index or manifest
//!   ([`Image::target`](crate::Image)), the reference to push it to and
//!   [`What`] of it, and tells its [`PushProgress`].
//!
//! In order:
//! 1. [`plan`] walks from the target to its blobs. What an index lists and is
//!    not stored here must be in the registry already.
//! 2. Blobs go out a few at a time: skipped if they are there, mounted from a
//!    repository that is known to have them, else sent.
//! 3. Manifests follow, then the indexes that list them, the target last: a
//!    registry never has one without what it refers to.
//! 4. Labels (`containerd.io/distribution.source.<registry>`) note where the
//!    blobs are now, for the next push to mount from.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use registry::{Client, Reference, Upload, Uploaded};
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Kind, Result};
use crate::image::{self, Document, MediaKind, media_kind};
use crate::namespace::Namespace;
use crate::remote;
use crate::values::Platform;

/// Blobs on their way at a time, as docker has it.
const PARALLEL_BLOBS: usize = 5;
/// The largest index or manifest, as in the client.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Between two counts of one blob.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);

/// How much of an image is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// All that its index lists; all of it must be here or there.
    All,
    /// All, or where something is missing the image for this machine alone, as
    /// docker does with an image that was pulled for one platform.
    Available,
    /// The image for one platform, without the index around it.
    Platform(Platform),
}

/// One piece of news from a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushProgress {
    /// This is what will be pushed: not the target that was asked for, if
    /// [`What`] allowed for less.
    Target(Descriptor),
    /// A blob is on its way.
    Sending {
        /// Which.
        digest: Digest,
        /// Bytes that have gone out.
        offset: u64,
        /// Bytes that it has.
        total: u64,
    },
    /// The registry has the blob.
    Done {
        /// Which.
        digest: Digest,
        /// Bytes that it has.
        total: u64,
        /// How it came there.
        how: Arrived,
    },
    /// The registry has this index or manifest.
    Manifest(Descriptor),
}

/// How a blob came to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// It was there.
    Existed,
    /// It was in this repository of the registry.
    Mounted(String),
    /// It was sent.
    Sent,
    /// It may not leave its origin, and was passed over.
    Foreign,
}

/// Pushes `target` to `reference`: under its tag, or without one under the
/// digest. Returns what was pushed.
///
/// `progress` is told of every change, for which the push waits when the
/// channel is full, and of bytes now and then, which are dropped then. A
/// receiver that is gone is no error.
///
/// # Errors
/// NotFound: `target` is not stored, or has nothing for the platform.
/// FailedPrecondition: the index lists what is neither here nor there.
/// Unauthenticated, PermissionDenied, Unavailable: the registry's answer.
pub async fn push(
    client: &Client,
    core: &Core,
    ns: &Namespace,
    target: &Descriptor,
    reference: &Reference,
    what: &What,
    progress: mpsc::Sender<PushProgress>,
) -> Result<Descriptor> {
    let pushing = Pushing {
        client,
        core,
        ns,
        reference,
        progress,
    };
    Box::pin(pushing.run(target, what))
        .await
        .op(|| format!("push {reference}"))
}

/// What goes where, found by looking into the stores only.
#[derive(Debug)]
struct Plan {
    target: Descriptor,
    /// Configurations and layers, each once.
    blobs: Vec<Descriptor>,
    /// Manifests and indexes, each after all that it refers to.
    documents: Vec<Descriptor>,
    /// Listed, but not stored.
    missing: Vec<Descriptor>,
}

struct Pushing<'a> {
    client: &'a Client,
    core: &'a Core,
    ns: &'a Namespace,
    reference: &'a Reference,
    progress: mpsc::Sender<PushProgress>,
}

impl Pushing<'_> {
    async fn run(&self, target: &Descriptor, what: &What) -> Result<Descriptor> {
        let plan = self.plan(target, what).await?;
        self.tell(PushProgress::Target(plan.target.clone())).await;
        stream::iter(plan.blobs.clone())
            .map(|blob| async move { self.blob(&blob).await })
            .buffer_unordered(PARALLEL_BLOBS)
            .try_collect::<Vec<()>>()
            .await?;
        for document in &plan.documents {
            self.document(document, document.digest == plan.target.digest)
                .await?;
        }
        self.remember(&plan).await?;
        Ok(plan.target)
    }

    async fn plan(&self, target: &Descriptor, what: &What) -> Result<Plan> {
        let wanted = match what {
            What::Platform(platform) => self.only(target, platform).await?,
            What::All | What::Available => target.clone(),
        };
        let plan = self.walk(wanted).await?;
        let mut absent = Vec::new();
        for missing in &plan.missing {
            let digest = remote::digest(&missing.digest)?;
            let there = match media_kind(&missing.media_type) {
                MediaKind::Index | MediaKind::Manifest => {
                    self.client.has_manifest(self.reference, &digest).await
                }
                _ => self.client.has_blob(self.reference, &digest).await,
            };
            if !there.map_err(remote::plain)? {
                absent.push(missing.digest.to_string());
            }
        }
        if absent.is_empty() {
            return Ok(plan);
        }
        if *what == What::Available && media_kind(&target.media_type) == MediaKind::Index {
            let wanted = self.only(target, &Platform::host()).await?;
            let plan = self.walk(wanted).await?;
            if plan.missing.is_empty() {
                return Ok(plan);
            }
        }
        Err(Kind::FailedPrecondition.error(format!(
            "{} refers to content that is neither stored here nor in the registry, pull all platforms or push one: {}",
            target.digest,
            absent.join(", ")
        )))
    }

    /// The manifest of one platform.
    async fn only(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        let (core, ns) = (self.core.clone(), self.ns.clone());
        let (target, platform) = (target.clone(), platform.clone());
        blocking(move || Ok(image::resolve(&core, &ns, &target, &platform)?.manifest)).await
    }

    async fn walk(&self, target: Descriptor) -> Result<Plan> {
        let (core, ns) = (self.core.clone(), self.ns.clone());
        blocking(move || plan(&core, &ns, target)).await
    }

    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        if is_foreign(&blob.media_type) {
            self.done(blob, Arrived::Foreign).await;
            return Ok(());
        }
        let upload = self.upload(blob).await?;
        let sent = upload.sent.clone();
        let work = self.client.push_blob(self.reference, &upload);
        tokio::pin!(work);
        let uploaded = loop {
            tokio::select! {
                done = &mut work => break done.map_err(remote::plain)?,
                () = tokio::time::sleep(COUNT_INTERVAL) => self.count(blob, &sent),
            }
        };
        let how = match uploaded {
            Uploaded::Existed => Arrived::Existed,
            Uploaded::Mounted(from) => Arrived::Mounted(from),
            Uploaded::Sent => Arrived::Sent,
        };
        self.done(blob, how).await;
        Ok(())
    }

    async fn upload(&self, blob: &Descriptor) -> Result<Upload> {
        let (content, ns) = (self.core.content.clone(), self.ns.clone());
        let (blob, reference) = (blob.clone(), self.reference.clone());
        blocking(move || {
            let info = content.info(&ns, &blob.digest)?;
            let opened = content.open(&ns, &blob.digest)?;
            let from = info
                .labels
                .get(&remote::source_label(reference.domain()))
                .map(|paths| paths.split(',').map(str::to_owned).collect::<Vec<_>>())
                .unwrap_or_default();
            Ok(Upload {
                digest: remote::digest(&blob.digest)?,
                size: opened.size,
                file: Arc::new(opened.file),
                from: from
                    .into_iter()
                    .filter(|path| !path.is_empty() && path != reference.path())
                    .collect(),
                sent: Arc::default(),
            })
        })
        .await
    }

    async fn document(&self, document: &Descriptor, is_target: bool) -> Result<()> {
        let (content, ns, digest) = (
            self.core.content.clone(),
            self.ns.clone(),
            document.digest.clone(),
        );
        let bytes = blocking(move || content.read(&ns, &digest, MAX_DOCUMENT_BYTES)).await?;
        let digest = remote::digest(&document.digest)?;
        let to = if is_target && self.reference.tag().is_some() {
            self.reference.by_tag()
        } else {
            self.reference.pinned(digest)
        };
        self.client
            .push_manifest(&to, &document.media_type, bytes.into())
            .await
            .map_err(remote::plain)?;
        self.tell(PushProgress::Manifest(document.clone())).await;
        Ok(())
    }

    /// Notes that the repository has these blobs.
    async fn remember(&self, plan: &Plan) -> Result<()> {
        let (core, ns, reference) = (self.core.clone(), self.ns.clone(), self.reference.clone());
        let blobs: Vec<Digest> = plan
            .blobs
            .iter()
            .filter(|blob| !is_foreign(&blob.media_type))
            .map(|blob| blob.digest.clone())
            .collect();
        blocking(move || {
            for digest in blobs {
                remote::note_source(&core.content, &ns, &digest, &reference)?;
            }
            Ok(())
        })
        .await
    }

    async fn tell(&self, news: PushProgress) {
        // An error means that nobody listens any more.
        let _ = self.progress.send(news).await;
    }

    async fn done(&self, blob: &Descriptor, how: Arrived) {
        self.tell(PushProgress::Done {
            digest: blob.digest.clone(),
            total: blob.size,
            how,
        })
        .await;
    }

    fn count(&self, blob: &Descriptor, sent: &AtomicU64) {
        let _ = self.progress.try_send(PushProgress::Sending {
            digest: blob.digest.clone(),
            offset: sent.load(Ordering::Relaxed),
            total: blob.size,
        });
    }
}

/// Walks from `target` down to its blobs.
fn plan(core: &Core, ns: &Namespace, target: Descriptor) -> Result<Plan> {
    let mut plan = Plan {
        target: target.clone(),
        blobs: Vec::new(),
        documents: Vec::new(),
        missing: Vec::new(),
    };
    let mut seen = HashSet::new();
    visit(core, ns, &target, &mut seen, &mut plan, true)?;
    Ok(plan)
}

fn visit(
    core: &Core,
    ns: &Namespace,
    at: &Descriptor,
    seen: &mut HashSet<Digest>,
    plan: &mut Plan,
    is_target: bool,
) -> Result<()> {
    if !seen.insert(at.digest.clone()) {
        return Ok(());
    }
    let is_document = is_target
        || matches!(
            media_kind(&at.media_type),
            MediaKind::Index | MediaKind::Manifest
        );
    if !is_document {
        match core.content.open(ns, &at.digest) {
            Ok(_) => plan.blobs.push(at.clone()),
            Err(_) if is_foreign(&at.media_type) => plan.blobs.push(at.clone()),
            Err(err) if err.kind() == Kind::NotFound => plan.missing.push(at.clone()),
            Err(err) => return Err(err),
        }
        return Ok(());
    }
    let bytes = match core.content.read(ns, &at.digest, MAX_DOCUMENT_BYTES) {
        Err(err) if err.kind() == Kind::NotFound && !is_target => {
            plan.missing.push(at.clone());
            return Ok(());
        }
        read => read?,
    };
    let document = Document::parse(&at.media_type, &bytes).map_err(|fault| {
        Kind::InvalidArgument
            .error(format!("manifest {} is malformed", at.digest))
            .because(fault)
    })?;
    let children: Vec<Descriptor> = match document {
        Document::Index { manifests } => manifests
            .into_iter()
            .map(|entry| entry.descriptor)
            .collect(),
        Document::Manifest { config, layers } => std::iter::once(config).chain(layers).collect(),
    };
    for child in children {
        visit(core, ns, &child, seen, plan, false)?;
    }
    plan.documents.push(at.clone());
    Ok(())
}

/// Layers that a licence keeps at their origin.
fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_layers_stay_where_they_are() {
        assert!(is_foreign(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ));
        assert!(is_foreign(
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        ));
        assert!(!is_foreign("application/vnd.oci.image.layer.v1.tar+gzip"));
    }
}
