//! Handles to processes, their namespaces, and the `prctl(2)` bits of the calling one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::raw::{check, own_fd};

/// Opens a handle to process `pid` that stays bound to it even if the number is reused. Close-on-exec is always set.
///
/// Kernel 5.3 or newer; see `pidfd_open(2)`.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and no pointers.
    own_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A descriptor of our own for what is open as `number` in the process behind `pidfd`. Close-on-exec is always set.
///
/// Kernel 5.6; see `pidfd_getfd(2)`.
///
/// # Errors
/// `EPERM` unless the caller may trace that process, `EBADF` if it has no such descriptor.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes three integers and no pointers.
    own_fd(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Sends `signal` to the process behind `pidfd`; 0 only checks. See `pidfd_send_signal(2)`.
///
/// # Errors
/// `ESRCH` if it has ended and was reaped.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: integers and a null siginfo, which the kernel takes to mean what kill(2) would send.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<u8>(),
            0,
        )
    })?;
    Ok(())
}

/// Moves the calling thread into namespaces: `handle` is one namespace file, or a pidfd together with several flags of
/// [`crate::clone::ns`] (kernel 5.8). See `setns(2)`.
///
/// # Errors
/// What the kernel says.
pub fn setns(handle: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    // SAFETY: takes two integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::setns(handle.as_raw_fd(), namespaces as i32)
    }))?;
    Ok(())
}

/// Makes new namespaces for the calling thread. See `unshare(2)`.
///
/// # Errors
/// What the kernel says.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    // SAFETY: takes one integer; the namespace flags do not touch memory or descriptors.
    check(libc::c_long::from(unsafe {
        libc::unshare(namespaces as i32)
    }))?;
    Ok(())
}

/// Marks every descriptor from `first` up close-on-exec. See `close_range(2)`; kernel 5.11.
///
/// # Errors
/// What the kernel says.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes integers; only the close-on-exec flag changes, so every owner keeps a valid descriptor.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Closes every descriptor from `first` up but `keep`, at once: for a cloned child that will only wait, exec or exit, and must
/// not hold open what its parent had. Owners of the others must never be used nor dropped afterwards.
///
/// A seccomp profile older than `close_range(2)` may forbid that call; then they are closed one by one, as far as
/// [`CLOSED_SINGLY`].
///
/// # Errors
/// What the kernel says.
pub fn close_all_but(first: u32, keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = keep.as_raw_fd() as u32;
    for (from, to) in [
        (first, keep.saturating_sub(1)),
        (first.max(keep + 1), u32::MAX),
    ] {
        if from > to {
            continue;
        }
        // SAFETY: takes integers. The caller's process ends without running the destructors of their owners.
        match check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                for one in from..=to.min(CLOSED_SINGLY) {
                    // SAFETY: as above; a number that is not open is refused.
                    unsafe { libc::close(one as i32) };
                }
            }
            other => drop(other?),
        }
    }
    Ok(())
}

/// Whoever inherits higher numbers than this also has a profile newer than 2020; trying them all takes a millisecond or two.
const CLOSED_SINGLY: u32 = 65_535;

/// Makes the calling process adopt the orphans among its descendants (`PR_SET_CHILD_SUBREAPER`), or stops that.
///
/// # Errors
/// What the kernel says.
pub fn subreaper(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on))
}

/// Sets whether other processes of the same user may look into this one (`PR_SET_DUMPABLE`).
///
/// # Errors
/// What the kernel says.
pub fn dumpable(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on))
}

/// Gives up gaining privileges by exec, for good (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// What the kernel says.
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Keeps the permitted capabilities over a change of user (`PR_SET_KEEPCAPS`), or not.
///
/// # Errors
/// What the kernel says.
pub fn keep_capabilities(on: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on))
}

/// Has the kernel send `signal` when the parent ends (`PR_SET_PDEATHSIG`); 0 for none.
///
/// # Errors
/// What the kernel says.
pub fn parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64)
}

fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: every option that this module passes takes integers only.
    check(libc::c_long::from(unsafe {
        libc::prctl(option, value, 0_u64, 0_u64, 0_u64)
    }))?;
    Ok(())
}

