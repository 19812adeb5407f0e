//! `clone3(2)`: a new process, in new namespaces and a cgroup from its first instruction.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use crate::raw::check;

/// Namespace flags, as `clone3(2)`, `unshare(2)` and `setns(2)` take them.
pub mod ns {
    /// Cgroup namespace.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Network.
    pub const NET: u64 = libc::CLONE_NEWNET as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Monotonic and boot clocks.
    pub const TIME: u64 = 0x80;
    /// Users and capabilities.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Host and domain name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
}

/// What the new process is to be.
#[derive(Debug, Default, Clone, Copy)]
pub struct Clone<'a> {
    /// Namespaces to make, out of [`ns`].
    pub namespaces: u64,
    /// Version 2 cgroup directory to start in (`CLONE_INTO_CGROUP`, kernel 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Make the child a sibling: its parent is the caller's parent.
    pub sibling: bool,
}

/// Which side of the split this is.
#[derive(Debug)]
pub enum Forked {
    /// The caller.
    Parent {
        /// The new process, as the caller's pid namespace numbers it.
        pid: i32,
        /// A handle that stays bound to that process.
        pidfd: OwnedFd,
    },
    /// The new process, with a copy of the caller's memory.
    Child,
}

/// The layout of `struct clone_args` up to `cgroup` (88 bytes, `CLONE_ARGS_SIZE_VER2`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Splits the process in two. The child signals `SIGCHLD` when it ends.
///
/// Kernel 5.5 or newer; see `clone3(2)`.
///
/// # Errors
/// `EBUSY` if the caller has more than one thread: locks held by the others would stay locked in the child for ever. Else what
/// the kernel says.
pub fn clone3(spec: Clone<'_>) -> io::Result<Forked> {
    // The link count of this directory is two plus the number of threads.
    if std::fs::metadata("/proc/self/task")?.nlink() > 3 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: RawFd = -1;
    let mut flags = spec.namespaces | libc::CLONE_PIDFD as u64;
    let mut args = CloneArgs {
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if spec.sibling {
        flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0; // the kernel takes the parent's own exit signal
    }
    if let Some(cgroup) = spec.cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    args.flags = flags;
    // SAFETY: the arguments are laid out as the kernel reads them and outlive the call. Without CLONE_VM the child has its own
    // copy of this stack, and there is only one thread, so no lock of another thread is left behind.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match check(ret)? {
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel filled this in for the parent and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}
