//! One blob at a time from the registry into the content store.
//!
//! The network is read in the caller's task, the disk is written by a thread
//! of its own, with a short queue between them: when the disk is slower, the
//! network waits. When the task goes away, the queue closes, and the thread
//! leaves the ingest as it is, to be resumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry::{Client, Reference};
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::content::{ContentStore, Ingest};
use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Error, Kind, Result};
use crate::image::{Document, MediaKind, media_kind};
use crate::labels::Labels;
use crate::namespace::Namespace;
use crate::remote;

use super::progress::{BlobRole, BlobState, PullProgress, Reporter};

/// The largest index or manifest, as in the client.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Pieces of at most some 16 KiB between network and disk.
const QUEUE_PIECES: usize = 32;
/// Between two counts of one blob.
const COUNT_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at an ingest that somebody else is writing.
const WAIT_STEP: Duration = Duration::from_millis(50);
/// A writer that has not moved for so long is not waited for any more; a
/// stalled registry would have been given up long before.
const WAIT_LIMIT: Duration = Duration::from_secs(300);
/// How often dropping an ingest is tried while its writer is coming to its
/// end.
const ABORT_ATTEMPTS: u32 = 100;

/// Where blobs come from and go to during one pull.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    pub(super) core: &'a Core,
    pub(super) ns: &'a Namespace,
    pub(super) reference: &'a Reference,
    pub(super) lease: &'a str,
    pub(super) report: &'a Reporter,
    /// Shared by every ingest that is just being opened.
    pub(super) claims: Arc<()>,
}

/// What travels from the network to the disk.
enum Piece {
    Bytes(Bytes),
    /// All of it was there: verify and commit.
    End,
}

/// What came of asking for a blob's ingest.
enum Claim {
    Stored,
    Open(Box<Ingest>),
    /// It was recorded but is not there; asking again gives the ingest.
    Absent,
    /// Somebody else is writing it and is so far.
    Taken(Option<u64>, Error),
}

