//! The mount interface by file descriptors, and mounts in the words of `mount(8)`.
//!
//! The runtime makes every mount detached ([`new_filesystem`], [`open_tree`]), sets its attributes, and attaches it to a
//! descriptor of the target ([`attach`]), so that no path inside a rootfs is looked up twice. The shim and the daemon use
//! [`mount_all`] and [`unmount_recursive`] on trusted paths.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount as api;

use crate::raw::{bytes, check, cstr};

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

/// One mount in the words of `mount(8)`: what containerd's snapshots and tasks speak of.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Filesystem (`overlay`, `tmpfs`, …), or `bind`.
    pub kind: &'a str,
    /// Device, directory, or a name.
    pub source: &'a str,
    /// Path below the target of [`mount_all`]; empty for the target itself.
    pub target: &'a str,
    /// `ro`, `rbind`, `lowerdir=…` and so on.
    pub options: &'a [String],
}

/// Mounts each of `mounts` on `target` (or below, where a mount says so), in order. On failure those already made are
/// unmounted again. `target` is trusted; a mount's own `target` is resolved inside it.
///
/// # Errors
/// That of the first mount that failed.
pub fn mount_all(mounts: &[Mount<'_>], target: &Path) -> io::Result<()> {
    let mut made: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let place = target.join(mount.target.trim_start_matches('/'));
        if let Err(error) = mount_one(mount, target, &place) {
            for place in made.iter().rev() {
                // The first error is the one to report; what cannot be undone shows up in unmount_recursive.
                let _first_wins = detach(place);
            }
            return Err(error);
        }
        made.push(place);
    }
    Ok(())
}

fn mount_one(mount: &Mount<'_>, target: &Path, place: &Path) -> io::Result<()> {
    let words = Words::parse(mount.options);
    let place_fd = if mount.target.is_empty() {
        open_tree(cwd(), place, Tree::Place)?
    } else {
        let root = crate::path::open_dir(target)?;
        crate::path::make_dirs_in(root.as_fd(), Path::new(mount.target), 0o755)?
    };
    if words.bind || mount.kind == "bind" || mount.kind == "rbind" {
        let recursive = words.recursive || mount.kind == "rbind";
        let tree = open_tree(cwd(), Path::new(mount.source), Tree::Clone { recursive })?;
        let attr = Attr {
            set: words.set,
            clear: words.clear,
            propagation: words.propagation,
            userns: None,
        };
        if attr.set | attr.clear != 0 || attr.propagation.is_some() {
            set_attr(tree.as_fd(), false, &attr)?;
        }
        return attach(tree.as_fd(), place_fd.as_fd());
    }
    let data = words.own.join(",");
    let tree = if words.own.iter().all(|o| o.len() < 256) {
        let own: Vec<(String, Option<String>)> = words
            .own
            .iter()
            .map(|o| match o.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (o.clone(), None),
            })
            .collect();
        new_filesystem(mount.kind, Some(mount.source), &own, words.set)?
    } else if mount.kind == "overlay" && data.len() >= 4096 {
        overlay_of_many(mount.source, &words)?
    } else {
        return mount_by_path(mount, place, &words, &data);
    };
    attach(tree.as_fd(), place_fd.as_fd())
}

/// An overlay whose layers do not fit the page that `mount(2)` reads: one layer at a time (kernel 6.8).
fn overlay_of_many(source: &str, words: &Words) -> io::Result<OwnedFd> {
    let mut options = Vec::new();
    for option in &words.own {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => {
                options.extend(
                    layers
                        .split(':')
                        .map(|layer| ("lowerdir+".to_owned(), Some(layer.to_owned()))),
                );
            }
            Some((key, value)) => options.push((key.to_owned(), Some(value.to_owned()))),
            None => options.push((option.clone(), None)),
        }
    }
    new_filesystem("overlay", Some(source), &options, words.set)
}

/// `mount(2)`, for options that are longer than `fsconfig(2)` takes.
fn mount_by_path(mount: &Mount<'_>, place: &Path, words: &Words, data: &str) -> io::Result<()> {
    let (source, place, kind, data) = (
        bytes(mount.source.as_bytes())?,
        cstr(place)?,
        bytes(mount.kind.as_bytes())?,
        bytes(data.as_bytes())?,
    );
    let mut flags = 0;
    for (attribute, flag) in [
        (RDONLY, libc::MS_RDONLY),
        (NOSUID, libc::MS_NOSUID),
        (NODEV, libc::MS_NODEV),
        (NOEXEC, libc::MS_NOEXEC),
    ] {
        if words.set & attribute != 0 {
            flags |= flag;
        }
    }
    match words.set & ATIME_MASK {
        NOATIME => flags |= libc::MS_NOATIME,
        STRICTATIME => flags |= libc::MS_STRICTATIME,
        _ => {}
    }
    // SAFETY: four C strings that outlive the call; the data is shorter than the page the kernel copies.
    check(libc::c_long::from(unsafe {
        libc::mount(
            source.as_ptr(),
            place.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    }))?;
    Ok(())
}

/// Options of `mount(8)`, sorted into what the mount and what the filesystem is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    bind: bool,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: Option<Propagation>,
    own: Vec<String>,
}

