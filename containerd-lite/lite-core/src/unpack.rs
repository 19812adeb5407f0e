//! An image's layers into a chain of committed snapshots.
//!
//! For each layer, lowest first, unless the snapshot named by its chainID
//! exists:
//! 1. [`Snapshots::prepare`](crate::Snapshots::prepare) an active snapshot
//!    `extract-<unique> <chainID>` over the one below;
//! 2. [`layers::apply_blob`] into its upper directory, digests verified
//!    against manifest and config;
//! 3. [`layers::sync`], so that what the record will say is on the disk before
//!    the record is;
//! 4. commit it under the chainID.
//!
//! Whoever commits first wins; the loser drops its copy and goes on from the
//! winner's. A lease keeps collection away until the config's blob refers to
//! the topmost snapshot; when the process is killed, it ends at the next start.

use std::path::PathBuf;

use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Error, Kind, Result};
use crate::gc;
use crate::image::{GC_SNAPSHOT, ResolvedImage, chain_ids};
use crate::labels::Labels;
use crate::layers::{self, Limits, Target};
use crate::namespace::Namespace;
use crate::snapshots::{Snapshots, TARGET_LABEL};
use crate::time::unique;

/// A layer's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnpackProgress {
    /// Its snapshot exists already.
    Exists {
        /// The layer's blob.
        layer: Digest,
    },
    /// It is being applied.
    Started {
        /// The layer's blob.
        layer: Digest,
    },
    /// Its snapshot is committed.
    Done {
        /// The layer's blob.
        layer: Digest,
        /// Uncompressed, in bytes.
        size: u64,
    },
}

/// Unpacks what is missing of `image` and returns its chainID, the topmost
/// snapshot's name.
///
/// # Errors
/// InvalidArgument for an image without layers; DataLoss for a corrupt layer,
/// naming its digest; ResourceExhausted for a full disk.
pub fn unpack(
    core: &Core,
    ns: &Namespace,
    snapshotter: &str,
    image: &ResolvedImage,
    progress: &mut dyn FnMut(UnpackProgress),
) -> Result<Digest> {
    unpack_as_they_come(core, ns, snapshotter, image, &mut |_| Ok(()), progress)
}

/// The same while the blobs are still arriving: `arrived` waits for a layer's.
///
/// # Errors
/// As [`unpack`], and those of `arrived`.
pub(crate) fn unpack_as_they_come(
    core: &Core,
    ns: &Namespace,
    snapshotter: &str,
    image: &ResolvedImage,
    arrived: &mut dyn FnMut(&Descriptor) -> Result<()>,
    progress: &mut dyn FnMut(UnpackProgress),
) -> Result<Digest> {
    let Some(top) = image.chain_id.clone() else {
        return Err(
            Kind::InvalidArgument.error(format!("image {} has no layers", image.manifest.digest))
        );
    };
    let lease = format!("unpack-{}", unique());
    let labels = Labels::from([(gc::OF_PROCESS.to_owned(), "unpack".to_owned())]);
    core.leases.create(ns, &lease, &labels)?;
    let unpacking = Unpacking {
        core,
        ns,
        snapshotter,
        snapshots: core.snapshots.leased(Some(&lease)),
    };
    let unpacked = unpacking.all(image, arrived, progress);
    let ended = core.leases.delete(ns, &lease);
    unpacked?;
    ended?;
    Ok(top)
}

struct Unpacking<'a> {
    core: &'a Core,
    ns: &'a Namespace,
    snapshotter: &'a str,
    snapshots: Snapshots,
}

/// One layer to unpack.
struct Step<'a> {
    layer: &'a Descriptor,
    diff_id: &'a Digest,
    chain_id: &'a Digest,
    /// The chainID below; empty for the first.
    parent: &'a str,
    /// The directories of the layers below, nearest first.
    below: &'a [PathBuf],
}