impl Fetch<'_> {
    /// Brings an index or manifest here and reads it. `known` are its bytes,
    /// where resolving has brought them.
    pub(super) async fn document(
        &self,
        descriptor: &Descriptor,
        known: Option<Bytes>,
    ) -> Result<Document> {
        let role = match media_kind(&descriptor.media_type) {
            MediaKind::Index => BlobRole::Index,
            _ => BlobRole::Manifest,
        };
        if descriptor.size > MAX_DOCUMENT_BYTES {
            return Err(Kind::ResourceExhausted.error(format!(
                "manifest {} has {} bytes, more than the {MAX_DOCUMENT_BYTES} allowed",
                descriptor.digest, descriptor.size
            )));
        }
        if let Some(mut ingest) = self.claim(descriptor, role).await? {
            let bytes = match known {
                Some(bytes) => bytes,
                None => {
                    let digest = remote::digest(&descriptor.digest)?;
                    self.client
                        .manifest(self.reference, &digest)
                        .await
                        .map_err(remote::plain)?
                }
            };
            // Before it is stored, so that a document of a kind that is not
            // offered leaves nothing behind.
            parse(descriptor, &bytes)?;
            let what = descriptor.clone();
            blocking(move || {
                if ingest.offset() != bytes.len() as u64 {
                    ingest.truncate(0)?;
                    ingest.write(&bytes)?;
                }
                commit(*ingest, &what)
            })
            .await?;
            self.state(descriptor, role, BlobState::Downloaded, descriptor.size)
                .await;
        }
        let (content, ns, what) = (
            self.core.content.clone(),
            self.ns.clone(),
            descriptor.clone(),
        );
        blocking(move || {
            let bytes = content.read(&ns, &what.digest, MAX_DOCUMENT_BYTES)?;
            parse(&what, &bytes)
        })
        .await
    }

    /// Brings a blob here, going on where an earlier attempt stopped.
    pub(super) async fn blob(&self, descriptor: Descriptor, role: BlobRole) -> Result<()> {
        let Some(ingest) = self.claim(&descriptor, role).await? else {
            return Ok(());
        };
        let digest = remote::digest(&descriptor.digest)?;
        let offset = ingest.offset();
        self.state(&descriptor, role, BlobState::Downloading, offset)
            .await;
        let mut reader = self
            .client
            .blob(self.reference, &digest, descriptor.size, offset)
            .map_err(remote::plain)?;
        let (queue, pieces) = mpsc::channel(QUEUE_PIECES);
        let what = descriptor.clone();
        let writer = tokio::spawn(blocking(move || write(*ingest, &what, pieces)));
        let mut counted = Instant::now();
        let received = loop {
            match reader.next().await {
                Ok(Some(bytes)) => {
                    // The writer has ended before its time: it says why.
                    if queue.send(Piece::Bytes(bytes)).await.is_err() {
                        break Ok(());
                    }
                    if counted.elapsed() >= COUNT_INTERVAL {
                        counted = Instant::now();
                        self.report.count(news(
                            &descriptor,
                            role,
                            BlobState::Downloading,
                            reader.position(),
                        ));
                    }
                }
                Ok(None) => {
                    let _ = queue.send(Piece::End).await;
                    break Ok(());
                }
                Err(err) => break Err(remote::plain(err)),
            }
        };
        drop(queue);
        let written = writer
            .await
            .unwrap_or_else(|join| Err(Kind::Internal.error("storage work").because(join)));
        // A full disk is the cause, not that the transfer ended with it.
        written.and(received)?;
        self.state(&descriptor, role, BlobState::Downloaded, descriptor.size)
            .await;
        Ok(())
    }

    /// Drops the partial ingests of `blobs`.
    pub(super) async fn give_space_back(&self, blobs: &[(Descriptor, BlobRole)]) {
        // An ingest that is just being opened, for a download that has been given up, would come after its removal.
        for _ in 0..ABORT_ATTEMPTS {
            if Arc::strong_count(&self.claims) == 1 {
                break;
            }
            tokio::time::sleep(WAIT_STEP / 2).await;
        }
        for (descriptor, role) in blobs {
            let reference = ref_of(descriptor, *role);
            for _ in 0..ABORT_ATTEMPTS {
                let (content, ns, reference) = (
                    self.core.content.clone(),
                    self.ns.clone(),
                    reference.clone(),
                );
                match blocking(move || content.abort(&ns, &reference)).await {
                    Err(err)
                        if matches!(err.kind(), Kind::Unavailable | Kind::ResourceExhausted) =>
                    {
                        tokio::time::sleep(WAIT_STEP / 2).await
                    }
                    _ => break,
                }
            }
        }
    }

    /// Opens the ingest of a blob, or finds that it is stored (`None`), waiting
    /// for whoever else is writing it.
    async fn claim(&self, descriptor: &Descriptor, role: BlobRole) -> Result<Option<Box<Ingest>>> {
        let mut seen_at = None;
        let mut moved = Instant::now();
        loop {
            match self.try_claim(descriptor, role).await? {
                Claim::Open(ingest) => return Ok(Some(ingest)),
                Claim::Absent => {}
                Claim::Stored => {
                    self.state(descriptor, role, BlobState::Exists, descriptor.size)
                        .await;
                    return Ok(None);
                }
                Claim::Taken(offset, err) => {
                    if seen_at.is_none() {
                        self.state(
                            descriptor,
                            role,
                            BlobState::Waiting,
                            offset.unwrap_or_default(),
                        )
                        .await;
                    }
                    if seen_at != Some(offset) {
                        seen_at = Some(offset);
                        moved = Instant::now();
                    } else if moved.elapsed() > WAIT_LIMIT {
                        return Err(err);
                    }
                    tokio::time::sleep(WAIT_STEP).await;
                }
            }
        }
    }

    async fn try_claim(&self, descriptor: &Descriptor, role: BlobRole) -> Result<Claim> {
        let (content, ns, lease) = (
            self.core.content.clone(),
            self.ns.clone(),
            self.lease.to_owned(),
        );
        let (reference, expected) = (ref_of(descriptor, role), descriptor.clone());
        let claiming = Arc::clone(&self.claims);
        blocking(move || {
            let claimed = match content.ingest(&ns, Some(&lease), &reference, Some(&expected)) {
                Ok(ingest) => Ok(Claim::Open(Box::new(ingest))),
                Err(err) if err.kind() == Kind::AlreadyExists => present(&content, &ns, &expected),
                Err(err) if err.kind() == Kind::Unavailable => {
                    let offset = content
                        .status(&ns, &reference)
                        .ok()
                        .map(|status| status.offset);
                    Ok(Claim::Taken(offset, err))
                }
                Err(err) => Err(err),
            };
            drop(claiming);
            claimed
        })
        .await
    }

    async fn state(&self, descriptor: &Descriptor, role: BlobRole, state: BlobState, offset: u64) {
        self.report
            .state(news(descriptor, role, state, offset))
            .await;
    }
}