impl Words {
    fn parse(options: &[String]) -> Self {
        let mut words = Words::default();
        for option in options {
            match option.as_str() {
                "bind" => words.bind = true,
                "rbind" => (words.bind, words.recursive) = (true, true),
                "ro" => words.set(RDONLY),
                "rw" => words.unset(RDONLY),
                "nosuid" => words.set(NOSUID),
                "suid" => words.unset(NOSUID),
                "nodev" => words.set(NODEV),
                "dev" => words.unset(NODEV),
                "noexec" => words.set(NOEXEC),
                "exec" => words.unset(NOEXEC),
                "noatime" => words.access_time(NOATIME),
                "relatime" => words.access_time(0),
                "strictatime" => words.access_time(STRICTATIME),
                "nodiratime" => words.set(NODIRATIME),
                "shared" | "rshared" => words.propagation = Some(Propagation::Shared),
                "slave" | "rslave" => words.propagation = Some(Propagation::Slave),
                "private" | "rprivate" => words.propagation = Some(Propagation::Private),
                "unbindable" | "runbindable" => words.propagation = Some(Propagation::Unbindable),
                "defaults" | "" => {}
                _ => words.own.push(option.clone()),
            }
        }
        words
    }

    fn set(&mut self, bit: u64) {
        self.set |= bit;
        self.clear &= !bit;
    }

    fn unset(&mut self, bit: u64) {
        self.set &= !bit;
        self.clear |= bit;
    }

    fn access_time(&mut self, mode: u64) {
        self.set = self.set & !ATIME_MASK | mode;
        self.clear |= ATIME_MASK;
    }
}

/// Unmounts everything that is mounted at `path` and below it, deepest first, lazily. Nothing mounted there is success.
///
/// # Errors
/// That of the first unmount that failed; the others are still tried.
pub fn unmount_recursive(path: &Path) -> io::Result<()> {
    let path = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut places: Vec<PathBuf> = mount_points(&std::fs::read("/proc/self/mountinfo")?)
        .into_iter()
        .filter(|place| place.starts_with(&path))
        .collect();
    // Later mounts lie over earlier ones, so the reverse of the order they were made in always works.
    places.reverse();
    let mut first = Ok(());
    for place in places {
        let result = detach(&place);
        let vanished = matches!(&result, Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)));
        if result.is_err() && !vanished && first.is_ok() {
            first = result;
        }
    }
    first
}

/// The mount points of `mountinfo` (`proc_pid_mountinfo(5)`, field 5), in its order, with octal escapes undone.
#[must_use]
pub fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect()
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\' && tail.len() >= 3)
            .then(|| {
                std::str::from_utf8(&tail[..3])
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            })
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Whether `path` is a mount point of the calling namespace.
///
/// # Errors
/// What reading the list of mounts says.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    Ok(mount_points(&std::fs::read("/proc/self/mountinfo")?)
        .iter()
        .any(|place| place.as_os_str().as_bytes() == path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn an_overlay_is_mounted_read_through_and_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "target"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("lower/file"), "below").unwrap();
        let at = dir.path().display();
        let own = options(&[
            &format!("lowerdir={at}/lower"),
            &format!("upperdir={at}/upper"),
            &format!("workdir={at}/work"),
        ]);
        let target = dir.path().join("target");
        let mounts = [Mount {
            kind: "overlay",
            source: "overlay",
            target: "",
            options: &own,
        }];
        mount_all(&mounts, &target).unwrap();
        let read = std::fs::read_to_string(target.join("file"));
        let mounted = is_mount_point(&target);
        unmount_recursive(&target).unwrap();
        assert_eq!(read.unwrap(), "below");
        assert!(mounted.unwrap());
        assert!(!is_mount_point(&target).unwrap());
        unmount_recursive(&target).unwrap();
    }

    #[test]
    fn a_read_only_bind_refuses_writes_and_a_failed_list_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&target).unwrap();
        let ro = options(&["rbind", "ro"]);
        let from = source.to_str().unwrap();
        let good = Mount {
            kind: "bind",
            source: from,
            target: "",
            options: &ro,
        };
        mount_all(&[good], &target).unwrap();
        let written = std::fs::write(target.join("x"), "");
        unmount_recursive(&target).unwrap();
        assert_eq!(
            written.unwrap_err().kind(),
            io::ErrorKind::ReadOnlyFilesystem
        );

        let bad = Mount {
            kind: "nosuchfs",
            source: "x",
            target: "",
            options: &[],
        };
        let error = mount_all(&[good, bad], &target).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(!is_mount_point(&target).unwrap());
    }

    #[test]
    fn mount_points_with_blanks_are_read_back() {
        let line = b"36 35 98:0 / /a\\040b\\134c rw - ext4 x rw\n";
        assert_eq!(mount_points(line), [PathBuf::from("/a b\\c")]);
    }
}
