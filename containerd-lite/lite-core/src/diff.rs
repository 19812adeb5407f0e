//! Diff: the changes between two file systems as a layer in the content store.
//!
//! What a caller needs:
//! - [`of_snapshot`] for a snapshot against its parent: what `commit` and a build
//!   step need, and [`snapshot`] for another packing. Nothing is mounted, and only what changed is looked into.
//! - [`mounts`] for any two stacks of directories, named by mounts as
//!   snapshotters describe them (`bind`, `overlay`).
//!
//! All give what was [`Made`]: the blob, and its diffID for the image's
//! configuration. In order:
//! 1. [`layers::compare`] walks both and writes the archive.
//! 2. Its bytes are digested, compressed as [`Options::media_type`] says, and
//!    written into an ingest.
//! 3. The ingest is committed, labelled with the diffID as containerd does.
//!
//! The same changes give the same bytes.

use std::io::{self, Write};
use std::path::PathBuf;

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::content::{ContentStore, Ingest};
use crate::core::Core;
use crate::digest::{Descriptor, Digest};
use crate::error::{Because as _, Error, Kind, Result};
use crate::labels::Labels;
use crate::layers;
use crate::namespace::Namespace;
use crate::values::Mount;

pub use crate::layers::{Change, ChangeKind};

/// The media type of what is made where nothing else is asked for.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Under which a compressed blob names the digest of its bytes uncompressed.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// gzip's level: fast, and four fifths of what the slowest saves.
const GZIP: Compression = Compression::new(4);
/// zstd's.
const ZSTD: i32 = 3;

/// What kind of layer is made, and under whose name.
#[derive(Debug, Clone)]
pub struct Options {
    /// `application/vnd.oci.image.layer.v1.tar`, with `+gzip` or `+zstd`, or
    /// Docker's `application/vnd.docker.image.rootfs.diff.tar.gzip`.
    pub media_type: String,
    /// The ingest's; made up when empty.
    pub reference: String,
    /// The blob's.
    pub labels: Labels,
    /// No time in the layer is later than this many seconds since 1970.
    pub latest: Option<i64>,
    /// Absolute paths that a runtime made to mount on: left out, with the
    /// directories above them, where they are new and nothing is in them.
    pub stubs: Vec<String>,
}

impl Default for Options {
    /// OCI's layer with gzip, which every registry and client knows.
    fn default() -> Self {
        Self {
            media_type: LAYER.to_owned(),
            reference: String::new(),
            labels: Labels::new(),
            latest: None,
            stubs: Vec::new(),
        }
    }
}

/// A layer that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The digest of its uncompressed bytes, for `rootfs.diff_ids`.
    pub diff_id: Digest,
    /// Its blob.
    pub blob: Descriptor,
    /// Nothing changed: the layer holds no entry.
    pub is_empty: bool,
}

/// Makes a layer of what snapshot `key` has that its parent has not, with
/// gzip, held by `lease`.
///
/// # Errors
/// NotFound; those of [`mounts`].
pub fn of_snapshot(
    core: &Core,
    ns: &Namespace,
    lease: Option<&str>,
    snapshotter: &str,
    key: &str,
) -> Result<Made> {
    snapshot(core, ns, lease, snapshotter, key, &Options::default())
}

/// What snapshot `key` has that its parent has not, as a list of paths without
/// the empty ones among `stubs` (see [`Options::stubs`]).
///
/// # Errors
/// NotFound; those of the file system.
pub fn changes(
    core: &Core,
    ns: &Namespace,
    snapshotter: &str,
    key: &str,
    stubs: &[String],
) -> Result<Vec<Change>> {
    let (lower, upper) = core.snapshots.stack(ns, snapshotter, key)?;
    let rules = layers::Rules {
        stubs,
        ..layers::Rules::default()
    };
    layers::list(&lower, &upper, rules).op(|| format!("compare snapshot {key:?} with its parent"))
}

/// Writes the whole file system of snapshot `key` as a plain archive.
///
/// # Errors
/// NotFound; those of the file system and of `output`.
pub fn archive(
    core: &Core,
    ns: &Namespace,
    snapshotter: &str,
    key: &str,
    output: impl Write,
) -> Result<()> {
    let (_, upper) = core.snapshots.stack(ns, snapshotter, key)?;
    let rules = layers::Rules {
        plain: true,
        ..layers::Rules::default()
    };
    let written = layers::compare(&[], &upper, rules, output);
    written.map(drop).op(|| format!("archive snapshot {key:?}"))
}

/// The same as `options` say.
///
/// # Errors
/// NotFound; those of [`mounts`].
pub fn snapshot(
    core: &Core,
    ns: &Namespace,
    lease: Option<&str>,
    snapshotter: &str,
    key: &str,
    options: &Options,
) -> Result<Made> {
    let (lower, upper) = core.snapshots.stack(ns, snapshotter, key)?;
    between(&core.content, ns, lease, &lower, &upper, options)
        .op(|| format!("make a layer of snapshot {key:?}"))
}

/// Makes a layer of what the file system of `upper` has that the one of `lower`
/// has not; without any mount, that is an empty one.
///
/// # Errors
/// InvalidArgument for a media type or mount that is not offered, or a name
/// that no layer can hold; FailedPrecondition for files in a form that only
/// overlayfs can read; ResourceExhausted for a full disk.
pub fn mounts(
    content: &ContentStore,
    ns: &Namespace,
    lease: Option<&str>,
    lower: &[Mount],
    upper: &[Mount],
    options: &Options,
) -> Result<Made> {
    let (lower, upper) = (directories(lower)?, directories(upper)?);
    between(content, ns, lease, &lower, &upper, options).op(|| "diff of two mounts".to_owned())
}

