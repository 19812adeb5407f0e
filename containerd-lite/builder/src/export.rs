//! From the result of a stage to an image: config and manifest in the content store, and names for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lite_core::image::{GC_SNAPSHOT, label_children};
use lite_core::{Core, Descriptor, Digest, Expected, Image, Kind, Labels, Namespace, Result};
use serde_json::{Value, json};

use crate::SNAPSHOTTER;
use crate::cache::Layer;
use crate::config::ImageConfig;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The digest of its config: Docker's image id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// Stores `image`, whose layers are `layers`, under `names`; without one it is kept under its manifest's digest.
///
/// # Errors
/// Those of the stores.
pub fn export(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    mut image: ImageConfig,
    layers: &[Layer],
    names: &[String],
) -> Result<Exported> {
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let config = put(core, ns, lease, CONFIG, &encode(&image)?)?;
    let described = |descriptor: &Descriptor| {
        json!({
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest.as_str(),
            "size": descriptor.size,
        })
    };
    let mut blobs: Vec<Value> = Vec::new();
    for layer in layers {
        blobs.push(described(&layer.blob()?));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(&config),
        "layers": blobs,
    });
    let manifest = put(core, ns, lease, MANIFEST, &encode(&manifest)?)?;
    label_children(core, ns, &manifest)?;
    if let Some(top) = layers.last() {
        // As after an unpack: the config keeps the topmost snapshot, and that those below it.
        let label = format!("{GC_SNAPSHOT}{SNAPSHOTTER}");
        let labels = Labels::from([(label, top.chain_id.clone())]);
        core.content.add_labels(ns, &config.digest, &labels)?;
    }
    let unnamed = [manifest.digest.to_string()];
    for name in if names.is_empty() { &unnamed } else { names } {
        core.images
            .put(ns, Image::new(name.clone(), manifest.clone()))?;
    }
    Ok(Exported {
        id: config.digest,
        manifest,
    })
}

fn encode(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|err| {
        Kind::Internal
            .error("encode an image's document")
            .because(err)
    })
}

fn put(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<Descriptor> {
    let target = Descriptor::of(media_type, bytes);
    let reference = format!("{lease}-{}", target.digest);
    let expected = Expected::from(&target);
    match core.content.ingest(ns, Some(lease), &reference, expected) {
        Err(err) if err.kind() == Kind::AlreadyExists => {}
        Err(err) => return Err(err),
        Ok(mut ingest) => {
            // From another tenant it may be all there.
            if ingest.offset() != target.size {
                ingest.write(bytes)?;
            }
            match ingest.commit(Some(target.size), Some(&target.digest), &Labels::new()) {
                Err(err) if err.kind() != Kind::AlreadyExists => return Err(err),
                _ => {}
            }
        }
    }
    Ok(target)
}

/// Seconds since 1970 as RFC 3339, in UTC.
#[must_use]
pub fn rfc3339(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    lite_core::to_rfc3339(SystemTime::checked_add(&UNIX_EPOCH, since).unwrap_or(UNIX_EPOCH))
}
