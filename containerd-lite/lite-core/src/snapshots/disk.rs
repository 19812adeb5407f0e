//! A snapshot's directories: made, measured, removed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Because as _, Error, Result};

/// Disk space and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In bytes, as allocated.
    pub size: u64,
    /// Files, directories and all else, hard links counted once.
    pub inodes: u64,
}

/// Makes `dir/fs`, and `dir/work` for overlay if `work`. The root directory of
/// the stack is the topmost `fs`, so it takes owner and mode from the one below.
pub(super) fn make(dir: &Path, like: Option<&Path>, work: bool) -> Result<()> {
    let context = || format!("make snapshot directory {}", dir.display());
    // A write that was rolled back may have left its number's directory.
    remove(dir)?;
    DirBuilder::new().mode(0o700).create(dir).op(context)?;
    let files = dir.join("fs");
    DirBuilder::new().mode(0o755).create(&files).op(context)?;
    if let Some(like) = like {
        let below = fs::metadata(like).op(context)?;
        std::os::unix::fs::lchown(&files, Some(below.uid()), Some(below.gid())).op(context)?;
        fs::set_permissions(&files, Permissions::from_mode(below.mode() & 0o7777)).op(context)?;
    }
    if work { make_work(dir) } else { Ok(()) }
}

/// Makes `dir/work`, which overlay needs beside what is written.
pub(super) fn make_work(dir: &Path) -> Result<()> {
    let context = || format!("make snapshot directory {}", dir.display());
    let work = dir.join("work");
    DirBuilder::new().mode(0o711).create(work).op(context)
}

/// Removes a tree; none is no error. Returns the space it had.
pub(super) fn remove(dir: &Path) -> Result<u64> {
    match fs::symlink_metadata(dir) {
        Ok(found) if !found.is_dir() => {
            fs::remove_file(dir).op(|| format!("remove {}", dir.display()))?;
            return Ok(found.len());
        }
        Ok(_) => {}
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(err) => return Err(Error::io(format!("remove {}", dir.display()), err)),
    }
    let size = usage(dir).unwrap_or_default().size;
    fs::remove_dir_all(dir).op(|| format!("remove {}", dir.display()))?;
    Ok(size)
}

/// Measures a tree that may change meanwhile: what vanishes is not counted.
pub(super) fn usage(root: &Path) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut pending = vec![root.to_owned()];
    let gone = |err: &std::io::Error| err.kind() == std::io::ErrorKind::NotFound;
    while let Some(path) = pending.pop() {
        let context = || format!("measure {}", path.display());
        let found = match fs::symlink_metadata(&path) {
            Err(err) if gone(&err) => continue,
            found => found.op(context)?,
        };
        if found.nlink() > 1 && !found.is_dir() && !linked.insert((found.dev(), found.ino())) {
            continue;
        }
        usage.size += found.blocks() * 512;
        usage.inodes += 1;
        if found.is_dir() {
            match fs::read_dir(&path) {
                Err(err) if gone(&err) => {}
                entries => {
                    for entry in entries.op(context)? {
                        pending.push(entry.op(context)?.path());
                    }
                }
            }
        }
    }
    Ok(usage)
}