/// The directories behind `mounts`, nearest first.
fn directories(mounts: &[Mount]) -> Result<Vec<PathBuf>> {
    let [mount] = mounts else {
        return match mounts {
            [] => Ok(Vec::new()),
            more => Err(Kind::InvalidArgument.error(format!(
                "diff of {} mounts, one is expected: invalid argument",
                more.len()
            ))),
        };
    };
    match mount.kind.as_str() {
        "bind" | "rbind" => Ok(vec![PathBuf::from(&mount.source)]),
        "overlay" => {
            let option = |key: &str| {
                mount
                    .options
                    .iter()
                    .find_map(|option| option.strip_prefix(key))
            };
            let lower = option("lowerdir=").unwrap_or_default().split(':');
            let all = option("upperdir=").into_iter().chain(lower);
            Ok(all
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
                .collect())
        }
        other => Err(Kind::InvalidArgument.error(format!(
            "diff of a mount of type {other:?}: invalid argument"
        ))),
    }
}

fn between(
    content: &ContentStore,
    ns: &Namespace,
    lease: Option<&str>,
    lower: &[PathBuf],
    upper: &[PathBuf],
    options: &Options,
) -> Result<Made> {
    let packing = Packing::of(&options.media_type)?;
    let made_up = format!("diff-{}", crate::time::unique());
    let reference = match options.reference.as_str() {
        "" => made_up.as_str(),
        given => given,
    };
    let mut ingest = content.ingest(ns, lease, reference, None)?;
    // What an earlier attempt left is of other files.
    ingest.truncate(0)?;
    let rules = layers::Rules {
        latest: options.latest,
        stubs: &options.stubs,
        ..layers::Rules::default()
    };
    let packed = pack(&mut ingest, packing, lower, upper, rules);
    let (diff_id, is_empty) = match packed {
        Ok(packed) => packed,
        Err(err) => {
            if let Err(also) = ingest.discard() {
                tracing::warn!(error = %crate::error::chain(&also), "cannot drop a broken layer");
            }
            return Err(err);
        }
    };
    let (digest, size) = (ingest.digest(), ingest.offset());
    let mut labels = options.labels.clone();
    if digest != diff_id {
        labels.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
    }
    match ingest.commit(Some(size), Some(&digest), &labels) {
        Ok(_) => {}
        Err(err) if err.kind() == Kind::AlreadyExists => {
            if !labels.is_empty() {
                content.add_labels(ns, &digest, &labels)?;
            }
        }
        Err(err) => return Err(err),
    }
    Ok(Made {
        blob: Descriptor {
            media_type: options.media_type.clone(),
            digest,
            size,
            annotations: Default::default(),
        },
        diff_id,
        is_empty,
    })
}

/// How a media type wants its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(media_type: &str) -> Result<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Self::Plain),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Self::Zstd),
            other => Err(Kind::Unimplemented.error(format!(
                "layers of media type {other:?} are not made: not implemented"
            ))),
        }
    }

    fn begin(self, sink: Sink<'_>) -> io::Result<Packer<'_>> {
        Ok(match self {
            Self::Plain => Packer::Plain(sink),
            Self::Gzip => Packer::Gzip(GzBuilder::new().mtime(0).write(sink, GZIP)),
            Self::Zstd => Packer::Zstd(zstd::Encoder::new(sink, ZSTD)?),
        })
    }
}

/// Writes the archive into `ingest`; returns the digest of its bytes before
/// they were compressed, and whether it has no entry.
fn pack(
    ingest: &mut Ingest,
    packing: Packing,
    lower: &[PathBuf],
    upper: &[PathBuf],
    rules: layers::Rules<'_>,
) -> Result<(Digest, bool)> {
    let context = || "write layer".to_owned();
    let mut fault = None;
    let (compared, diff_id, finished) = {
        let sink = Sink {
            ingest,
            fault: &mut fault,
        };
        let mut output = Digesting {
            inner: packing.begin(sink).op(context)?,
            hasher: Sha256::new(),
        };
        let compared = layers::compare(lower, upper, rules, &mut output);
        let Digesting { inner, hasher } = output;
        let diff_id = Digest::from_hash(&hasher.finalize());
        (compared, diff_id, inner.finish())
    };
    // The store's own error says more than that a write did not work.
    if let Some(fault) = fault {
        return Err(fault);
    }
    let entries = compared?;
    finished.op(context)?;
    Ok((diff_id, entries == 0))
}

/// The compressor, if there is one, before the ingest.
enum Packer<'a> {
    Plain(Sink<'a>),
    Gzip(flate2::write::GzEncoder<Sink<'a>>),
    Zstd(zstd::Encoder<'static, Sink<'a>>),
}

impl Packer<'_> {
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(encoder) => encoder.finish().map(drop),
            Self::Zstd(encoder) => encoder.finish().map(drop),
        }
    }
}

impl Write for Packer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(sink) => sink.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ingest as a writer that keeps its error.
struct Sink<'a> {
    ingest: &'a mut Ingest,
    fault: &'a mut Option<Error>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let broken = || io::Error::other("the content store does not take it");
        if self.fault.is_some() {
            return Err(broken());
        }
        match self.ingest.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(err) => {
                *self.fault = Some(err);
                Err(broken())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digests what is written through it.
struct Digesting<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
