//! Files in and out of a directory as plain archives, for `cp` and `import`:
//! unlike layers they have no whiteouts, and a name that begins with `.wh.` is a
//! name like any other.

use std::io::{Read, Write};
use std::path::Path;

use crate::error::Result;
use crate::layers::{self, Limits};

/// Writes what the directory `dir` holds, every path below `prefix`; with an
/// empty one the paths begin with the names in it, else there is an entry for
/// the directory itself.
///
/// # Errors
/// Those of the file system and of `output`.
pub fn pack_directory(dir: &Path, prefix: &str, output: impl Write) -> Result<()> {
    layers::pack_directory(dir, prefix.as_bytes(), output)
}

/// Writes what is called `name` in the directory `parent`, a link as a link,
/// under the name `shown`.
///
/// # Errors
/// NotFound; those of the file system and of `output`.
pub fn pack_entry(parent: &Path, name: &str, shown: &str, output: impl Write) -> Result<()> {
    layers::pack_entry(parent, name.as_bytes(), shown.as_bytes(), output)
}

/// Unpacks the archive `input` (plain, gzip or zstd) into the directory `dir`,
/// and never anywhere else. A directory takes the place of nothing but a
/// directory, and nothing else the place of one.
///
/// # Errors
/// DataLoss for a damaged archive; InvalidArgument for an entry that would leave
/// the directory; FailedPrecondition for one in whose place something of the
/// other kind is; those of the file system.
pub fn unpack(input: impl Read + Send, dir: &Path) -> Result<()> {
    layers::unpack(input, dir, Limits::default())
}
