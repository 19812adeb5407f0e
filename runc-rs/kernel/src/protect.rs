//! Copies of the running program that nobody can write to.
//!
//! A container can reach the file of any program that runs inside it by `/proc/PID/exe`, and root in it could then overwrite
//! the runtime on the host (CVE-2019-5736). So the runtime runs from a copy that is read-only for good: a clone of its mount
//! that is attached nowhere, half a millisecond, or where that is not allowed a sealed copy in memory.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::mount;
use crate::path::is_read_only;
use crate::process::exec_fd;
use crate::raw::{check, own_fd};

/// A descriptor of the program at `path` through a detached read-only mount: executing it protects the file on disk. A caller
/// that starts many programs (a shim, a daemon) keeps it open and the protection costs nothing.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn read_only_clone(path: &Path) -> io::Result<OwnedFd> {
    let tree = mount::open_tree(mount::cwd(), path, mount::Tree::Clone { recursive: false })?;
    mount::set_attr(
        tree.as_fd(),
        false,
        &mount::Attr {
            set: mount::RDONLY,
            ..mount::Attr::default()
        },
    )?;
    Ok(tree)
}

/// A copy of the program at `path` in memory that can no longer be changed.
///
/// # Errors
/// What the kernel says.
pub fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    // SAFETY: the name is a C string that outlives the call.
    let memory = own_fd(libc::c_long::from(unsafe {
        libc::memfd_create(
            c"runc-rs".as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        )
    }))?;
    let mut copy = File::from(memory);
    io::copy(&mut source, &mut copy)?;
    copy.flush()?;
    copy.rewind()?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::fcntl(copy.as_raw_fd(), libc::F_ADD_SEALS, seals)
    }))?;
    Ok(OwnedFd::from(copy))
}

/// Whether the running program's own file cannot be written through its descriptor.
///
/// # Errors
/// What the kernel says.
pub fn is_protected(program: BorrowedFd<'_>) -> io::Result<bool> {
    if is_read_only(program)? {
        return Ok(true);
    }
    // SAFETY: takes integers and no pointers.
    let seals = unsafe { libc::fcntl(program.as_raw_fd(), libc::F_GET_SEALS) };
    Ok(seals >= 0 && seals & libc::F_SEAL_WRITE != 0)
}

/// Starts this program again from a protected copy, unless it already runs from one. Returns only then, or on error.
///
/// # Errors
/// `ENXIO` if /proc is no procfs, else what the kernel says.
pub fn run_protected() -> io::Result<()> {
    // Anything else there could show a program that never counts as protected, over and over.
    crate::path::open_proc()?;
    let own = Path::new("/proc/self/exe");
    if is_protected(File::open(own)?.as_fd())? {
        return Ok(());
    }
    let copy = read_only_clone(own).or_else(|_| sealed_copy(own))?;
    let argv = std::env::args_os()
        .map(|a| CString::new(a.into_vec()))
        .collect::<Result<Vec<_>, _>>();
    let env = std::env::vars_os()
        .map(|(key, value)| {
            CString::new([key.into_vec(), b"=".to_vec(), value.into_vec()].concat())
        })
        .collect::<Result<Vec<_>, _>>();
    match (argv, env) {
        (Ok(argv), Ok(env)) => Err(exec_fd(copy.as_fd(), &argv, &env)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_copy_can_be_opened_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, b"\x7fELF").unwrap();
        for copy in [read_only_clone(&file).unwrap(), sealed_copy(&file).unwrap()] {
            assert!(
                is_protected(
                    File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))
                        .unwrap()
                        .as_fd()
                )
                .unwrap()
            );
            let again = format!("/proc/self/fd/{}", copy.as_raw_fd());
            let written = std::fs::OpenOptions::new()
                .write(true)
                .open(again)
                .and_then(|mut f| f.write_all(b"x"));
            assert!(written.is_err());
        }
        assert!(!is_protected(File::open(&file).unwrap().as_fd()).unwrap());
    }
}
