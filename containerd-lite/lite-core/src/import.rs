//! Import: images from a tar archive, as `docker save`, `skopeo` and others
//! write them.
//!
//! 1. [`bridge`] carries the bytes from the caller's task to a thread that may
//!    block.
//! 2. [`archive`] reads the tar, plain or compressed, in one pass: every file
//!    that may be a blob goes into the content store under a lease, the few
//!    documents that say what the archive is stay in memory.
//! 3. [`layout`] reads the index of an OCI image layout; else [`docker`] makes
//!    manifests from the `manifest.json` of a docker-archive.
//! 4. Each image is labelled for collection and, if it is for this machine,
//!    unpacked, which verifies its layers once more.
//! 5. Last of all the images get their names.
//!
//! An archive is a stranger's. Nothing in it names a file of this machine: its
//! paths are keys of a map. On failure only unnamed blobs are left, for
//! collection to remove.

mod archive;
mod bridge;
mod docker;
mod layout;

use tokio::io::AsyncRead;

use crate::blocking::blocking;
use crate::core::Core;
use crate::digest::Descriptor;
use crate::error::{Because as _, Kind, Result};
use crate::image;
use crate::images::Image;
use crate::namespace::Namespace;
use crate::pull::{Reporter, TransferLease, unpack_layers};
use crate::values::Platform;

/// An image found in an archive.
#[derive(Debug)]
struct Found {
    target: Descriptor,
    /// Full normalised references; none for an image without a name.
    names: Vec<String>,
}

/// Imports every image of `archive` (an OCI image layout or a docker-archive,
/// plain or compressed with gzip or zstd). An image that the archive does not
/// name is stored under the digest of its manifest.
///
/// # Errors
/// InvalidArgument for an archive that is neither, is malformed or lacks
/// something, naming the entry; DataLoss for bytes that do not have their
/// digest; ResourceExhausted for a full disk or beyond the limits.
pub async fn import(
    core: &Core,
    ns: &Namespace,
    archive: impl AsyncRead + Send + Unpin,
) -> Result<Vec<Image>> {
    let work = Box::pin(import_all(core, ns, archive));
    work.await.op(|| "load image archive".to_owned())
}

async fn import_all(
    core: &Core,
    ns: &Namespace,
    archive: impl AsyncRead + Send + Unpin,
) -> Result<Vec<Image>> {
    let lease = TransferLease::take(core, ns, "import").await?;
    let brought = bring(core, ns, lease.id(), archive).await;
    // Over before the outcome is told: a collection then finds what a failed
    // import has left.
    let ended = lease.end().await;
    let named = brought?;
    ended?;
    Ok(named)
}

/// Stores and unpacks what `archive` holds, and names it last.
async fn bring(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    archive: impl AsyncRead + Send + Unpin,
) -> Result<Vec<Image>> {
    let found = {
        let (core, ns, lease) = (core.clone(), ns.clone(), lease.to_owned());
        bridge::run(archive, move |input| {
            let contents = archive::read(&core.content, &ns, &lease, input)?;
            find_images(&core, &ns, &lease, &contents)
        })
        .await?
    };
    for image in &found {
        unpack_for_host(core, ns, &image.target).await?;
    }
    let (core, ns) = (core.clone(), ns.clone());
    blocking(move || put_all(&core, &ns, found)).await
}

/// The images of an archive whose blobs are stored, labelled for collection.
fn find_images(
    core: &Core,
    ns: &Namespace,
    lease: &str,
    contents: &archive::Contents,
) -> Result<Vec<Found>> {
    let found = if let Some(index) = contents.document("index.json") {
        layout::images(core, ns, contents, index)?
    } else if let Some(manifest) = contents.document("manifest.json") {
        docker::images(core, ns, lease, contents, manifest)?
    } else {
        return Err(Kind::InvalidArgument
            .error("no index.json (OCI image layout) and no manifest.json (docker save) in it"));
    };
    if found.is_empty() {
        return Err(Kind::InvalidArgument.error("no image in it"));
    }
    for image in &found {
        image::label_children(core, ns, &image.target)?;
    }
    Ok(found)
}

async fn unpack_for_host(core: &Core, ns: &Namespace, target: &Descriptor) -> Result<()> {
    let resolved = {
        let (core, ns, target) = (core.clone(), ns.clone(), target.clone());
        blocking(
            move || match image::resolve(&core, &ns, &target, &Platform::host()) {
                // For other machines, which is no fault.
                Err(err) if err.kind() == Kind::NotFound => Ok(None),
                resolved => resolved.map(Some),
            },
        )
        .await?
    };
    match resolved {
        Some(image) => unpack_layers(core, ns, &image, &Reporter::silent()).await,
        None => Ok(()),
    }
}

fn put_all(core: &Core, ns: &Namespace, found: Vec<Found>) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for Found { target, mut names } in found {
        if names.is_empty() {
            names.push(target.digest.to_string());
        }
        for name in names {
            images.push(core.images.put(ns, Image::new(name, target.clone()))?);
        }
    }
    Ok(images)
}
