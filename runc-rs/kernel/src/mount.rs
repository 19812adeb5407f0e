//! The mount interface by file descriptors, and mounts in the words of `mount(8)`.
//!
//! The runtime makes every mount detached ([`new_filesystem`], [`open_tree`]), sets its attributes, and attaches it to a
//! descriptor of the target ([`attach`]), so that no path inside a rootfs is looked up twice. The shim and the daemon use
//! [`mount_all`] and [`unmount_recursive`] on trusted paths.

mod options;
mod table;

pub use options::{Mount, mount_all};
pub use table::{is_mount_point, mount_points, mount_points_of, unmount_recursive};

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount as api;

use crate::raw::{check, cstr};

/// `MOUNT_ATTR_RDONLY`
pub const RDONLY: u64 = 0x01;
/// `MOUNT_ATTR_NOSUID`
pub const NOSUID: u64 = 0x02;
/// `MOUNT_ATTR_NODEV`
pub const NODEV: u64 = 0x04;
/// `MOUNT_ATTR_NOEXEC`
pub const NOEXEC: u64 = 0x08;
/// `MOUNT_ATTR__ATIME`: the bits that choose one of the access time modes; must be cleared to set one.
pub const ATIME_MASK: u64 = 0x70;
/// `MOUNT_ATTR_NOATIME`
pub const NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`
pub const STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`
pub const NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_IDMAP`
pub const IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR_NOSYMFOLLOW`
pub const NOSYMFOLLOW: u64 = 0x0020_0000;

/// How mount events travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Only in.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bind mounted.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of attributes, as `mount_setattr(2)` takes it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attr<'a> {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Propagation to change to.
    pub propagation: Option<Propagation>,
    /// With [`IDMAP`]: the user namespace whose mapping the mount gets.
    pub userns: Option<BorrowedFd<'a>>,
}

/// What [`open_tree`] opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// The place itself, as `O_PATH` would.
    Place,
    /// A detached copy of the mount there: a bind mount waiting to be attached.
    Clone {
        /// With the mounts below it.
        recursive: bool,
    },
}

/// Stands for the current directory where a directory descriptor is asked for.
#[must_use]
pub fn cwd() -> BorrowedFd<'static> {
    rustix::fs::CWD
}

/// Opens the place `path` (empty: `dir` itself), or a detached copy of the mount there. Close-on-exec. Kernel 5.2.
///
/// # Errors
/// `EPERM` for a copy without `CAP_SYS_ADMIN`, `EINVAL` for an unbindable mount, else what open says.
pub fn open_tree(dir: BorrowedFd<'_>, path: &Path, tree: Tree) -> io::Result<OwnedFd> {
    let mut flags = api::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= api::OpenTreeFlags::AT_EMPTY_PATH;
    }
    if let Tree::Clone { recursive } = tree {
        flags |= api::OpenTreeFlags::OPEN_TREE_CLONE;
        if recursive {
            flags |= api::OpenTreeFlags::AT_RECURSIVE;
        }
    }
    Ok(api::open_tree(dir, path, flags)?)
}

/// Attaches the detached mount `tree` at the place `target`. See `move_mount(2)`.
///
/// # Errors
/// `ENOTDIR` if one is a directory and the other not.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags =
        api::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | api::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(api::move_mount(tree, "", target, "", flags)?)
}