/// Joins a new session keyring with the given name. See `keyctl(2)`, `KEYCTL_JOIN_SESSION_KEYRING`.
///
/// # Errors
/// `ENOSYS` without key retention in the kernel, `EDQUOT` when the user has too many.
pub fn new_session_keyring(name: &str) -> io::Result<()> {
    let name = crate::raw::bytes(name.as_bytes())?;
    // SAFETY: the name is a C string that outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    Ok(())
}

/// Replaces the program by the file behind `file`, as `execveat(2)` with an empty path. Returns only on error.
#[must_use]
pub fn exec_fd(file: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: both arrays end in a null pointer, and they and the strings they point to outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Leaves the process at once, with no destructors and no buffers flushed: the right way out of a cloned child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes one integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Sets the NIS domain name. See `setdomainname(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe one live string.
    check(libc::c_long::from(unsafe {
        libc::setdomainname(name.as_ptr().cast(), name.len())
    }))?;
    Ok(())
}

/// Makes the descriptor survive exec.
///
/// # Errors
/// What the kernel says.
pub fn keep_over_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0)
    }))?;
    Ok(())
}

/// Duplicates `fd` onto standard input, output or error (0, 1 or 2).
///
/// # Errors
/// `EINVAL` for any other number, else what the kernel says.
pub fn replace_stdio(fd: BorrowedFd<'_>, which: i32) -> io::Result<()> {
    if !(0..=2).contains(&which) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: integers only; the three standard descriptors are shared by convention and owned by nobody.
    check(libc::c_long::from(unsafe {
        libc::dup3(fd.as_raw_fd(), which, 0)
    }))
    .map(|_| ())
    .or_else(|error| {
        // dup3 refuses equal descriptors; that case only needs to survive exec.
        if fd.as_raw_fd() == which {
            keep_over_exec(fd)
        } else {
            Err(error)
        }
    })
}

/// Hands `fds` to the program of `command` as its descriptors 3, 4 and so on. They are closed here with the command.
pub fn pass(command: &mut Command, fds: Vec<OwnedFd>) {
    let first = 3;
    let mut parked = vec![-1; fds.len()];
    let place = move || {
        // Out of the way first: one may have the number that another is to get.
        let count = libc::c_int::try_from(fds.len()).unwrap_or(libc::c_int::MAX);
        for (slot, fd) in parked.iter_mut().zip(&fds) {
            // SAFETY: takes integers; `fd` is open as long as the closure lives.
            *slot = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first + count) };
            check(libc::c_long::from(*slot))?;
        }
        for (number, &fd) in (first..).zip(&parked) {
            // SAFETY: takes integers; `fd` is a duplicate made above, and nothing of the program's own stands on the numbers
            // from 3 up that is not close-on-exec.
            check(libc::c_long::from(unsafe { libc::dup2(fd, number) }))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls fcntl and dup2 only, which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(place) };
}

/// A second owner of an inherited descriptor by number, close-on-exec. `EBADF` if it is not open.
///
/// # Errors
/// What the kernel says.
pub fn dup_inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers; the kernel checks that the number is open and returns a fresh descriptor.
    own_fd(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3)
    }))
}

/// Takes over an inherited descriptor, so that it can be closed: one that the command line named and nothing else knows of.
///
/// # Errors
/// `EBADF` if it is not open, or one of the standard three, which are nobody's.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    if number < 3 || !is_open(number) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and no descriptor that this program has opened itself can have been named by its caller's number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether descriptor `number` is open.
#[must_use]
pub fn is_open(number: i32) -> bool {
    // SAFETY: takes integers and no pointers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Clears close-on-exec on an inherited descriptor by number (`--preserve-fds`).
///
/// # Errors
/// `EBADF` if it is not open.
pub fn preserve_number(number: i32) -> io::Result<()> {
    // SAFETY: takes integers; only the close-on-exec flag changes.
    check(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_SETFD, 0)
    }))?;
    Ok(())
}
