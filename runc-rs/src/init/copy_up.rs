//! Fills a new filesystem with what the image has below it (`tmpcopyup`).
//!
//! Whoever shares the image may exchange what is in it meanwhile. So each thing is opened first, never through a link, and what
//! was opened is what is looked at and copied.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::Applied;

/// Copies what the image has at `from` into the new filesystem `to`. Links are copied as links and never followed.
pub(super) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Applied {
    let readable = open(from, Path::new("."), OFlag::O_DIRECTORY)?;
    Ok(copy_tree(&readable, to)?)
}

fn open(dir: BorrowedFd<'_>, name: &Path, flags: OFlag) -> io::Result<File> {
    // What is a fifo by now must not keep us waiting.
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    path::open_in(dir, name, flags.bits(), 0, Within::Root).map(File::from)
}

fn copy_tree(from: &File, to: BorrowedFd<'_>) -> io::Result<()> {
    let names = std::fs::read_dir(format!("/proc/self/fd/{}", from.as_raw_fd()))?;
    for name in names {
        let name = name?.file_name();
        let name = Path::new(&name);
        if let Some(target) = path::read_link_at(from.as_fd(), name)? {
            let stat = nix::sys::stat::fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            nix::unistd::symlinkat(target.as_path(), to, name)?;
            let (user, group) = (Uid::from(stat.st_uid), Gid::from(stat.st_gid));
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            nix::unistd::fchownat(to, name, Some(user), Some(group), flags)?;
            continue;
        }
        let source = match open(from.as_fd(), name, OFlag::empty()) {
            // A socket, or a device that is not there: they mean nothing here.
            Err(e)
                if [Errno::ENXIO, Errno::ENODEV]
                    .map(|n| n as i32)
                    .contains(&e.raw_os_error().unwrap_or(0)) =>
            {
                continue;
            }
            other => other?,
        };
        let metadata = source.metadata()?;
        let target = if metadata.is_dir() {
            nix::sys::stat::mkdirat(to, name, Mode::S_IRWXU)?;
            let made = File::from(path::open_in(
                to,
                name,
                (OFlag::O_RDONLY | OFlag::O_DIRECTORY).bits(),
                0,
                Within::Root,
            )?);
            copy_tree(&source, made.as_fd())?;
            made
        } else if metadata.is_file() {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let mut made = File::from(path::open_in(to, name, flags.bits(), 0o600, Within::Root)?);
            io::copy(&mut &source, &mut made)?;
            made
        } else {
            continue; // fifos and devices of an image mean nothing here either
        };
        fchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        target.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was exchanged for a link after it was looked at.
    #[test]
    fn what_has_become_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("relative")).unwrap();
        let image = File::open(dir.path()).unwrap();
        for link in ["absolute", "relative"] {
            let error = open(image.as_fd(), Path::new(link), OFlag::empty()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32), "{link}");
        }
        open(image.as_fd(), Path::new("file"), OFlag::empty()).unwrap();
    }
}
