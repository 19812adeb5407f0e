//! Fills a new filesystem with what the image has below it (`tmpcopyup`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use kernel::path::{self, Within};
use nix::fcntl::OFlag;

use super::Applied;

/// Copies what the image has at `from` into the new filesystem `to`. Links are copied as links and never followed.
pub(super) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Applied {
    let via = |fd: BorrowedFd<'_>| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let readable = path::open_in(
        from,
        Path::new("."),
        (OFlag::O_RDONLY | OFlag::O_DIRECTORY).bits(),
        0,
        Within::Root,
    )?;
    Ok(copy_tree(&via(readable.as_fd()), &via(to))?)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown, symlink};
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            symlink(std::fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() {
            std::fs::create_dir(&target)?;
            copy_tree(&source, &target)?;
        } else if kind.is_file() {
            std::fs::copy(&source, &target)?;
        } else {
            continue; // sockets, fifos and devices of an image mean nothing here
        }
        lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        if !kind.is_symlink() {
            std::fs::set_permissions(&target, metadata.permissions())?;
        }
    }
    Ok(())
}
