//! Export: stored images as one tar archive that is both an OCI image layout and
//! a docker-archive, as `docker save` writes it; [`import`](crate::import) reads
//! it, and so do docker, podman, skopeo and containerd.
//!
//! 1. Every document below the images is read, and with it the list of blobs,
//!    each once.
//! 2. `blobs/sha256/<hex>` are written in the order of their digests, then
//!    `index.json` with the images' names, `manifest.json` with those that have
//!    something for this machine (or the platform asked for), and `oci-layout`.
//!
//! The same images give the same bytes.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Kind, Result};
use crate::image::{self, MediaKind, media_kind};
use crate::layers::tar::{Header, Kind as EntryKind, Writer};
use crate::namespace::Namespace;
use crate::values::Platform;

/// An image to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its index or manifest.
    pub target: Descriptor,
    /// Full normalised references; none for an image known by its digest only.
    pub names: Vec<String>,
}

/// Writes `images` to `output`: with a platform that one's manifests alone, else
/// all that is stored of them.
///
/// # Errors
/// NotFound if an image is not stored, or not for the platform; DataLoss if a
/// blob is damaged; those of `output`.
pub fn export(
    core: &Core,
    ns: &Namespace,
    images: &[Exported],
    platform: Option<&Platform>,
    output: impl Write,
) -> Result<()> {
    let mut archive = Archive {
        core,
        ns,
        writer: Writer::new(output),
    };
    let mut blobs = BTreeMap::new();
    let (mut index, mut manifests) = (Vec::new(), Vec::new());
    for image in images {
        let target = match platform {
            None => image.target.clone(),
            Some(wanted) => image::resolve(core, ns, &image.target, wanted)?.manifest,
        };
        collect(core, ns, &target, true, &mut blobs)?;
        index.extend(index_entries(&target, &image.names));
        let for_machine = platform.cloned().unwrap_or_else(Platform::host);
        match image::resolve(core, ns, &target, &for_machine) {
            Ok(resolved) => manifests.push(manifest_entry(&resolved, &image.names)),
            // For other machines: old programs cannot read it, and need not.
            Err(err) if err.kind() == Kind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    for (digest, size) in &blobs {
        archive.blob(digest, *size)?;
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": index,
    });
    archive.document("index.json", &index)?;
    if !manifests.is_empty() {
        archive.document("manifest.json", &Value::Array(manifests))?;
    }
    archive.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    let mut output = archive.writer.finish().op(write_context)?;
    output.flush().op(write_context)
}

fn write_context() -> String {
    "write image archive".to_owned()
}

/// Gathers the blobs below `at`. What an index lists and is not stored is left
/// out: it was pulled for one platform.
fn collect(
    core: &Core,
    ns: &Namespace,
    at: &Descriptor,
    is_target: bool,
    blobs: &mut BTreeMap<Digest, u64>,
) -> Result<()> {
    if blobs.contains_key(&at.digest) {
        return Ok(());
    }
    let info = match core.content.info(ns, &at.digest) {
        Err(err) if err.kind() == Kind::NotFound && !is_target => return Ok(()),
        info => info?,
    };
    blobs.insert(at.digest.clone(), info.size);
    let below = image::children(core, ns, at)?;
    let is_index = media_kind(&at.media_type) == MediaKind::Index;
    for child in below {
        // A manifest is whole or no use at all.
        collect(core, ns, &child, !is_index, blobs)?;
    }
    Ok(())
}

/// The entries of `index.json`: one for each name.
fn index_entries(target: &Descriptor, names: &[String]) -> Vec<Value> {
    let entry = |annotations: Value| {
        json!({
            "mediaType": target.media_type,
            "digest": target.digest.as_str(),
            "size": target.size,
            "annotations": annotations,
        })
    };
    if names.is_empty() {
        return vec![entry(json!({}))];
    }
    let named = names.iter().map(|name| {
        let tag = registry::Reference::parse(name)
            .ok()
            .and_then(|reference| reference.tag().map(str::to_owned))
            .unwrap_or_else(|| name.clone());
        entry(json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        }))
    });
    named.collect()
}

/// The entry of `manifest.json`, which knows one platform.
fn manifest_entry(image: &image::ResolvedImage, names: &[String]) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> = names
        .iter()
        .filter_map(|name| registry::Reference::parse(name).ok())
        .filter(|reference| reference.tag().is_some())
        .map(|reference| reference.familiar())
        .collect();
    json!({
        "Config": path(&image.config.digest),
        "RepoTags": tags,
        "Layers": image.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
    })
}

struct Archive<'a, W> {
    core: &'a Core,
    ns: &'a Namespace,
    writer: Writer<W>,
}

impl<W: Write> Archive<'_, W> {
    fn directory(&mut self, path: &str) -> Result<()> {
        let header = header(path, EntryKind::Directory, 0o755, 0);
        self.writer
            .append(&header, std::io::empty())
            .op(write_context)
    }

    fn document(&mut self, path: &str, content: &Value) -> Result<()> {
        let bytes = content.to_string().into_bytes();
        let size = bytes.len() as u64;
        let header = header(path, EntryKind::File, 0o644, size);
        self.writer
            .append(&header, bytes.as_slice())
            .op(write_context)
    }

    fn blob(&mut self, digest: &Digest, size: u64) -> Result<()> {
        let blob = self.core.content.open(self.ns, digest)?;
        let path = format!("blobs/sha256/{}", digest.hex());
        let header = header(&path, EntryKind::File, 0o444, size);
        let written = self.writer.append(&header, blob.file);
        written.op(|| format!("write blob {digest}"))
    }
}

fn header(path: &str, kind: EntryKind, mode: u32, size: u64) -> Header {
    Header {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        modified: (0, 0),
        accessed: None,
        target: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        size,
        segments: Vec::new(),
    }
}
