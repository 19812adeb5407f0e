//! Landlock: rules about files that a process gives itself for good. See `landlock(7)`.
//!
//! Everything that a ruleset handles is denied but where a rule allows it, and a rule allows it for all that lies below a place.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::raw::{check, own_fd};

/// `LANDLOCK_ACCESS_FS_EXECUTE`
pub const EXECUTE: u64 = 1;
/// `LANDLOCK_ACCESS_FS_WRITE_FILE`
pub const WRITE_FILE: u64 = 1 << 1;
/// `LANDLOCK_ACCESS_FS_READ_FILE`
pub const READ_FILE: u64 = 1 << 2;
/// `LANDLOCK_ACCESS_FS_READ_DIR`
pub const READ_DIR: u64 = 1 << 3;
/// `LANDLOCK_ACCESS_FS_MAKE_CHAR` and `LANDLOCK_ACCESS_FS_MAKE_BLOCK`
pub const MAKE_DEVICE: u64 = 1 << 6 | 1 << 11;
/// Making, removing and moving anything else: the rest of the rights from `REMOVE_DIR` to `REFER`.
pub const CHANGE_DIR: u64 = 0x3ff0 & !MAKE_DEVICE;
/// `LANDLOCK_ACCESS_FS_TRUNCATE`
pub const TRUNCATE: u64 = 1 << 14;
/// `LANDLOCK_ACCESS_FS_IOCTL_DEV`
pub const IOCTL_DEVICE: u64 = 1 << 15;

/// Those that mean something for a file that is no directory; the kernel refuses others there.
pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE;

/// The interface's version, by which a kernel says which rights it knows; 0 from one without Landlock, or with Landlock turned
/// off.
#[must_use]
pub fn version() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads no structure.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// The rights that a version of the interface knows.
#[must_use]
pub fn known(version: u32) -> u64 {
    match version {
        0 => 0,
        1 => 0x1fff,
        2 => 0x3fff,
        3 | 4 => 0x7fff,
        5.. => 0xffff,
    }
}

/// Rules that are being put together.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

impl Ruleset {
    /// Rules about these rights, none of which is allowed anywhere yet.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if Landlock is turned off, `EINVAL` for rights that the kernel does not know.
    pub fn new(handled: u64) -> io::Result<Self> {
        // SAFETY: the first version of the structure is this one number, whose size is told.
        own_fd(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const handled,
                size_of::<u64>(),
                0,
            )
        })
        .map(Self)
    }

    /// Allows `rights` for `place` and all below it.
    ///
    /// # Errors
    /// `EINVAL` for rights that are not handled, or of directories where `place` is none; `EBADFD` where `place` is on no
    /// filesystem that has paths, as a pipe.
    pub fn allow(&self, place: BorrowedFd<'_>, rights: u64) -> io::Result<()> {
        const BENEATH: i32 = 1;
        #[repr(C, packed)]
        struct Beneath {
            allowed: u64,
            place: i32,
        }
        let rule = Beneath {
            allowed: rights,
            place: place.as_raw_fd(),
        };
        // SAFETY: the structure has the kernel's layout for this kind of rule and outlives the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                BENEATH,
                &raw const rule,
                0,
            )
        })?;
        Ok(())
    }

    /// Puts the calling thread and what it starts under the rules.
    ///
    /// # Errors
    /// `EPERM` without no-new-privileges or `CAP_SYS_ADMIN`, `E2BIG` after sixteen rulesets.
    pub fn enforce(self) -> io::Result<()> {
        // SAFETY: takes integers and no pointers.
        check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) })?;
        Ok(())
    }
}
