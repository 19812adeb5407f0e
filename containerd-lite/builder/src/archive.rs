//! `ADD` of an archive: a tar, plain or compressed, is unpacked where a file would be copied.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use lite_core::layers::{self, Limits, Target};
use lite_core::{Because as _, Kind, Result};

use crate::copy::{self, Root, Rules, Selected};
use crate::source::{EntryKind, Source};

/// Bytes that decide: the magic of a tar is in its first block.
const HEAD: usize = 512;

/// Whether the file `path` is an archive, by its first bytes.
///
/// # Errors
/// Those of reading; InvalidArgument for one that is compressed in a way we do not read.
pub fn is_one(source: &Source, path: &str) -> Result<bool> {
    let context = || format!("read {path}");
    match source.entry(path).op(context)?.map(|entry| entry.kind) {
        Some(EntryKind::File { .. }) => {}
        _ => return Ok(false),
    }
    let mut file = source.open(path).op(context)?;
    let mut head = Vec::new();
    file.by_ref()
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .op(context)?;
    let plain = head.get(257..262) == Some(b"ustar");
    if plain {
        return Ok(true);
    }
    if head.starts_with(b"BZh") || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        return Err(Kind::InvalidArgument.error(format!(
            "{path}: archives compressed with bzip2 or xz are not unpacked: use gzip or zstd, or ADD --unpack=false"
        )));
    }
    let compressed = head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    if !compressed {
        return Ok(false);
    }
    // A compressed file is an archive if there is a tar in it.
    let inside = source.open(path).op(context)?;
    Ok(holds_tar(inside))
}

fn holds_tar(file: File) -> bool {
    let dir = tempfile::tempdir();
    let Ok(dir) = dir else { return false };
    let target = Target {
        dir: dir.path(),
        below: &[],
    };
    // One entry is enough to know; more are refused, and that says that there was one.
    let limits = Limits {
        entries: 1,
        bytes: 1 << 40,
    };
    match layers::apply(file, target, limits) {
        Ok(_) => true,
        Err(err) => err.kind() == Kind::ResourceExhausted,
    }
}

/// Unpacks `one` into the directory `to` of `root`, with the owners and permissions that the archive says.
///
/// # Errors
/// InvalidArgument and DataLoss for a damaged archive; those of the file system.
pub fn unpack(
    root: &Root,
    source: &Source,
    one: &Selected,
    to: &str,
    state: &Path,
    time_s: i64,
) -> Result<()> {
    let context = || format!("unpack {}", one.from);
    let dir = tempfile::Builder::new()
        .prefix("tar")
        .tempdir_in(state)
        .op(context)?;
    let file = source.open(&one.from).op(context)?;
    let target = Target {
        dir: dir.path(),
        below: &[],
    };
    layers::apply(file, target, Limits::default()).op(context)?;
    let unpacked = Source::Tree(kernel::path::open_dir(dir.path()).op(context)?);
    let whole = Selected {
        from: String::new(),
        to: to.to_owned(),
    };
    let rules = Rules {
        time_s,
        ..Rules::default()
    };
    copy::write(root, &unpacked, &whole, &rules).map_err(|what| Kind::InvalidArgument.error(what))
}
