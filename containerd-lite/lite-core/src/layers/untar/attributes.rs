//! Owner, extended attributes, mode and times.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::tar::{Header, Kind as EntryKind};
use super::sys;
use crate::error::{Error, Result};

/// A list or value of extended attributes is at most this long (xattr(7)).
const MAX_XATTR: usize = 64 << 10;

/// Access and modification time.
pub(super) struct Times(Timestamps);

impl Times {
    pub(super) fn of(header: &Header) -> Self {
        let timespec = |(seconds, nanos): (i64, u32)| Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanos),
        };
        Self(Timestamps {
            last_access: timespec(header.accessed.unwrap_or(header.modified)),
            last_modification: timespec(header.modified),
        })
    }
}

pub(super) fn set_times(fd: BorrowedFd<'_>, times: &Times) -> Result<()> {
    sys(rustix::fs::futimens(fd, &times.0), "set times")
}

/// All but the times, which change as long as the directory is filled.
pub(super) fn of_directory(fd: BorrowedFd<'_>, header: &Header) -> Result<()> {
    sys(
        rustix::fs::fchown(
            fd,
            Some(Uid::from_raw(header.uid)),
            Some(Gid::from_raw(header.gid)),
        ),
        "set owner",
    )?;
    for (name, value) in wanted(header) {
        xattr(
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            name,
            header,
        )?;
    }
    sys(
        rustix::fs::fchmod(fd, Mode::from_raw_mode(header.mode)),
        "set mode",
    )
}

pub(super) fn of_file(fd: BorrowedFd<'_>, header: &Header) -> Result<()> {
    of_directory(fd, header)?;
    set_times(fd, &Times::of(header))
}

/// Of something that cannot be opened: a symbolic link, a device, a fifo.
pub(super) fn of_node(dir: BorrowedFd<'_>, name: &[u8], header: &Header) -> Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(header.uid), Gid::from_raw(header.gid));
    sys(
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), nofollow),
        "set owner",
    )?;
    for (key, value) in wanted(header) {
        // There is no setxattrat before Linux 6.13; the descriptor's own path
        // leads to the same directory.
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        xattr(
            rustix::fs::lsetxattr(path.as_slice(), key, value, XattrFlags::empty()),
            key,
            header,
        )?;
    }
    if header.kind != EntryKind::Symlink {
        sys(
            rustix::fs::chmodat(
                dir,
                name,
                Mode::from_raw_mode(header.mode),
                AtFlags::empty(),
            ),
            "set mode",
        )?;
    }
    sys(
        rustix::fs::utimensat(dir, name, &Times::of(header).0, nofollow),
        "set times",
    )
}

/// Gives `to` owner, mode, times and extended attributes of `from`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let like = sys(rustix::fs::fstat(from), "look")?;
    sys(
        rustix::fs::fchown(
            to,
            Some(Uid::from_raw(like.st_uid)),
            Some(Gid::from_raw(like.st_gid)),
        ),
        "set owner",
    )?;
    let mut names = vec![0; MAX_XATTR];
    let len = rustix::fs::flistxattr(from, names.as_mut_slice()).unwrap_or_default();
    for name in names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let Some(name) = std::str::from_utf8(name)
            .ok()
            .filter(|name| !is_overlays(name))
        else {
            continue;
        };
        let mut value = vec![0; MAX_XATTR];
        let len = sys(
            rustix::fs::fgetxattr(from, name, value.as_mut_slice()),
            "copy extended attribute",
        )?;
        sys(
            rustix::fs::fsetxattr(to, name, &value[..len], XattrFlags::empty()),
            "copy extended attribute",
        )?;
    }
    sys(
        rustix::fs::fchmod(to, Mode::from_raw_mode(like.st_mode & 0o7777)),
        "set mode",
    )?;
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(like.st_atime, like.st_atime_nsec),
        last_modification: time(like.st_mtime, like.st_mtime_nsec),
    };
    sys(rustix::fs::futimens(to, &times), "set times")
}

/// Overlay's own attributes: an archive that could set them could make the
/// kernel show other directories than the layer's (redirect, metacopy).
fn is_overlays(name: &str) -> bool {
    name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.")
}

fn wanted(header: &Header) -> impl Iterator<Item = (&str, &[u8])> {
    let all = header
        .xattrs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()));
    all.filter(|(name, _)| !is_overlays(name))
}

/// A file system without extended attributes, or one that has none of this kind
/// on this kind of file, is no fault of the layer.
fn xattr(result: rustix::io::Result<()>, name: &str, header: &Header) -> Result<()> {
    let special = !matches!(header.kind, EntryKind::File | EntryKind::Directory);
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if special && name.starts_with("user.") => Ok(()),
        other => other
            .map_err(|errno| Error::io(format!("set extended attribute {name:?}"), errno.into())),
    }
}
