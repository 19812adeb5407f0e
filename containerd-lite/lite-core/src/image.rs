//! Images in depth: from a descriptor to the layers of one platform.
//!
//! 1. [`resolve`] walks index → manifest → config, OCI's or Docker's, with a
//!    limit on each document's size.
//! 2. [`chain_ids`] gives each layer's snapshot its name.
//! 3. [`label_children`] tells garbage collection what hangs on what.
//!
//! All documents come from strangers: nothing in them is believed unchecked.

mod documents;

use oci_spec::image::ImageConfiguration;

use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Kind, Result};
use crate::labels::Labels;
use crate::namespace::Namespace;
use crate::values::Platform;

pub use documents::{Document, IndexEntry, MediaKind, media_kind};

/// The largest index or manifest, as in containerd.
const MAX_MANIFEST: u64 = 8 << 20;

/// The largest config. Real ones have a few kilobytes.
const MAX_CONFIG: u64 = 16 << 20;

/// Indexes in indexes deeper than this are not real.
const MAX_DEPTH: usize = 4;

/// What overlayfs can stack, less one for the container's own.
const MAX_LAYERS: usize = 499;

/// The prefix of labels by which one blob keeps another.
pub const GC_CONTENT: &str = "containerd.io/gc.ref.content";

/// The prefix of labels by which a blob keeps a snapshot, before the
/// snapshotter's name.
pub const GC_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// One platform's image.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The platform's manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// The config's content.
    pub image_config: ImageConfiguration,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Descriptor>,
    /// The digests of the layers' uncompressed bytes, one for each of `layers`.
    pub diff_ids: Vec<Digest>,
    /// The name of the topmost layer's snapshot; `None` without layers.
    pub chain_id: Option<Digest>,
}

/// Finds the image of `platform` below `target`.
///
/// # Errors
/// NotFound if a document is not stored or none is for `platform`;
/// InvalidArgument if one is malformed, naming its digest.
pub fn resolve(
    core: &Core,
    ns: &Namespace,
    target: &Descriptor,
    platform: &Platform,
) -> Result<ResolvedImage> {
    let manifest = find_manifest(core, ns, target, platform, 0)?;
    let Document::Manifest { config, layers } = read(core, ns, &manifest)? else {
        return Err(Kind::InvalidArgument.error(format!(
            "image {}: {} is not a manifest",
            target.digest, manifest.digest
        )));
    };
    let bytes = core
        .content
        .read(ns, &config.digest, MAX_CONFIG)
        .op(|| format!("config of image {}", manifest.digest))?;
    let image_config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(|err| {
        Kind::InvalidArgument
            .error(format!("image config {}", config.digest))
            .because(err)
    })?;
    check_platform(&image_config, &manifest, platform)?;
    let diff_ids = image_config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|id| Digest::parse(id));
    let diff_ids = diff_ids
        .collect::<Result<Vec<_>>>()
        .op(|| format!("rootfs.diff_ids of image config {}", config.digest))?;
    if diff_ids.len() != layers.len() {
        return Err(Kind::InvalidArgument.error(format!(
            "image {}: its manifest has {} layers, its config {}",
            manifest.digest,
            layers.len(),
            diff_ids.len()
        )));
    }
    if layers.len() > MAX_LAYERS {
        return Err(Kind::InvalidArgument.error(format!(
            "image {}: {} layers, at most {MAX_LAYERS} can be stacked",
            manifest.digest,
            layers.len()
        )));
    }
    let chain_id = chain_ids(&diff_ids).pop();
    Ok(ResolvedImage {
        manifest,
        config,
        image_config,
        layers,
        diff_ids,
        chain_id,
    })
}

