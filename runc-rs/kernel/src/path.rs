//! Opening and making files below a directory that nothing inside it can make us leave.
//!
//! A container's image is hostile: any name in it may be a link to anywhere, and may change while we look. So every path inside
//! a rootfs is resolved by the kernel with `openat2(2)` and `RESOLVE_IN_ROOT`, and what comes out is a descriptor.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::raw::{check, cstr, own_fd};

/// How far a path may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// Absolute links and `..` stop at the directory, as in a chroot (`RESOLVE_IN_ROOT`); magic links are refused.
    Root,
    /// Leaving the directory is an error, and so are links and other mounts: for procfs and sysfs that must be what they seem.
    Beneath,
}

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// The layout of `struct open_how`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `dir`. `flags` are those of `open(2)`; `O_CLOEXEC` is added. Kernel 5.6; see `openat2(2)`.
///
/// # Errors
/// `ELOOP` for a forbidden link, `EXDEV` for leaving or crossing, else what open says. Asks again after `EAGAIN`, which the
/// kernel gives when something was renamed meanwhile.
pub fn open_in(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: i32,
    mode: u32,
    within: Within,
) -> io::Result<OwnedFd> {
    let resolve = match within {
        Within::Root => RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        Within::Beneath => {
            RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
        }
    };
    let creating = flags & (libc::O_CREAT | libc::O_TMPFILE) != 0;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: if creating { u64::from(mode) } else { 0 },
        resolve,
    };
    let path = cstr(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })?;
    let mut tries = 0;
    loop {
        // SAFETY: the path is a C string and the structure is laid out as the kernel reads it; both outlive the call.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match own_fd(ret) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && tries < 128 => tries += 1,
            other => return other,
        }
    }
}

/// Opens a directory by path with `O_PATH`, for use as `dir` of [`open_in`].
///
/// # Errors
/// What open says.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let path = cstr(path)?;
    // SAFETY: the path is a C string that outlives the call.
    own_fd(libc::c_long::from(unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    }))
}

/// Opens the directory `path` below `root`, making what is missing of it with `mode`. Dangling links on the way are followed as
/// if the container had made their targets.
///
/// # Errors
/// `ENOTDIR` if something on the way is a file, `ELOOP` after 40 links.
pub fn make_dirs_in(root: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match open_in(root, path, flags, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let mut todo: Vec<OsString> = names(path);
    todo.reverse();
    let mut done = PathBuf::new();
    let mut dir = root.try_clone_to_owned()?;
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            done.pop();
            dir = open_in(root, &done, flags, 0, Within::Root)?;
            continue;
        }
        let next = done.join(&name);
        match open_in(root, &next, flags, 0, Within::Root) {
            Ok(fd) => dir = fd,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                if let Some(target) = read_link_at(dir.as_fd(), Path::new(&name))? {
                    links += 1;
                    if links > 40 {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    if target.is_absolute() {
                        done = PathBuf::new();
                        dir = root.try_clone_to_owned()?;
                    }
                    todo.extend(names(&target).into_iter().rev());
                    continue;
                }
                make_dir_at(dir.as_fd(), Path::new(&name), mode)?;
                dir = open_in(root, &next, flags, 0, Within::Root)?;
            }
            Err(e) => return Err(e),
        }
        done = next;
    }
    Ok(dir)
}

/// Opens (`O_PATH`) the file `path` below `root`, making an empty one with `mode`, and its directories with 0755, if missing.
///
/// # Errors
/// What the kernel says.
pub fn make_file_in(root: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match open_in(root, path, libc::O_PATH, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let (dir, name) = parent_in(root, path)?;
    if let Some(target) = read_link_at(dir.as_fd(), &name)? {
        // A dangling link: make what it points to. A second link there is not followed.
        let target = match target.strip_prefix("/") {
            Ok(absolute) => absolute.to_path_buf(),
            Err(_) => path.parent().unwrap_or(Path::new("")).join(target),
        };
        let (dir, name) = parent_in(root, &target)?;
        create_at(dir.as_fd(), &name, mode)?;
    } else {
        create_at(dir.as_fd(), &name, mode)?;
    }
    open_in(root, path, libc::O_PATH, 0, Within::Root)
}

/// The directory that holds `path` below `root`, made if missing, and the last name. `EINVAL` if there is none.
///
/// # Errors
/// What the kernel says.
pub fn parent_in(root: BorrowedFd<'_>, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let dir = make_dirs_in(root, path.parent().unwrap_or(Path::new("")), 0o755)?;
    Ok((dir, PathBuf::from(name)))
}

fn create_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = cstr(name)?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a C string that outlives the call.
    let made = own_fd(libc::c_long::from(unsafe {
        libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode)
    }));
    match made {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

fn make_dir_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = cstr(name)?;
    // SAFETY: the name is a C string that outlives the call.
    match check(libc::c_long::from(unsafe {
        libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode)
    })) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// Where the link `name` in `dir` points, or `None` if it is no link or does not exist.
