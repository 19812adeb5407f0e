//! From the files of a snapshot to a layer: the way back from [`crate::layers`].
//!
//! 1. [`of_snapshot`] walks what an active snapshot holds itself, names in order.
//! 2. Overlay's whiteouts and opaque directories become OCI's; a file with several names becomes one file and hard links.
//! 3. The tar goes through one hash into gzip and from there into the content store, so that nothing of it is held in memory.
//!
//! The same files make the same layer, bit by bit: there is no name of a user, no time of access, and one order in it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::content::Ingest;
use crate::core::Core;
use crate::digest::{Descriptor, Digest, Expected};
use crate::error::{Because as _, Kind, Result};
use crate::labels::Labels;
use crate::layers::tar::{self, Header};
use crate::namespace::Namespace;

/// The media type of what is made here.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The label with a compressed blob's diffID, as containerd sets it.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Fast, and four fifths of what the slowest level saves.
const LEVEL: u32 = 4;

/// A layer that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// The compressed blob.
    pub blob: Descriptor,
}

/// Makes a layer of what the active snapshot `key` holds itself, held by `lease`.
///
/// # Errors
/// NotFound; FailedPrecondition for a snapshot that is not active, and for files that overlayfs has written in a form that
/// only it can read; those of the stores.
pub fn of_snapshot(
    core: &Core,
    ns: &Namespace,
    lease: Option<&str>,
    snapshotter: &str,
    key: &str,
) -> Result<Made> {
    let upper = core.snapshots.upper_dir(ns, snapshotter, key)?;
    let reference = format!("diff-{}-{key}", std::process::id());
    let ingest = core
        .content
        .ingest(ns, lease, &reference, Expected::default())?;
    write(ingest, &upper).op(|| format!("make a layer of snapshot {key:?}"))
}

fn write(ingest: Ingest, upper: &Path) -> Result<Made> {
    let mut into = Into {
        ingest,
        failed: None,
    };
    match archive(upper, &mut into) {
        Ok(diff_id) => commit(into.ingest, diff_id),
        Err(err) => {
            let failed = into.failed.take();
            // The first error is the one to report.
            let _dropped = into.ingest.discard();
            Err(failed.unwrap_or(err))
        }
    }
}

fn commit(mut ingest: Ingest, diff_id: Digest) -> Result<Made> {
    let (digest, size) = (ingest.digest(), ingest.offset());
    let labels = Labels::from([(UNCOMPRESSED.to_owned(), diff_id.to_string())]);
    match ingest.commit(None, None, &labels) {
        // The same files made the same layer before.
        Err(err) if err.kind() == Kind::AlreadyExists => {}
        committed => drop(committed?),
    }
    let blob = Descriptor {
        media_type: LAYER.to_owned(),
        digest,
        size,
        annotations: std::collections::BTreeMap::new(),
    };
    Ok(Made { diff_id, blob })
}

fn archive(upper: &Path, into: &mut Into) -> Result<Digest> {
    let zip = GzBuilder::new().write(into, Compression::new(LEVEL));
    let hashed = Hashed {
        hasher: Sha256::new(),
        output: io::BufWriter::with_capacity(256 << 10, zip),
    };
    let mut walk = Walk {
        writer: tar::Writer::new(hashed),
        links: HashMap::new(),
    };
    walk.directory(upper, &mut Vec::new())?;
    let context = || "finish the archive".to_owned();
    let hashed = walk.writer.finish().op(context)?;
    let zip = hashed
        .output
        .into_inner()
        .map_err(io::IntoInnerError::into_error);
    zip.and_then(flate2::write::GzEncoder::finish).op(context)?;
    Ok(Digest::from_hash(&hashed.hasher.finalize()))
}

/// The store as something to write to; its own error is kept for the report.
struct Into {
    ingest: Ingest,
    failed: Option<crate::error::Error>,
}

