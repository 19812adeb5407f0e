//! Layers: tar streams into directories.
//!
//! 1. `stream` decompresses on its own thread and digests what goes in and
//!    what comes out.
//! 2. `tar` reads the archive.
//! 3. `untar` writes its entries below one directory's descriptor, whiteouts
//!    in overlay's form. Nothing an archive says can reach outside.
//! 4. `compare` goes the other way: what changed between two directories, as an
//!    archive that `tar::writer` writes.

mod compare;
mod stream;
pub(crate) mod tar;
mod untar;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::content::ContentStore;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Error, Kind, Result};
use crate::namespace::Namespace;

pub use compare::{Change, ChangeKind};
pub(crate) use compare::{Rules, compare, list, pack_directory, pack_entry};

/// What a layer may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of all files together, and of the uncompressed stream.
    pub bytes: u64,
}

impl Default for Limits {
    /// Ten times the largest layers in use: against archives that only mean to
    /// fill the disk.
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 1 << 40,
        }
    }
}

/// Where a layer goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The directory that becomes the layer: overlay's upper one.
    pub dir: &'a Path,
    /// The layers below, nearest first. With any, whiteouts are written in
    /// overlay's form; with none they remove what is there.
    pub below: &'a [PathBuf],
}

/// A layer that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of the stream as stored.
    pub digest: Digest,
    /// Of the uncompressed stream: the diffID.
    pub diff_id: Digest,
    /// Uncompressed, in bytes.
    pub size: u64,
}

/// Applies the tar stream `input` (plain, gzip or zstd, told by its first
/// bytes) to `target`. On failure the directory holds a part of the layer.
///
/// # Errors
/// DataLoss for a damaged stream, InvalidArgument for an entry that would leave
/// the directory, ResourceExhausted beyond `limits` or with a full disk.
pub fn apply(input: impl Read + Send, target: Target<'_>, limits: Limits) -> Result<Applied> {
    stream::digested(input, limits.bytes, |mut plain| {
        untar::untar(&mut plain, target, limits)?;
        // Padding and whatever else follows the archive is part of the digest.
        io::copy(&mut plain, &mut io::sink()).map_err(stream_fault)?;
        Ok(())
    })
}

/// Unpacks the archive `input` into `dir`, as no layer: see
/// [`files::unpack`](crate::files::unpack).
pub(crate) fn unpack(input: impl Read + Send, dir: &Path, limits: Limits) -> Result<()> {
    let target = Target { dir, below: &[] };
    let unpacked = stream::digested(input, limits.bytes, |mut plain| {
        untar::files(&mut plain, target, limits)?;
        io::copy(&mut plain, &mut io::sink()).map_err(stream_fault)?;
        Ok(())
    });
    unpacked.map(drop)
}

/// Applies a stored layer and verifies its digest.
///
/// # Errors
/// As [`apply`], naming the layer's digest; NotFound if it is not stored.
pub fn apply_blob(
    content: &ContentStore,
    ns: &Namespace,
    layer: &Descriptor,
    target: Target<'_>,
    limits: Limits,
) -> Result<Applied> {
    let blob = content.open(ns, &layer.digest)?;
    let applied = apply(blob.file, target, limits)
        .map_err(|err| err.within(format!("apply layer {}", layer.digest)))?;
    if applied.digest != layer.digest {
        return Err(Kind::DataLoss.error(format!(
            "layer {} is damaged: its bytes have digest {}",
            layer.digest, applied.digest
        )));
    }
    Ok(applied)
}

/// Writes all of the file system that holds `dir` to its device.
///
/// # Errors
/// Those of the file system: a write that failed before may be told here.
pub fn sync(dir: &Path) -> Result<()> {
    let context = || format!("sync the file system of {}", dir.display());
    let opened = std::fs::File::open(dir).op(context)?;
    rustix::fs::syncfs(&opened)
        .map_err(io::Error::from)
        .op(context)
}

/// An error of the stream: what it holds is damaged unless the system says else.
fn stream_fault(err: io::Error) -> Error {
    match err.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            Kind::DataLoss.error("corrupt layer").because(err)
        }
        io::ErrorKind::StorageFull => Kind::ResourceExhausted.error("read layer").because(err),
        _ if err.raw_os_error().is_none() => Kind::DataLoss.error("corrupt layer").because(err),
        _ => Error::io("read layer", err),
    }
}

#[cfg(test)]
pub(crate) mod archive;
#[cfg(test)]
mod tests;