///
/// # Errors
/// What `readlinkat(2)` says otherwise.
pub fn read_link_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Option<PathBuf>> {
    let name = cstr(name)?;
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the name is a C string, and the buffer is as long as said.
    let ret = unsafe {
        libc::readlinkat(
            dir.as_raw_fd(),
            name.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    match check(ret as libc::c_long) {
        Ok(len) => {
            target.truncate(len as usize);
            Ok(Some(PathBuf::from(OsString::from_vec(target))))
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The names of `path` without root and dots; `..` is kept.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// The magic number of the filesystem behind `fd`. See `fstatfs(2)`.
///
/// # Errors
/// What the kernel says.
pub fn filesystem_type(fd: BorrowedFd<'_>) -> io::Result<i64> {
    Ok(statfs(fd)?.f_type)
}

/// Whether the mount behind `fd` is read-only.
///
/// # Errors
/// What the kernel says.
pub fn is_read_only(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(nix::sys::statvfs::fstatvfs(fd)?
        .flags()
        .contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
}

/// Gives the open file `fd` the label of SELinux. See `fsetxattr(2)`, `security.selinux`.
///
/// # Errors
/// `EOPNOTSUPP` on a filesystem without labels, `EINVAL` for one that the policy does not know.
pub fn set_label(fd: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    Ok(rustix::fs::fsetxattr(
        fd,
        "security.selinux",
        label.as_bytes(),
        flags,
    )?)
}

fn statfs(fd: BorrowedFd<'_>) -> io::Result<libc::statfs> {
    let mut out = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel fills in one statfs structure, which is what the pointer is to.
    check(libc::c_long::from(unsafe {
        libc::fstatfs(fd.as_raw_fd(), out.as_mut_ptr())
    }))?;
    // SAFETY: it was zeroed, which is a valid value, and then filled in.
    Ok(unsafe { out.assume_init() })
}

/// `PROC_SUPER_MAGIC`
pub const PROC_MAGIC: i64 = libc::PROC_SUPER_MAGIC;
/// `DEVPTS_SUPER_MAGIC`
pub const DEVPTS_MAGIC: i64 = 0x1cd1;
/// `CGROUP2_SUPER_MAGIC`
pub const CGROUP2_MAGIC: i64 = libc::CGROUP2_SUPER_MAGIC;
/// `CGROUP_SUPER_MAGIC`
pub const CGROUP_MAGIC: i64 = libc::CGROUP_SUPER_MAGIC;
/// `TMPFS_MAGIC`
pub const TMPFS_MAGIC: i64 = libc::TMPFS_MAGIC;

/// The host's procfs, checked to be one and to be its root (inode 1), so that a bind mount over it is not taken for it.
///
/// # Errors
/// `ENXIO` if it is something else.
pub fn open_proc() -> io::Result<OwnedFd> {
    let proc = open_dir(Path::new("/proc"))?;
    let root =
        std::os::unix::fs::MetadataExt::ino(&std::fs::File::from(proc.try_clone()?).metadata()?)
            == 1;
    if filesystem_type(proc.as_fd())? == PROC_MAGIC && root {
        Ok(proc)
    } else {
        Err(io::Error::from_raw_os_error(libc::ENXIO))
    }
}

/// Writes `text` to the file `path` below `proc`, which [`open_proc`] has checked. A link, or something mounted over the file or
/// above it, is an error: a write there has its effect in the kernel or none.
///
/// # Errors
/// `EXDEV` for something else mounted there, `ELOOP` for a link, else what the kernel says.
pub fn write_proc(proc: BorrowedFd<'_>, path: &Path, text: &str) -> io::Result<()> {
    let file = open_in(proc, path, libc::O_WRONLY, 0, Within::Beneath)?;
    std::io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_cannot_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc", dir.path().join("up")).unwrap();
        let root = open_dir(dir.path()).unwrap();
        for name in ["absolute/passwd", "up/passwd", "../../etc/passwd"] {
            let error = open_in(
                root.as_fd(),
                Path::new(name),
                libc::O_RDONLY,
                0,
                Within::Root,
            )
            .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{name}");
        }
        make_dirs_in(root.as_fd(), Path::new("absolute/made/here"), 0o755).unwrap();
        assert!(
            dir.path().join("etc/made/here").is_dir(),
            "the link was followed inside the root"
        );
        assert!(!Path::new("/etc/made").exists());
    }

    #[test]
    fn dangling_links_are_followed_inside_when_files_are_made() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/run/resolv.conf", dir.path().join("resolv.conf")).unwrap();
        let root = open_dir(dir.path()).unwrap();
        make_file_in(root.as_fd(), Path::new("/resolv.conf"), 0o644).unwrap();
        assert!(dir.path().join("run/resolv.conf").is_file());
    }

    #[test]
    fn the_hosts_proc_is_recognised() {
        open_proc().unwrap();
    }
}
