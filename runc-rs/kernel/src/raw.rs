//! What every wrapper needs: results out of return values, C strings out of paths.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Turns the return value of a system call into a result.
pub(crate) fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn own_fd(ret: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(check(ret)?).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just returned this descriptor to us, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `path` as C wants it. `EINVAL` if it holds a NUL byte.
pub(crate) fn cstr(path: &Path) -> io::Result<CString> {
    bytes(path.as_os_str().as_bytes())
}

/// `text` as C wants it. `EINVAL` if it holds a NUL byte.
pub(crate) fn bytes(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
