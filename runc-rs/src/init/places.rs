//! Where mounts go: descriptors of places inside the rootfs, made where the image has none, and kept off the container's procfs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::{Applied, StepError};

/// The place of a mount, made if the image has none: a directory or an empty file.
pub(super) fn place(
    root: BorrowedFd<'_>,
    destination: &Path,
    directory: bool,
) -> io::Result<OwnedFd> {
    if directory {
        path::make_dirs_in(root, destination, 0o755)
    } else {
        path::make_file_in(root, destination, 0o755)
    }
}

/// A directory for a new filesystem, and whether the image had it.
pub(super) fn directory(root: BorrowedFd<'_>, destination: &Path) -> io::Result<(OwnedFd, bool)> {
    let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
    match path::open_in(root, destination, flags, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
            Ok((path::make_dirs_in(root, destination, 0o755)?, false))
        }
        other => Ok((other?, true)),
    }
}

/// proc and sysfs behind a link of the image would give the container a second place to reach them by. What was looked at is what
/// is mounted on: a link that takes its place meanwhile changes nothing.
pub(super) fn ordinary_directory(
    root: BorrowedFd<'_>,
    destination: &Path,
) -> Result<OwnedFd, StepError> {
    let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
    let opened = match path::open_in(root, destination, flags, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
            path::make_dirs_in(root, destination, 0o755)?;
            path::open_in(root, destination, flags, 0, Within::Root)?
        }
        other => other?,
    };
    if fstat(&opened)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        return Ok(opened);
    }
    let place = destination.display();
    Err(StepError::words(format!(
        "filesystem must be mounted on ordinary directory, {place} is none"
    )))
}

/// Files of procfs that describe the machine, and that others (lxcfs) replace for a container.
const REPLACEABLE: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
    "uptime",
];

/// The inode of a procfs's root directory.
const PROC_ROOT: u64 = 1;

/// A mount that the image leads over procfs, by a link, would show the container's programs, and whoever joins it, files of the
/// image's choice in the kernel's place. `proc` is the host's; `tree` would be mounted at `place`, which the config calls
/// `destination`.
pub(super) fn not_over_proc(
    proc: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    destination: &Path,
) -> Applied {
    if path::filesystem_type(place)? != path::PROC_MAGIC
        || path::filesystem_type(tree)? == path::PROC_MAGIC
    {
        return Ok(());
    }
    let own = format!("thread-self/fd/{}", place.as_raw_fd());
    let at = path::read_link_at(proc, Path::new(&own))?.unwrap_or_default();
    let replaceable = |file: &&str| at.ends_with(Path::new("proc").join(file));
    if fstat(place)?.st_ino != PROC_ROOT && REPLACEABLE.iter().any(replaceable) {
        return Ok(());
    }
    Err(StepError::words(format!(
        "\"{}\" cannot be mounted because it is inside /proc",
        destination.display()
    )))
}