/// Changes the attributes of the mount behind `mount`, and with `recursive` of those below it. Kernel 5.12; see
/// `mount_setattr(2)`.
///
/// # Errors
/// `EINVAL` if the descriptor is not the root of a mount, `EPERM` for locked attributes.
pub fn set_attr(mount: BorrowedFd<'_>, recursive: bool, attr: &Attr<'_>) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = MountAttr {
        set: attr.set,
        clear: attr.clear,
        propagation: attr.propagation.map_or(0, Propagation::flag),
        userns: attr.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and the structure has the kernel's layout and the size said; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// A new, detached mount of a filesystem. `options` are the filesystem's own, key and value; `attributes` those of the mount.
/// Kernel 5.2; see `fsopen(2)`.
///
/// # Errors
/// `ENODEV` for an unknown filesystem, `EINVAL` for an unknown option or a value longer than 255 bytes.
pub fn new_filesystem(
    kind: &str,
    source: Option<&str>,
    options: &[(String, Option<String>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = api::fsopen(kind, api::FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        api::fsconfig_set_string(&context, "source", source)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => api::fsconfig_set_string(&context, key.as_str(), value.as_str())?,
            None => api::fsconfig_set_flag(&context, key.as_str())?,
        }
    }
    api::fsconfig_create(&context)?;
    let attributes = api::MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(api::fsmount(
        &context,
        api::FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Detaches whatever is mounted at `path` from the tree now, and frees it when it is no longer used (`MNT_DETACH`). Links are
/// not followed.
///
/// # Errors
/// `EINVAL` if nothing is mounted there.
pub fn detach(path: &Path) -> io::Result<()> {
    let path = cstr(path)?;
    // SAFETY: the path is a C string that outlives the call.
    check(libc::c_long::from(unsafe {
        libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW)
    }))?;
    Ok(())
}

/// Changes the propagation of every mount of the calling namespace.
///
/// # Errors
/// What the kernel says.
pub fn set_propagation(path: &Path, recursive: bool, propagation: Propagation) -> io::Result<()> {
    let path = cstr(path)?;
    let flags = propagation.flag() | if recursive { libc::MS_REC } else { 0 };
    // SAFETY: the path is a C string, the other pointers are null, which the kernel ignores for this operation.
    check(libc::c_long::from(unsafe {
        libc::mount(
            std::ptr::null(),
            path.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    }))?;
    Ok(())
}

/// Makes the mount `root` the root of the calling mount namespace and detaches the old one. See `pivot_root(2)`: with the same
/// directory as both arguments the old root lands on top of the new one, so the rootfs needs no directory for it.
///
/// # Errors
/// `EINVAL` if `root` is not a mount, or its parent is shared, or the current root is the initial ramdisk.
pub fn pivot_into(root: BorrowedFd<'_>) -> io::Result<()> {
    let old = crate::path::open_dir(Path::new("/"))?;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old)?;
    // What is unmounted here must not be unmounted on the host as well.
    set_propagation(Path::new("."), true, Propagation::Slave)?;
    // SAFETY: the path is a C string literal.
    check(libc::c_long::from(unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    }))?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Where `pivot_root` cannot work (an initial ramdisk): moves the mount `root` over `/` and changes root into it.
///
/// # Errors
/// What the kernel says.
pub fn move_into(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    let flags = api::MoveMountFlags::empty();
    api::move_mount(rustix::fs::CWD, ".", rustix::fs::CWD, "/", flags)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Which mount a descriptor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The mount's number. From kernel 6.8 on no other mount has or gets it until the next boot; before, it is free again once
    /// the mount is gone.
    pub number: u64,
    /// Whether the descriptor is the mount's root.
    pub is_root: bool,
}

/// The mount that `fd` is in. See `statx(2)`; kernel 5.8.
///
/// # Errors
/// `ENOSYS` from a kernel that numbers no mounts.
pub fn number(fd: BorrowedFd<'_>) -> io::Result<Number> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a C string, and the kernel fills in one statx structure, which is what the pointer is to.
    check(libc::c_long::from(unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID | STATX_MNT_ID_UNIQUE,
            found.as_mut_ptr(),
        )
    }))?;
    // SAFETY: it was zeroed, which is a valid value, and then filled in.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & (libc::STATX_MNT_ID | STATX_MNT_ID_UNIQUE) == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(Number {
        number: found.stx_mnt_id,
        is_root: found.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
    })
}

/// Detaches the mount whose root is `mount` (`MNT_DETACH`), and no other that may have taken its place since that was opened:
/// the kernel is told by `proc`, a procfs that [`crate::path::open_proc`] has checked. Changes the working directory.
///
/// # Errors
/// `EINVAL` if it is no root of a mount, or not of the calling namespace.
pub fn detach_opened(proc: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(proc)?;
    let path = format!("thread-self/fd/{}", mount.as_raw_fd());
    let path = cstr(Path::new(&path))?;
    // SAFETY: the path is a C string that outlives the call.
    check(libc::c_long::from(unsafe {
        libc::umount2(path.as_ptr(), libc::MNT_DETACH)
    }))?;
    Ok(())
}
