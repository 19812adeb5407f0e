//! A container's root file system as an open directory, whether or not it
//! runs, and copies of trees out of it.
//!
//! One that does not run is mounted at a place of the engine's own, opened and
//! at once detached again: the descriptor keeps the mount alive, and nothing is
//! left in the tree of mounts when the daemon dies.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use kernel::path::Within;
use lite_core::{Because, Result};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::engine::{Engine, SNAPSHOTTER};
use lite_core::ids::Id;

/// Opens the root file system of the container `id`, whose main process has
/// the number `pid`, or zero.
///
/// # Errors
/// Those of mounting and opening.
pub(crate) fn open(engine: &Engine, id: &str, pid: u32) -> Result<OwnedFd> {
    if pid != 0 {
        let root = format!("/proc/{pid}/root");
        return kernel::path::open_dir(Path::new(&root)).op(|| format!("open {root}"));
    }
    let mounts = engine
        .core()
        .snapshots
        .mounts(engine.ns(), SNAPSHOTTER, id)?;
    open_mounts(engine, &mounts)
}

fn open_mounts(engine: &Engine, mounts: &[lite_core::Mount]) -> Result<OwnedFd> {
    let random = Id::generate().op(|| "make an id".to_owned())?;
    let place = engine.config().state.join("mnt").join(random.short());
    let what = || format!("mount a root file system on {}", place.display());
    fs::create_dir_all(&place).op(what)?;
    let words: Vec<kernel::mount::Mount<'_>> = mounts
        .iter()
        .map(|mount| kernel::mount::Mount {
            kind: &mount.kind,
            source: &mount.source,
            target: &mount.target,
            options: &mount.options,
        })
        .collect();
    let opened = kernel::mount::mount_all(&words, &place).and_then(|()| {
        let opened = kernel::path::open_dir(&place);
        kernel::mount::detach(&place)?;
        opened
    });
    // Empty again; one that cannot be removed is swept at the next start.
    let _ = fs::remove_dir(&place);
    opened.op(what)
}

/// Unmounts and removes what a daemon that was killed half way has left.
pub(crate) fn sweep(state: &Path) {
    let Ok(entries) = fs::read_dir(state.join("mnt")) else {
        return;
    };
    for entry in entries.flatten() {
        // Nothing mounted there is the usual case.
        let _ = kernel::mount::detach(&entry.path());
        let _ = fs::remove_dir(entry.path());
    }
}

/// The directory `path` of an open root, through which its children are
/// reached; `None` where there is no such directory. Links on the way stay
/// inside the root.
///
/// # Errors
/// Those of opening.
pub(crate) fn directory(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_RDONLY;
    match kernel::path::open_in(root.as_fd(), Path::new(path), flags.bits(), 0, Within::Root) {
        Err(err)
            if matches!(
                err.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// A path for what is open.
pub(crate) fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Copies what is in the directory `from` into the directory `to`, with owners,
/// modes, times, links and devices, and gives `to` the owner and mode of `from`.
///
/// # Errors
/// The first thing that could not be copied.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let mut linked = HashMap::new();
    copy_children(from, to, &mut linked)?;
    let about = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(about.uid()), Some(about.gid()))?;
    fs::set_permissions(to, Permissions::from_mode(about.mode() & 0o7777))
}

/// Files that were copied and have further names.
type Linked = HashMap<(u64, u64), PathBuf>;

fn copy_children(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_one(&entry.path(), &to.join(entry.file_name()), linked)?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    let about = fs::symlink_metadata(from)?;
    let kind = about.file_type();
    let key = (about.dev(), about.ino());
    if !kind.is_dir() && about.nlink() > 1 {
        if let Some(first) = linked.get(&key) {
            return fs::hard_link(first, to);
        }
        linked.insert(key, to.to_owned());
    }
    if kind.is_dir() {
        fs::create_dir(to)?;
        copy_children(from, to, linked)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
    } else if kind.is_socket() {
        // Nobody listens on a copy.
        return Ok(());
    } else {
        let flag = if kind.is_fifo() {
            SFlag::S_IFIFO
        } else if kind.is_block_device() {
            SFlag::S_IFBLK
        } else {
            SFlag::S_IFCHR
        };
        mknod(to, flag, Mode::empty(), about.rdev())?;
    }
    lchown(to, Some(about.uid()), Some(about.gid()))?;
    if !kind.is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(about.mode() & 0o7777))?;
    }
    utimensat(
        nix::fcntl::AT_FDCWD,
        to,
        &TimeSpec::new(about.atime(), about.atime_nsec()),
        &TimeSpec::new(about.mtime(), about.mtime_nsec()),
        UtimensatFlags::NoFollowSymlink,
    )?;
    Ok(())
}

/// Bytes that the files below `path` take on disk, each counted once, as
/// `du(1)` does. What goes away meanwhile does not count.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut total = 0;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue;
        };
        if about.nlink() > 1 && !about.is_dir() && !seen.insert((about.dev(), about.ino())) {
            continue;
        }
        total += about.blocks() * 512;
        if about.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            left.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_links_modes_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::set_permissions(from.join("sub/file"), Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o1777)).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("again")).unwrap(), "text");
        let (a, b) = (
            fs::metadata(to.join("again")),
            fs::metadata(to.join("sub/file")),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4750));
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/nowhere")
        );
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        let times = |path: &Path| fs::metadata(path).unwrap().mtime_nsec();
        assert_eq!(times(&to.join("again")), times(&from.join("again")));
    }
}