impl Write for Into {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ingest.write(bytes).map_err(|err| {
            self.failed = Some(err);
            io::Error::other("the content store refused")
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashed<W> {
    hasher: Sha256,
    output: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

struct Walk<W> {
    writer: tar::Writer<W>,
    /// Files with several names that have been written: their first name.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Walk<W> {
    /// Writes everything in `dir`, whose name in the layer is `name`.
    fn directory(&mut self, dir: &Path, name: &mut Vec<u8>) -> Result<()> {
        let context = || format!("read {}", dir.display());
        let entries: io::Result<Vec<_>> = fs::read_dir(dir).op(context)?.collect();
        let mut names: Vec<_> = entries
            .op(context)?
            .iter()
            .map(fs::DirEntry::file_name)
            .collect();
        names.sort();
        for file in names {
            let length = name.len();
            name.extend(file.as_bytes());
            self.entry(&dir.join(&file), &file, name)?;
            name.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, file: &OsStr, name: &mut Vec<u8>) -> Result<()> {
        let context = || format!("read {}", path.display());
        let about = fs::symlink_metadata(path).op(context)?;
        let kind = about.file_type();
        if kind.is_socket() {
            // A socket is of no use to anybody else.
            return Ok(());
        }
        if kind.is_char_device() && about.rdev() == 0 {
            let parent = name.len() - file.len();
            return self.marker(&[&name[..parent], b".wh.", file.as_bytes()].concat());
        }
        let xattrs = Attributes::of(path).op(context)?;
        if xattrs.only_overlays {
            return Err(Kind::FailedPrecondition.error(format!(
                "{}: overlayfs has written it in a form that only it can read (redirect or metacopy)",
                path.display()
            )));
        }
        let is_dir = kind.is_dir();
        if is_dir {
            name.push(b'/');
        }
        let mut header = header(name, &about, xattrs.kept);
        if about.file_type().is_symlink() {
            header.target = fs::read_link(path)
                .op(context)?
                .into_os_string()
                .as_bytes()
                .to_vec();
        }
        if !is_dir && about.nlink() > 1 {
            let key = (about.dev(), about.ino());
            if let Some(first) = self.links.get(&key) {
                header.kind = tar::Kind::HardLink;
                header.target.clone_from(first);
                header.xattrs.clear();
            } else {
                self.links.insert(key, name.clone());
            }
        }
        let written = if header.kind == tar::Kind::File {
            let opened = File::open(path).op(context)?;
            self.writer.append(&header, opened)
        } else {
            self.writer.append(&header, io::empty())
        };
        written.op(|| format!("archive {}", path.display()))?;
        if is_dir {
            if xattrs.opaque {
                self.marker(&[name.as_slice(), b".wh..wh..opq"].concat())?;
            }
            self.directory(path, name)?;
        }
        Ok(())
    }

    /// An empty file whose name says something.
    fn marker(&mut self, name: &[u8]) -> Result<()> {
        let header = Header {
            path: name.to_vec(),
            kind: tar::Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            modified: (0, 0),
            accessed: None,
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            segments: Vec::new(),
        };
        let written = self.writer.append(&header, io::empty());
        written.op(|| format!("archive {}", String::from_utf8_lossy(name)))
    }
}

fn header(name: &[u8], about: &Metadata, xattrs: Vec<(String, Vec<u8>)>) -> Header {
    let kind = about.file_type();
    let kind = if kind.is_dir() {
        tar::Kind::Directory
    } else if kind.is_symlink() {
        tar::Kind::Symlink
    } else if kind.is_char_device() {
        tar::Kind::CharDevice
    } else if kind.is_block_device() {
        tar::Kind::BlockDevice
    } else if kind.is_fifo() {
        tar::Kind::Fifo
    } else {
        tar::Kind::File
    };
    let device = match kind {
        tar::Kind::CharDevice | tar::Kind::BlockDevice => (
            rustix::fs::major(about.rdev()),
            rustix::fs::minor(about.rdev()),
        ),
        _ => (0, 0),
    };
    Header {
        path: name.to_vec(),
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        modified: (
            about.mtime(),
            u32::try_from(about.mtime_nsec()).unwrap_or_default(),
        ),
        accessed: None,
        target: Vec::new(),
        device,
        xattrs,
        size: about.size(),
        segments: Vec::new(),
        kind,
    }
}

/// A file's extended attributes, sorted by whose they are.
struct Attributes {
    /// Those that belong to the file: capabilities and the user's own.
    kept: Vec<(String, Vec<u8>)>,
    /// Nothing below this directory shows through.
    opaque: bool,
    /// The file's bytes or names are elsewhere.
    only_overlays: bool,
}

/// A list or value of extended attributes is at most this long (xattr(7)).
const LONGEST_XATTR: usize = 64 << 10;

impl Attributes {
    fn of(path: &Path) -> io::Result<Self> {
        let mut found = Self {
            kept: Vec::new(),
            opaque: false,
            only_overlays: false,
        };
        let mut names = vec![0_u8; LONGEST_XATTR];
        let length = match rustix::fs::llistxattr(path, &mut names) {
            Err(Errno::NOTSUP) => 0,
            length => length?,
        };
        let names = names[..length].split(|byte| *byte == 0);
        let mut names: Vec<String> = names
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        for name in names {
            let value = || -> io::Result<Vec<u8>> {
                let mut value = vec![0_u8; LONGEST_XATTR];
                let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value)?;
                value.truncate(length);
                Ok(value)
            };
            match name.as_str() {
                "trusted.overlay.opaque" => found.opaque = value()? == b"y",
                "trusted.overlay.redirect" | "trusted.overlay.metacopy" => {
                    found.only_overlays = true;
                }
                "security.capability" => found.kept.push((name.clone(), value()?)),
                other if other.starts_with("user.") => found.kept.push((name.clone(), value()?)),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
