//! Extended attributes that belong to the image and not to this machine.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::merged::system;
use crate::error::{Kind, Result};

/// A list or value of extended attributes is at most this long (xattr(7)).
const MAX_XATTR: usize = 64 << 10;

/// Of something open, in the order of names.
pub(super) fn of_open(fd: BorrowedFd<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    of_path(
        &format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes(),
        true,
    )
}

/// Of `name` in `holder`, which is not followed.
pub(super) fn of(
    holder: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
) -> Result<Vec<(String, Vec<u8>)>> {
    // Only files and directories can have any of a user's.
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(Vec::new());
    }
    let mut path = format!("/proc/self/fd/{}/", holder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    of_path(&path, false)
}

fn of_path(path: &[u8], follow: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let mut small = [0; 512];
    let listed = list(path, follow, &mut small);
    let mut large;
    let names = match listed {
        Err(Errno::RANGE) => {
            large = vec![0; MAX_XATTR];
            let len = system(list(path, follow, &mut large), "list extended attributes")?;
            &large[..len]
        }
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        listed => &small[..system(listed, "list extended attributes")?],
    };
    let mut all = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if matches!(
            name,
            b"trusted.overlay.redirect" | b"trusted.overlay.metacopy"
        ) {
            return Err(Kind::FailedPrecondition.error(
                "overlayfs wrote it in a form that only it can read (redirect_dir or metacopy)",
            ));
        }
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_kept(name)) else {
            continue;
        };
        let mut value = vec![0; MAX_XATTR];
        let got = if follow {
            rustix::fs::getxattr(path, name, value.as_mut_slice())
        } else {
            rustix::fs::lgetxattr(path, name, value.as_mut_slice())
        };
        value.truncate(system(got, "read extended attribute")?);
        all.push((name.to_owned(), value));
    }
    all.sort();
    Ok(all)
}

fn list(path: &[u8], follow: bool, into: &mut [u8]) -> rustix::io::Result<usize> {
    if follow {
        rustix::fs::listxattr(path, into)
    } else {
        rustix::fs::llistxattr(path, into)
    }
}

fn is_kept(name: &str) -> bool {
    let own = name.starts_with("user.") && !name.starts_with("user.overlay.");
    own || matches!(
        name,
        "security.capability" | "system.posix_acl_access" | "system.posix_acl_default"
    )
}