impl Unpacking<'_> {
    fn all(
        &self,
        image: &ResolvedImage,
        arrived: &mut dyn FnMut(&Descriptor) -> Result<()>,
        progress: &mut dyn FnMut(UnpackProgress),
    ) -> Result<()> {
        let chain = chain_ids(&image.diff_ids);
        let mut parent = "";
        for ((layer, diff_id), chain_id) in image.layers.iter().zip(&image.diff_ids).zip(&chain) {
            if self.exists(chain_id)? {
                progress(UnpackProgress::Exists {
                    layer: layer.digest.clone(),
                });
            } else {
                arrived(layer)?;
                progress(UnpackProgress::Started {
                    layer: layer.digest.clone(),
                });
                let below = self
                    .snapshots
                    .layer_dirs(self.ns, self.snapshotter, parent)?;
                let size = self.one(&Step {
                    layer,
                    diff_id,
                    chain_id,
                    parent,
                    below: &below,
                })?;
                progress(UnpackProgress::Done {
                    layer: layer.digest.clone(),
                    size,
                });
            }
            parent = chain_id.as_str();
        }
        let refers = Labels::from([(
            format!("{GC_SNAPSHOT}{}", self.snapshotter),
            parent.to_owned(),
        )]);
        self.core
            .content
            .add_labels(self.ns, &image.config.digest, &refers)
            .map(|_| ())
    }

    fn exists(&self, chain_id: &Digest) -> Result<bool> {
        match self
            .snapshots
            .claim(self.ns, self.snapshotter, chain_id.as_str())
        {
            Err(err) if err.kind() == Kind::NotFound => Ok(false),
            found => found.map(|_| true),
        }
    }

    fn one(&self, step: &Step<'_>) -> Result<u64> {
        let key = format!("extract-{} {}", unique(), step.chain_id);
        let labels = Labels::from([(TARGET_LABEL.to_owned(), step.chain_id.to_string())]);
        match self
            .snapshots
            .prepare(self.ns, self.snapshotter, &key, step.parent, &labels)
        {
            // Somebody else committed it since we looked.
            Err(err) if err.kind() == Kind::AlreadyExists => return Ok(0),
            prepared => prepared?,
        };
        let committed = self.fill(step, &key).and_then(|size| {
            self.snapshots.commit(
                self.ns,
                self.snapshotter,
                step.chain_id.as_str(),
                &key,
                &labels,
            )?;
            Ok(size)
        });
        match committed {
            Ok(size) => Ok(size),
            Err(err) => {
                self.drop_partial(&key);
                if err.kind() == Kind::AlreadyExists && self.exists(step.chain_id)? {
                    Ok(0)
                } else {
                    Err(err)
                }
            }
        }
    }

    fn fill(&self, step: &Step<'_>, key: &str) -> Result<u64> {
        let dir = self.snapshots.upper_dir(self.ns, self.snapshotter, key)?;
        let target = Target {
            dir: &dir,
            below: step.below,
        };
        let applied = layers::apply_blob(
            &self.core.content,
            self.ns,
            step.layer,
            target,
            Limits::default(),
        )?;
        if applied.diff_id != *step.diff_id {
            return Err(Kind::DataLoss.error(format!(
                "layer {} is not the image's: uncompressed it has digest {}, its config says {}",
                step.layer.digest, applied.diff_id, step.diff_id
            )));
        }
        layers::sync(&dir)?;
        Ok(applied.size)
    }

    fn drop_partial(&self, key: &str) {
        // The space first: with a full disk the database cannot be written.
        if let Ok(dir) = self.snapshots.upper_dir(self.ns, self.snapshotter, key)
            && let Err(err) = empty(&dir)
        {
            tracing::warn!(error = %err, key, "cannot empty a partial snapshot");
        }
        if let Err(err) = self.snapshots.remove(self.ns, self.snapshotter, key) {
            tracing::warn!(error = %crate::error::chain(&err as &Error), key, "cannot remove a partial snapshot");
        }
    }
}

/// Removes everything in `dir`.
fn empty(dir: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
