//! `docker save` archives: `manifest.json` lists configurations and layers by
//! their names in the archive, and there is no manifest; one is made here.
//!
//! Older archives keep a layer as `<id>/layer.tar` and link equal ones to each
//! other; newer ones keep everything as `blobs/sha256/<hex>`. The file
//! `repositories`, older still, says nothing that is not in `manifest.json`.

use registry::Reference;
use serde::Deserialize;
use serde_json::json;

use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Kind, Result};
use crate::labels::Labels;
use crate::namespace::Namespace;

use super::Found;
use super::archive::{Compression, Contents, StoredFile};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// The largest configuration.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// What is needed of a configuration.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// The images that `manifest.json` lists, each with a manifest that is stored
/// under `lease`.
pub(super) fn images(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    contents: &Contents,
    manifest: &[u8],
) -> Result<Vec<Found>> {
    let entries: Vec<Entry> = serde_json::from_slice(manifest).map_err(|err| {
        Kind::InvalidArgument
            .error("entry \"manifest.json\" is malformed")
            .because(err)
    })?;
    entries
        .into_iter()
        .map(|entry| image(core, ns, lease, contents, entry))
        .collect()
}

fn image(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    contents: &Contents,
    entry: Entry,
) -> Result<Found> {
    let names = entry.repo_tags.unwrap_or_default().into_iter().map(|name| {
        Reference::parse(&name)
            .map(|reference| reference.to_string())
            .map_err(|err| {
                Kind::InvalidArgument
                    .error("RepoTags in entry \"manifest.json\"")
                    .because(err)
            })
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    let config = file(contents, &entry.config)?;
    let layers = entry.layers.unwrap_or_default();
    let diff_ids = diff_ids(core, ns, &entry.config, config)?;
    if diff_ids.len() != layers.len() {
        return Err(Kind::InvalidArgument.error(format!(
            "entry {:?} has {} diff_ids, entry \"manifest.json\" {} layers for it",
            entry.config,
            diff_ids.len(),
            layers.len()
        )));
    }
    let mut descriptors = Vec::with_capacity(layers.len());
    for (name, diff_id) in layers.iter().zip(&diff_ids) {
        descriptors.push(layer(name, file(contents, name)?, diff_id)?);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": descriptors,
    });
    let target = store(core, ns, lease, manifest.to_string().as_bytes())?;
    Ok(Found { target, names })
}

fn file<'a>(contents: &'a Contents, name: &str) -> Result<&'a StoredFile> {
    contents.file(name).ok_or_else(|| {
        Kind::InvalidArgument.error(format!(
            "entry {name:?} is missing, which entry \"manifest.json\" refers to"
        ))
    })
}

fn diff_ids(core: &Core, ns: &Namespace, name: &str, file: &StoredFile) -> Result<Vec<Digest>> {
    let bytes = core
        .content
        .read(ns, &file.digest, MAX_CONFIG_BYTES)
        .op(|| format!("entry {name:?}"))?;
    let config: Config = serde_json::from_slice(&bytes).map_err(|err| {
        Kind::InvalidArgument
            .error(format!("entry {name:?} is malformed"))
            .because(err)
    })?;
    let parsed = config
        .rootfs
        .diff_ids
        .iter()
        .map(|text| Digest::parse(text));
    parsed
        .collect::<Result<_>>()
        .op(|| format!("rootfs.diff_ids of entry {name:?}"))
}

/// A layer's descriptor. A compressed one is held against its diffID when it
/// is unpacked.
fn layer(name: &str, file: &StoredFile, diff_id: &Digest) -> Result<serde_json::Value> {
    let suffix = match file.compression {
        Compression::Plain if file.digest != *diff_id => {
            return Err(Kind::DataLoss.error(format!(
                "entry {name:?} is corrupt: its bytes have digest {}, expected {diff_id}",
                file.digest
            )));
        }
        Compression::Plain => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    Ok(descriptor(&format!("{LAYER_TYPE}{suffix}"), file))
}

fn descriptor(media_type: &str, file: &StoredFile) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": file.digest.as_str(), "size": file.size})
}

fn store(core: &Core, ns: &Namespace, lease: &str, bytes: &[u8]) -> Result<Descriptor> {
    let target = Descriptor::of(MANIFEST_TYPE, bytes);
    let reference = format!("{lease}-manifest-{}", target.digest);
    match core
        .content
        .ingest(ns, Some(lease), &reference, Some(&target))
    {
        Err(err) if err.kind() == Kind::AlreadyExists => return Ok(target),
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