/// The name of each layer's snapshot: the first layer's is its diffID, each
/// further one's the digest of the name below and its own diffID.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for id in diff_ids {
        let next = match chain.last() {
            None => id.clone(),
            Some(below) => Digest::of(format!("{below} {id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// Labels every stored index and manifest from `target` down with references to
/// its children, so that collection keeps what the image needs. Children that
/// are not stored (other platforms) are referred to as well: harmless, and right
/// if they come later.
///
/// # Errors
/// NotFound if `target` is not stored; InvalidArgument if a document is
/// malformed.
pub fn label_children(core: &Core, ns: &Namespace, target: &Descriptor) -> Result<()> {
    label_below(core, ns, target, 0)
}

/// The children of `target`: manifests of an index, config and layers of a
/// manifest, nothing for any other blob.
///
/// # Errors
/// NotFound if it is not stored; InvalidArgument if it is malformed.
pub fn children(core: &Core, ns: &Namespace, target: &Descriptor) -> Result<Vec<Descriptor>> {
    if !matches!(
        media_kind(&target.media_type),
        MediaKind::Index | MediaKind::Manifest
    ) {
        return Ok(Vec::new());
    }
    Ok(match read(core, ns, target)? {
        Document::Index { manifests } => manifests
            .into_iter()
            .map(|entry| entry.descriptor)
            .collect(),
        Document::Manifest { config, layers } => std::iter::once(config).chain(layers).collect(),
    })
}

fn label_below(core: &Core, ns: &Namespace, target: &Descriptor, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH
        || !matches!(
            media_kind(&target.media_type),
            MediaKind::Index | MediaKind::Manifest
        )
    {
        return Ok(());
    }
    let mut labels = Labels::new();
    match read(core, ns, target)? {
        Document::Index { manifests } => {
            for (number, entry) in manifests.iter().enumerate() {
                labels.insert(
                    format!("{GC_CONTENT}.m.{number}"),
                    entry.descriptor.digest.to_string(),
                );
            }
            for entry in &manifests {
                match label_below(core, ns, &entry.descriptor, depth + 1) {
                    Err(err) if err.kind() == Kind::NotFound => {}
                    done => done?,
                }
            }
        }
        Document::Manifest { config, layers } => {
            labels.insert(format!("{GC_CONTENT}.config"), config.digest.to_string());
            for (number, layer) in layers.iter().enumerate() {
                labels.insert(format!("{GC_CONTENT}.l.{number}"), layer.digest.to_string());
            }
        }
    }
    core.content
        .add_labels(ns, &target.digest, &labels)
        .map(|_| ())
}

fn find_manifest(
    core: &Core,
    ns: &Namespace,
    target: &Descriptor,
    platform: &Platform,
    depth: usize,
) -> Result<Descriptor> {
    let Document::Index { manifests } = read(core, ns, target)? else {
        return Ok(target.clone());
    };
    if depth >= MAX_DEPTH {
        return Err(Kind::InvalidArgument.error(format!(
            "index {}: more than {MAX_DEPTH} indexes in each other",
            target.digest
        )));
    }
    let mut fitting: Vec<_> = manifests
        .iter()
        .filter(|entry| {
            entry
                .platform
                .as_ref()
                .is_none_or(|its| platform.accepts(its))
        })
        .collect();
    // The very variant first, entries that do not say last; else as listed.
    fitting.sort_by_key(|entry| match &entry.platform {
        Some(its) if its == platform => 0,
        Some(_) => 1,
        None => 2,
    });
    let mut missing = None;
    for entry in fitting {
        match find_manifest(core, ns, &entry.descriptor, platform, depth + 1) {
            Err(err) if err.kind() == Kind::NotFound => missing = missing.or(Some(err)),
            found => return found,
        }
    }
    let nothing = || {
        Kind::NotFound.error(format!(
            "image {} has nothing for platform {platform}: not found",
            target.digest
        ))
    };
    Err(missing.unwrap_or_else(nothing))
}

fn read(core: &Core, ns: &Namespace, target: &Descriptor) -> Result<Document> {
    let bytes = core.content.read(ns, &target.digest, MAX_MANIFEST)?;
    if bytes.len() as u64 != target.size {
        return Err(Kind::InvalidArgument.error(format!(
            "{} has {} bytes, its descriptor says {}",
            target.digest,
            bytes.len(),
            target.size
        )));
    }
    Document::parse(&target.media_type, &bytes).map_err(|fault| {
        Kind::InvalidArgument
            .error(format!("manifest {}", target.digest))
            .because(fault)
    })
}

fn check_platform(
    config: &ImageConfiguration,
    manifest: &Descriptor,
    wanted: &Platform,
) -> Result<()> {
    let its = Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone().unwrap_or_default(),
    };
    let says_nothing = its.os.is_empty() && its.architecture.is_empty();
    if says_nothing || wanted.accepts(&its) {
        return Ok(());
    }
    Err(Kind::NotFound.error(format!(
        "image {} is for platform {its}, not {wanted}: not found",
        manifest.digest
    )))
}

#[cfg(test)]
mod tests;
