//! Device nodes of `/dev` and the links beside them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kernel::mount::{self, Tree};
use kernel::path;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat, umask};
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
    let mode = Mode::from_bits_truncate(device.mode);
    // The umask does not count for devices. Changing the mode afterwards would follow a link that took the node's place.
    let mask = umask(Mode::empty());
    let made = mknodat(&dir, &name, kind, mode, number);
    umask(mask);
    match made {
        Ok(()) => {}
        Err(Errno::EEXIST) => return existing_device(dir.as_fd(), &name, kind, number),
        Err(errno) => return Err(errno.into()),
    }
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

/// Opens /dev/null, which must be the null device, and puts it in the place of standard streams that are the host's.
pub(super) fn standard_null() -> Applied {
    let is_null = |fd: BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|stat| {
            stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits()
                && stat.st_rdev == makedev(1, 3)
        })
    };
    let streams = [
        std::io::stdin().as_fd().try_clone_to_owned(),
        std::io::stdout().as_fd().try_clone_to_owned(),
        std::io::stderr().as_fd().try_clone_to_owned(),
    ];
    for (number, stream) in (0..).zip(streams) {
        if !stream.is_ok_and(|stream| is_null(stream.as_fd())) {
            continue;
        }
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        // A container without the device keeps the host's.
        let Ok(own) = nix::fcntl::open("/dev/null", flags, Mode::empty()) else {
            return Ok(());
        };
        if !is_null(own.as_fd()) {
            return Ok(());
        }
        nix::fcntl::fcntl(&own, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
        kernel::process::replace_stdio(own.as_fd(), number)?;
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
