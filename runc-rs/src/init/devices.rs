//! Device nodes of `/dev` and the links beside them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kernel::mount::{self, Tree};
use kernel::path;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{Gid, Uid};

use super::{Applied, StepError};
use crate::plan::Device;

pub(super) fn make_device(root: BorrowedFd<'_>, device: &Device, bind: bool) -> Applied {
    if bind {
        let tree = mount::open_tree(mount::cwd(), &device.path, Tree::Clone { recursive: false })?;
        let place = path::make_file_in(root, &device.path, 0o666)?;
        return Ok(mount::attach(tree.as_fd(), place.as_fd())?);
    }
    let (dir, name) = path::parent_in(root, &device.path)?;
    let kind = match device.kind {
        'b' => SFlag::S_IFBLK,
        'p' => SFlag::S_IFIFO,
        _ => SFlag::S_IFCHR,
    };
    let number = makedev(device.major, device.minor);
    match mknodat(
        &dir,
        &name,
        kind,
        Mode::from_bits_truncate(device.mode),
        number,
    ) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return existing_device(dir.as_fd(), &name, kind, number),
        Err(errno) => return Err(errno.into()),
    }
    // The umask does not count for devices.
    fchmodat(
        &dir,
        &name,
        Mode::from_bits_truncate(device.mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?;
    if device.uid != 0 || device.gid != 0 {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(
            &dir,
            &name,
            Some(Uid::from(device.uid)),
            Some(Gid::from(device.gid)),
            flags,
        )?;
    }
    Ok(())
}

/// What an image brings in a device's place must be that device.
fn existing_device(dir: BorrowedFd<'_>, name: &Path, kind: SFlag, number: u64) -> Applied {
    let stat = nix::sys::stat::fstatat(dir, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
        && (kind == SFlag::S_IFIFO || stat.st_rdev == number)
    {
        Ok(())
    } else {
        Err(StepError::from(Errno::EEXIST).about("the image has something else there"))
    }
}

pub(super) fn symlink(root: BorrowedFd<'_>, target: &str, place: &Path) -> Applied {
    if target == "/proc/kcore" && !Path::new(target).exists() {
        return Ok(());
    }
    let (dir, name) = path::parent_in(root, place)?;
    match nix::unistd::symlinkat(target, &dir, &name) {
        Err(Errno::EEXIST) if target == "pts/ptmx" => {
            // A node would open the host's terminals in place of the container's.
            nix::unistd::unlinkat(&dir, &name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            Ok(nix::unistd::symlinkat(target, &dir, &name)?)
        }
        Err(Errno::EEXIST) => Ok(()),
        other => Ok(other?),
    }
}
