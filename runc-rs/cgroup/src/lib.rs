//! Cgroups v1, v2 and hybrid: limits, statistics, out-of-memory events.
//!
//! 1. [`Host::detect`] finds which controllers are where.
//! 2. [`Cgroup::named`] says where a container's group is; [`Cgroup::create`] makes it and [`Cgroup::limit`] sets its limits.
//! 3. The new process joins: on v1 by writing `0` to each file of [`Cgroup::join_files`], on v2 by being cloned into
//!    [`Cgroup::unified_dir`]. Writing a pid to `cgroup.procs` waits for an RCU grace period, ten milliseconds; these do not.
//! 4. [`Cgroup::pids`], [`Cgroup::freeze`], [`Cgroup::stats`] and [`OomWatch`] serve a running container.
//! 5. [`Cgroup::delete`] removes it.
//!
//! The shim, which knows only a pid, starts from [`Cgroup::of_process`].
//!
//! Where systemd is to make the group, [`systemd::Scope`] has it do so around a process between steps 2 and 3.
//!
//! All of it is plain reads and writes below the mount points of the host. The cgroups-rs crate is not used: it attaches by
//! `cgroup.procs`, has no device rules for v2, and an absolute path makes it write plain files and call that success.

mod dbus;
mod devices;
mod freezer;
mod group;
mod hierarchy;
mod limits;
mod oom;
mod stats;
pub mod systemd;
mod unified;

pub use group::{Cgroup, Made};
pub use hierarchy::{Host, Layout};
pub use oom::OomWatch;
pub use stats::{
    BlkioEntry, BlkioV1, CpuV1, CpuV2, Hugetlb, IoEntryV2, MemoryEntryV1, MemoryEventsV2,
    MemoryOomV1, MemoryV1, MemoryV2, Pids, Pressure, PressureLine, Stats, StatsV1, StatsV2,
};

use std::fmt;
use std::io;

/// What went wrong: the operation and its subject; the kernel's answer is the source.
#[derive(Debug)]
pub struct Error {
    op: String,
    source: Option<io::Error>,
    /// The name of the error that a peer on a message bus answered with.
    answer: Option<String>,
}

/// Result with this package's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(op: impl Into<String>, source: io::Error) -> Self {
        Self {
            op: op.into(),
            source: Some(source),
            answer: None,
        }
    }

    pub(crate) fn refused(op: impl Into<String>) -> Self {
        Self {
            op: op.into(),
            source: None,
            answer: None,
        }
    }

    pub(crate) fn answered(op: String, name: String) -> Self {
        Self {
            op,
            source: None,
            answer: Some(name),
        }
    }

    pub(crate) fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }

    /// The same, with what was attempted in front.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        Self {
            op: format!("{what}: {}", self.op),
            ..self
        }
    }

    pub(crate) fn kind(&self) -> Option<io::ErrorKind> {
        self.source.as_ref().map(io::Error::kind)
    }

    /// Whether the caller lacks the permission.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.kind() == Some(io::ErrorKind::PermissionDenied)
            || self.kind() == Some(io::ErrorKind::ReadOnlyFilesystem)
    }

    /// The kernel's error number, if it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.op)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
