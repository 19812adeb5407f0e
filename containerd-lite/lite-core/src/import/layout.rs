//! The index of an OCI image layout: which images there are, and their names.
//!
//! Source: image-spec `image-layout.md` and `annotations.md`; the annotation
//! with which containerd and Docker give a full name.

use std::collections::HashSet;

use registry::Reference;

use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Kind, Result};
use crate::image::{self, Document, MediaKind, media_kind};
use crate::namespace::Namespace;

use super::Found;
use super::archive::{Contents, blob_name};

/// A full name.
const FULL_NAME: &str = "io.containerd.image.name";
/// A name by the image-spec: `busybox:1`, or a tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes in indexes deeper than this are not real.
const MAX_DEPTH: usize = 4;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// The images that `index.json` lists. What each needs must be stored.
pub(super) fn images(
    core: &Core,
    ns: &Namespace,
    contents: &Contents,
    index: &[u8],
) -> Result<Vec<Found>> {
    let document = Document::parse(INDEX_TYPE, index).map_err(|fault| {
        Kind::InvalidArgument
            .error("entry \"index.json\" is malformed")
            .because(fault)
    })?;
    let Document::Index { manifests } = document else {
        return Err(Kind::InvalidArgument.error("entry \"index.json\" is not an index"));
    };
    let mut found: Vec<Found> = Vec::new();
    for entry in manifests {
        let mut target = entry.descriptor;
        if !matches!(
            media_kind(&target.media_type),
            MediaKind::Index | MediaKind::Manifest
        ) {
            continue;
        }
        check_whole(core, ns, contents, &target, "index.json", 0)?;
        let name = name_of(&target)?;
        // The name becomes the record's; the target is the same whoever names it.
        target.annotations.clear();
        match found
            .iter_mut()
            .find(|other| other.target.digest == target.digest)
        {
            Some(other) => other.names.extend(name),
            None => found.push(Found {
                target,
                names: name.into_iter().collect(),
            }),
        }
    }
    for image in &mut found {
        let mut seen = HashSet::new();
        image.names.retain(|name| seen.insert(name.clone()));
    }
    Ok(found)
}

fn name_of(target: &Descriptor) -> Result<Option<String>> {
    let named = [FULL_NAME, REF_NAME]
        .into_iter()
        .find_map(|key| target.annotations.get(key).map(|name| (key, name)));
    let Some((key, name)) = named else {
        return Ok(None);
    };
    let reference = Reference::parse(name).map_err(|err| {
        Kind::InvalidArgument
            .error(format!(
                "annotation {key} of {} in entry \"index.json\"",
                target.digest
            ))
            .because(err)
    })?;
    Ok(Some(reference.to_string()))
}

/// Checks that everything a manifest refers to is stored, and of an index's
/// manifests at least one: archives leave out the platforms nobody asked for.
fn check_whole(
    core: &Core,
    ns: &Namespace,
    contents: &Contents,
    target: &Descriptor,
    parent: &str,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(
            Kind::InvalidArgument.error(format!("index {} is nested too deep", target.digest))
        );
    }
    check_stored(core, ns, contents, target, parent)?;
    let own_name = blob_name(&target.digest);
    let children = image::children(core, ns, target)
        .map_err(|err| err.within(format!("entry {own_name:?}")))?;
    if media_kind(&target.media_type) == MediaKind::Manifest {
        return children
            .iter()
            .try_for_each(|child| check_stored(core, ns, contents, child, &own_name));
    }
    let mut present = 0;
    for child in &children {
        if is_stored(core, ns, contents, &child.digest)? {
            check_whole(core, ns, contents, child, &own_name, depth + 1)?;
            present += 1;
        }
    }
    match children.first() {
        Some(first) if present == 0 => Err(missing(&first.digest, &own_name)),
        _ => Ok(()),
    }
}

fn check_stored(
    core: &Core,
    ns: &Namespace,
    contents: &Contents,
    wanted: &Descriptor,
    parent: &str,
) -> Result<()> {
    if !is_stored(core, ns, contents, &wanted.digest)? {
        return Err(missing(&wanted.digest, parent));
    }
    let size = core.content.info(ns, &wanted.digest)?.size;
    if size != wanted.size {
        return Err(Kind::InvalidArgument.error(format!(
            "entry {:?} has {size} bytes, entry {parent:?} says {}",
            blob_name(&wanted.digest),
            wanted.size
        )));
    }
    Ok(())
}

/// In the archive, or here from before.
fn is_stored(core: &Core, ns: &Namespace, contents: &Contents, digest: &Digest) -> Result<bool> {
    if contents
        .file(&blob_name(digest))
        .is_some_and(|file| file.digest == *digest)
    {
        return Ok(true);
    }
    match core.content.info(ns, digest) {
        Ok(_) => Ok(true),
        Err(err) if err.kind() == Kind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

fn missing(digest: &Digest, parent: &str) -> crate::Error {
    Kind::InvalidArgument.error(format!(
        "entry {:?} is missing, which entry {parent:?} refers to",
        blob_name(digest)
    ))
}