/// Looks at a blob that is recorded. One whose file is gone or cut off is
/// dropped and counts as absent, so that it is fetched again.
fn present(content: &ContentStore, ns: &Namespace, expected: &Descriptor) -> Result<Claim> {
    let blob = match content.open(ns, &expected.digest) {
        Err(err) if err.kind() == Kind::DataLoss => {
            tracing::warn!(error = %crate::error::chain(&err), "dropping a damaged blob");
            content.delete(ns, &expected.digest)?;
            return Ok(Claim::Absent);
        }
        opened => opened?,
    };
    if blob.size != expected.size {
        return Err(Kind::InvalidArgument.error(format!(
            "blob {} has {} bytes, its descriptor says {}",
            expected.digest, blob.size, expected.size
        )));
    }
    Ok(Claim::Stored)
}

fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document> {
    Document::parse(&descriptor.media_type, bytes).map_err(|fault| {
        Kind::InvalidArgument
            .error(format!("manifest {} is malformed", descriptor.digest))
            .because(fault)
    })
}

/// Writes what arrives, and commits if all of it did.
fn write(mut ingest: Ingest, what: &Descriptor, mut pieces: mpsc::Receiver<Piece>) -> Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => ingest
                .write(&bytes)
                .op(|| format!("store blob {}", what.digest))?,
            Piece::End => return commit(ingest, what),
        }
    }
    Ok(())
}

/// Makes the ingest a blob. Bytes with another digest are dropped: resuming
/// them would fail for ever.
fn commit(mut ingest: Ingest, what: &Descriptor) -> Result<()> {
    match ingest.commit(Some(what.size), Some(&what.digest), &Labels::new()) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == Kind::AlreadyExists => Ok(()),
        Err(err) if err.kind() == Kind::FailedPrecondition => {
            let found = ingest.digest();
            let dropped = ingest.discard();
            if let Err(also) = dropped {
                tracing::warn!(digest = %what.digest, error = %crate::error::chain(&also), "cannot drop a corrupt blob");
            }
            Err(corrupt(what, &found, err))
        }
        Err(err) => Err(err),
    }
}

fn corrupt(what: &Descriptor, found: &Digest, err: Error) -> Error {
    if *found == what.digest {
        return err.within(format!("store blob {}", what.digest));
    }
    Kind::DataLoss.error(format!(
        "blob {} is corrupt: the registry sent bytes with digest {found}",
        what.digest
    ))
}

fn news(descriptor: &Descriptor, role: BlobRole, state: BlobState, offset: u64) -> PullProgress {
    PullProgress::Blob {
        digest: descriptor.digest.clone(),
        role,
        state,
        offset,
        total: descriptor.size,
    }
}

fn ref_of(descriptor: &Descriptor, role: BlobRole) -> String {
    format!("{}-{}", role.ref_prefix(), descriptor.digest)
}
