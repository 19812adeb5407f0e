//! Puts the process under Landlock's rules.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kernel::landlock::{IOCTL_DEVICE, OF_FILES, READ_FILE, Ruleset, TRUNCATE, WRITE_FILE};
use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

use super::{Applied, StepError};
use crate::landlock::Policy;

/// `policy`'s places are looked up from the root, which is the container's by now. A place that is no mount any more, as an
/// exec may find it in a container that renames directories, gets no rights of its own.
pub(super) fn restrict(policy: &Policy) -> Applied {
    let rules = Ruleset::new(policy.handled)?;
    let root = path::open_dir(Path::new("/"))?;
    for (place, rights) in &policy.allowed {
        let flags = OFlag::O_PATH.bits();
        let opened = match path::open_in(root.as_fd(), place, flags, 0, Within::Root) {
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => continue,
            other => other?,
        };
        if place != Path::new("/") && !kernel::mount::number(opened.as_fd())?.is_root {
            continue;
        }
        let kept = if is_directory(opened.as_fd())? {
            u64::MAX
        } else {
            OF_FILES
        };
        rules
            .allow(opened.as_fd(), rights & kept)
            .map_err(|e| StepError::from(e).about(place.display().to_string()))?;
    }
    for stream in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        allow_stream(&rules, stream, policy.handled)?;
    }
    Ok(rules.enforce()?)
}

/// A standard stream may be a file of the host; what is open can be opened again by its link in /proc, in the same way.
fn allow_stream(rules: &Ruleset, stream: BorrowedFd<'_>, handled: u64) -> Applied {
    let flags = match fcntl(stream, FcntlArg::F_GETFL) {
        Err(Errno::EBADF) => return Ok(()),
        other => OFlag::from_bits_retain(other?),
    };
    if is_directory(stream)? {
        return Ok(());
    }
    let rights = match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => READ_FILE,
        OFlag::O_WRONLY => WRITE_FILE | TRUNCATE,
        _ => READ_FILE | WRITE_FILE | TRUNCATE,
    };
    match rules.allow(stream, (rights | IOCTL_DEVICE) & handled) {
        // Pipes and sockets, which Landlock has no rules for.
        Err(e) if e.raw_os_error() == Some(Errno::EBADFD as i32) => Ok(()),
        other => Ok(other?),
    }
}

fn is_directory(file: BorrowedFd<'_>) -> Result<bool, StepError> {
    Ok(fstat(file)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}
