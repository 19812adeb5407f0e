//! Pull: an image from a registry into the stores.
//!
//! 1. The reference is resolved with one HEAD. If its name stands for that
//!    digest already and everything below it is here, that was all.
//! 2. A [`lease`](TransferLease) keeps what arrives from collection.
//! 3. Index, manifest of the wanted platform, configuration and layers go into
//!    the content store ([`fetch`]), layers a few at a time. The store verifies
//!    every digest. What was interrupted earlier goes on where it stopped;
//!    what somebody else is fetching is waited for.
//! 4. Meanwhile the layers become snapshots ([`unpack_arriving`]), each as soon
//!    as it and those below it are here.
//! 5. Labels tell collection what refers to what.
//! 6. Last of all the image gets its name.
//!
//! A pull that is interrupted (its future dropped, the registry away, the
//! process killed) leaves blobs and partial ingests without a name, and its
//! lease: the next pull of the same name goes on with them and fetches nothing
//! twice. One that fails for another reason leaves them to collection. A full
//! disk takes the partial ingests with it, as only that gives the
//! space back; so does a registry that sends other bytes than it promised.

mod fetch;
mod lease;
mod progress;

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select as select_first};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use registry::{Client, Reference};
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Kind, Result};
use crate::image::{self, Document, IndexEntry, MediaKind, ResolvedImage, media_kind};
use crate::images::Image;
use crate::namespace::Namespace;
use crate::remote;
use crate::snapshots::OVERLAYFS;
use crate::unpack::{unpack, unpack_as_they_come};
use crate::values::Platform;

use fetch::Fetch;
pub use lease::TransferLease;
pub(crate) use progress::Reporter;
pub use progress::{BlobRole, BlobState, PullProgress};

/// How many layers are fetched at a time; registries limit clients that open
/// more, and one connection seldom fills a line.
const PARALLEL_LAYERS: usize = 3;

/// How long transfers may go on when their image cannot be unpacked.
const DRAIN: Duration = Duration::from_secs(5);

/// Indexes in indexes deeper than this are not real.
const MAX_DEPTH: usize = 4;

/// What a pull came to.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The record as it is now.
    pub image: Image,
    /// False when everything was here already.
    pub downloaded: bool,
}

/// Pulls `reference` for `platform` anonymously, as [`pull_with`] does.
///
/// # Errors
/// Those of [`pull_with`].
pub async fn pull(
    core: &Core,
    ns: &Namespace,
    reference: &Reference,
    platform: &Platform,
    progress: mpsc::Sender<PullProgress>,
) -> Result<Pulled> {
    pull_with(&core.registry, core, ns, reference, platform, progress).await
}

/// Pulls `reference` for `platform` through `client`: blobs, snapshots, and
/// last the image record.
///
/// `progress` is told of every change of state, for which the pull waits when
/// the channel is full, and of bytes received now and then, which are dropped
/// then. A receiver that is gone is no error.
///
/// # Errors
/// NotFound: no such image, or none for the platform. Unauthenticated.
/// Unavailable: the registry is away, stalls or breaks off. DataLoss or
/// FailedPrecondition: what it sent is corrupt; the digest is named.
/// ResourceExhausted: the disk is full.
pub async fn pull_with(
    client: &Client,
    core: &Core,
    ns: &Namespace,
    reference: &Reference,
    platform: &Platform,
    progress: mpsc::Sender<PullProgress>,
) -> Result<Pulled> {
    let report = Reporter::new(progress);
    let work = Box::pin(transfer(client, core, ns, reference, platform, &report));
    work.await.op(|| format!("pull {reference}"))
}

async fn transfer(
    client: &Client,
    core: &Core,
    ns: &Namespace,
    reference: &Reference,
    platform: &Platform,
    report: &Reporter,
) -> Result<Pulled> {
    let (target, bytes) = find_target(client, reference).await?;
    report
        .state(PullProgress::Resolved {
            target: target.clone(),
        })
        .await;
    if let Some(image) = complete(core, ns, reference, &target, platform).await? {
        let (leases, ns, name) = (core.leases.clone(), ns.clone(), image.name.clone());
        blocking(move || leases.end_interrupted(&ns, &name)).await?;
        return Ok(Pulled {
            image,
            downloaded: false,
        });
    }

    let lease = TransferLease::of_pull(core, ns, reference.to_string()).await?;
    let fetch = Fetch {
        client,
        core,
        ns,
        reference,
        lease: lease.id(),
        report,
        claims: std::sync::Arc::default(),
    };
    let brought = bring(&fetch, target, bytes, platform).await;
    let image = match brought {
        // The way there broke: what has come stays, and the next pull goes on.
        Err(err) if err.kind() == Kind::Unavailable => return Err(err),
        // Over before the outcome is told: a collection then finds what a failed
        // pull has left.
        brought => {
            let ended = lease.end().await;
            let image = brought?;
            ended?;
            image
        }
    };
    Ok(Pulled {
        image,
        downloaded: true,
    })
}

/// Fetches and unpacks what `target` stands for, and gives it its name last.
async fn bring(
    fetch: &Fetch<'_>,
    target: Descriptor,
    bytes: Option<Bytes>,
    platform: &Platform,
) -> Result<Image> {
    fetch_all(fetch, target.clone(), bytes, platform).await?;
    let (images, ns) = (fetch.core.images.clone(), fetch.ns.clone());
    let named = Image::new(fetch.reference.to_string(), target);
    blocking(move || images.put(&ns, named)).await
}

/// What the reference stands for, and its bytes if they came along.
async fn find_target(
    client: &Client,
    reference: &Reference,
) -> Result<(Descriptor, Option<Bytes>)> {
    let mut resolved = client.resolve(reference).await.map_err(remote::plain)?;
    if media_kind(&resolved.media_type) == MediaKind::Other {
        // A server that does not know what it serves; the document may.
        let bytes = match resolved.bytes.take() {
            Some(bytes) => bytes,
            None => client
                .manifest(reference, &resolved.digest)
                .await
                .map_err(remote::plain)?,
        };
        if let Some(own) = own_media_type(&bytes) {
            resolved.media_type = own;
        }
        resolved.bytes = Some(bytes);
    }
    if !matches!(
        media_kind(&resolved.media_type),
        MediaKind::Index | MediaKind::Manifest
    ) {
        return Err(Kind::Unimplemented.error(format!(
            "manifest {} has media type {:?}, which is no image of OCI or Docker (schema 2)",
            resolved.digest, resolved.media_type
        )));
    }
    let target = Descriptor {
        media_type: resolved.media_type,
        digest: Digest::parse(resolved.digest.as_str())?,
        size: resolved.size,
        annotations: BTreeMap::new(),
    };
    Ok((target, resolved.bytes))
}

fn own_media_type(document: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(document).ok()?;
    let own = document.get("mediaType")?.as_str()?;
    matches!(media_kind(own), MediaKind::Index | MediaKind::Manifest).then(|| own.to_owned())
}

/// The image's record, if it stands for `target` and nothing below is missing.
async fn complete(
    core: &Core,
    ns: &Namespace,
    reference: &Reference,
    target: &Descriptor,
    platform: &Platform,
) -> Result<Option<Image>> {
    let (core, ns, platform) = (core.clone(), ns.clone(), platform.clone());
    let (name, target) = (reference.to_string(), target.clone());
    blocking(move || {
        let record = match core.images.get(&ns, &name) {
            Ok(record) if record.target.digest == target.digest => record,
            Ok(_) => return Ok(None),
            Err(err) if err.kind() == Kind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let whole = is_whole(&core, &ns, &target, &platform)?;
        Ok(whole.then_some(record))
    })
    .await
}

/// Whether every blob and the last snapshot below `target` are here.
fn is_whole(core: &Core, ns: &Namespace, target: &Descriptor, platform: &Platform) -> Result<bool> {
    let present = |found: Result<()>| match found {
        Ok(()) => Ok(true),
        // Damaged counts as missing: it is fetched again.
        Err(err) if matches!(err.kind(), Kind::NotFound | Kind::DataLoss) => Ok(false),
        Err(err) => Err(err),
    };
    let image = match image::resolve(core, ns, target, platform) {
        Ok(image) => image,
        Err(err) => return present(Err(err)),
    };
    for layer in &image.layers {
        if !present(core.content.open(ns, &layer.digest).map(drop))? {
            return Ok(false);
        }
    }
    match &image.chain_id {
        Some(chain) => present(core.snapshots.stat(ns, OVERLAYFS, chain.as_str()).map(drop)),
        None => Ok(true),
    }
}

/// Brings everything below `target` that `platform` needs into the content
/// store, labelled for collection, and unpacks it.
async fn fetch_all(
    fetch: &Fetch<'_>,
    target: Descriptor,
    bytes: Option<Bytes>,
    platform: &Platform,
) -> Result<()> {
    let (config, layers) = fetch_documents(fetch, target.clone(), bytes, platform).await?;
    fetch.blob(config.clone(), BlobRole::Config).await?;
    let image = {
        let (core, ns, platform) = (fetch.core.clone(), fetch.ns.clone(), platform.clone());
        let target = target.clone();
        blocking(move || image::resolve(&core, &ns, &target, &platform)).await?
    };
    let blobs = blobs(config, layers);
    if let Err(err) = fetch_layers(fetch, &image, &blobs).await {
        if matches!(err.kind(), Kind::ResourceExhausted | Kind::DataLoss) {
            fetch.give_space_back(&blobs).await;
        }
        return Err(err);
    }
    let (core, ns, reference) = (
        fetch.core.clone(),
        fetch.ns.clone(),
        fetch.reference.clone(),
    );
    blocking(move || {
        image::label_children(&core, &ns, &target)?;
        for (blob, _) in &blobs {
            remote::note_source(&core.content, &ns, &blob.digest, &reference)?;
        }
        Ok(())
    })
    .await
}

/// Index and manifest; returns what the manifest lists.
async fn fetch_documents(
    fetch: &Fetch<'_>,
    target: Descriptor,
    bytes: Option<Bytes>,
    platform: &Platform,
) -> Result<(Descriptor, Vec<Descriptor>)> {
    let (mut at, mut known, mut depth) = (target, bytes, 0);
    loop {
        match fetch.document(&at, known.take()).await? {
            Document::Index { manifests } => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Kind::InvalidArgument
                        .error(format!("index {} is nested too deep", at.digest)));
                }
                at = select(&manifests, &at.digest, platform)?;
            }
            Document::Manifest { config, layers } => return Ok((config, layers)),
        }
    }
}

/// Fetches the layers and unpacks them as they arrive.
async fn fetch_layers(
    fetch: &Fetch<'_>,
    image: &ResolvedImage,
    blobs: &[(Descriptor, BlobRole)],
) -> Result<()> {
    let (arrived, arrivals) = std::sync::mpsc::channel();
    let layers = blobs.iter().filter(|(_, role)| *role == BlobRole::Layer);
    let layers: Vec<_> = layers.cloned().collect();
    // The sender ends with the transfer, and with it the wait for more.
    let fetching = async move {
        let arrived = &arrived;
        stream::iter(layers)
            .map(|(layer, role)| async move {
                let digest = layer.digest.clone();
                fetch.blob(layer, role).await?;
                // Nobody waits for it when unpacking has failed, and says so.
                let _ = arrived.send(digest);
                Ok(())
            })
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect::<Vec<()>>()
            .await
    };
    let unpacking = unpack_arriving(fetch, image, arrivals);
    tokio::pin!(fetching, unpacking);
    match select_first(fetching, unpacking).await {
        Either::Left((Ok(_), unpacking)) => unpacking.await,
        Either::Left((Err(err), unpacking)) => {
            // The cause is the transfer's; what it left half unpacked goes first.
            let _ = unpacking.await;
            Err(err)
        }
        Either::Right((Ok(()), fetching)) => fetching.await.map(drop),
        Either::Right((Err(err), fetching)) => {
            // What is nearly here may come to its end, so that what it leaves
            // can be told from what others write.
            let _ = tokio::time::timeout(DRAIN, fetching).await;
            Err(err)
        }
    }
}

/// Makes snapshots of the layers, each when its digest has come out of
/// `arrivals`. An image without any has none to make.
async fn unpack_arriving(
    fetch: &Fetch<'_>,
    image: &ResolvedImage,
    arrivals: Receiver<Digest>,
) -> Result<()> {
    if image.chain_id.is_none() {
        return Ok(());
    }
    let (core, ns) = (fetch.core.clone(), fetch.ns.clone());
    let (image, report) = (image.clone(), fetch.report.clone());
    blocking(move || {
        let mut here = HashSet::new();
        let mut arrived = |layer: &Descriptor| {
            while !here.contains(&layer.digest) {
                let next = arrivals.recv().map_err(|_| {
                    Kind::Aborted.error(format!("layer {} did not arrive", layer.digest))
                })?;
                here.insert(next);
            }
            Ok(())
        };
        unpack_as_they_come(&core, &ns, OVERLAYFS, &image, &mut arrived, &mut |step| {
            report.unpacking(step);
        })
        .map(drop)
    })
    .await
}

/// The index's entry for `wanted`: the very variant first, entries that do not
/// say last, as [`image::resolve`] looks for it.
fn select(entries: &[IndexEntry], index: &Digest, wanted: &Platform) -> Result<Descriptor> {
    let rank = |entry: &&IndexEntry| match &entry.platform {
        Some(its) if its == wanted => Some(0),
        Some(its) if wanted.accepts(its) => Some(1),
        Some(_) => None,
        None => Some(2),
    };
    let best = entries
        .iter()
        .filter(|entry| rank(entry).is_some())
        .min_by_key(rank);
    best.map(|entry| entry.descriptor.clone()).ok_or_else(|| {
        let offered: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(Platform::to_string)
            .collect();
        Kind::NotFound.error(format!(
            "index {index} has no image for {wanted}, only for {}",
            offered.join(", ")
        ))
    })
}

/// Configuration and layers, each digest once.
fn blobs(config: Descriptor, layers: Vec<Descriptor>) -> Vec<(Descriptor, BlobRole)> {
    let mut seen = HashSet::new();
    let layers = layers.into_iter().map(|layer| (layer, BlobRole::Layer));
    std::iter::once((config, BlobRole::Config))
        .chain(layers)
        .filter(|(descriptor, _)| seen.insert(descriptor.digest.clone()))
        .collect()
}

/// Makes snapshots of layers that are all here. An image without any has none to
/// make.
pub(crate) async fn unpack_layers(
    core: &Core,
    ns: &Namespace,
    image: &ResolvedImage,
    report: &Reporter,
) -> Result<()> {
    if image.chain_id.is_none() {
        return Ok(());
    }
    let (core, ns, image, report) = (core.clone(), ns.clone(), image.clone(), report.clone());
    blocking(move || {
        unpack(&core, &ns, OVERLAYFS, &image, &mut |step| {
            report.unpacking(step)
        })
        .map(drop)
    })
    .await
}
