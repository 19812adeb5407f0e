//! What of a container's mounts comes from outside: criu is told of each by name, and at a restore where it comes from.
//!
//! A bind mount's name is its place in the container. What covers masked files is the host's null device, under its own name.
//! At a restore the rootfs needs its mount points before criu comes: they are made by mounting everything that is bound, in
//! order, as creating the container did. All of that happens in a mount namespace that ends with criu ([`apart`]), so that
//! nothing is left on the host however a restore ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::clone::ns;
use kernel::mount::{self, Propagation, Tree};
use kernel::path::{self, Within};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::wire::ExternalMount;
use crate::failure::{Context, Result};
use crate::host::CgroupView;
use crate::mount_options::{Mounting, What};

/// The name, and the source, of what covers masked files.
const NULL: &str = "/dev/null";

/// A mount from outside: its place in the container and the place on the host it comes from.
pub(crate) type External = (PathBuf, PathBuf);

/// Those of a config. `bound` are the cgroups that are shown as bind mounts, empty where they are filesystems; `devices` the
/// nodes that are bound.
pub(crate) fn external(
    mounts: &[Mounting],
    bound: &[CgroupView],
    devices: &[PathBuf],
) -> Vec<External> {
    let mut found = Vec::new();
    for mounting in mounts {
        match (&mounting.what, &mounting.source) {
            (What::Bind { .. }, Some(source)) => {
                found.push((mounting.destination.clone(), source.clone()));
            }
            (What::Cgroup, _) => found.extend(
                bound
                    .iter()
                    .map(|view| (mounting.destination.join(&view.name), view.dir.clone())),
            ),
            _ => {}
        }
    }
    found.extend(devices.iter().map(|path| (path.clone(), path.clone())));
    found
}

/// For a dump of what has `root`: the mounts, and those of the masked paths that are files.
pub(crate) fn for_dump(
    root: BorrowedFd<'_>,
    external: &[External],
    masked: &[PathBuf],
) -> io::Result<Vec<ExternalMount>> {
    let mut all = Vec::new();
    for (place, _) in external {
        let place = resolve(root, place)?;
        all.push(entry(&place, &place));
    }
    for place in masked {
        match path::open_in(root, place, OFlag::O_PATH.bits(), 0, Within::Root) {
            Ok(fd) if fstat(&fd)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() => {
                all.push(entry(place, Path::new(NULL)));
            }
            _ => {}
        }
    }
    Ok(all)
}

/// For a restore into the rootfs `root`, which is at `at` on the host.
pub(crate) fn for_restore(
    root: BorrowedFd<'_>,
    at: &Path,
    external: &[External],
    masks: bool,
) -> io::Result<Vec<ExternalMount>> {
    let mut all = Vec::new();
    for (place, source) in external {
        let resolved = resolve(root, place)?;
        let inside = resolved.strip_prefix(at).unwrap_or(&resolved);
        all.push(entry(&Path::new("/").join(inside), source));
    }
    if masks {
        all.push(entry(Path::new(NULL), Path::new(NULL)));
    }
    Ok(all)
}

fn entry(key: &Path, value: &Path) -> ExternalMount {
    ExternalMount {
        key: key.to_string_lossy().into_owned(),
        value: value.to_string_lossy().into_owned(),
    }
}

/// `place` without links, as the kernel names it: on the host below the rootfs, in another mount namespace from its root. What
/// is missing at the end stays as it is.
fn resolve(root: BorrowedFd<'_>, place: &Path) -> io::Result<PathBuf> {
    for above in place.ancestors() {
        match path::open_in(root, above, OFlag::O_PATH.bits(), 0, Within::Root) {
            Ok(fd) => {
                let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
                let rest = place.strip_prefix(above).unwrap_or(Path::new(""));
                return Ok(if rest.as_os_str().is_empty() {
                    real
                } else {
                    real.join(rest)
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(place.to_path_buf())
}

/// A new mount namespace in which the rootfs is a mount at `at`, with all the places that mounts need, and what `within` opens
/// there: criu mounts below its working directory, which must be one of its own namespace. The caller is back in its own when
/// this returns.
pub(crate) fn apart<T>(
    rootfs: &Path,
    at: &Path,
    mounts: &[Mounting],
    within: impl FnOnce() -> Result<T>,
) -> Result<(OwnedFd, T)> {
    let about = || "make a mount namespace for criu".to_owned();
    let own = File::open("/proc/self/ns/mnt").context(about)?;
    let cwd = path::open_dir(Path::new(".")).context(about)?;
    kernel::process::unshare(ns::MOUNT).context(about)?;
    let made = mount::set_propagation(Path::new("/"), true, Propagation::Slave)
        .context(about)
        .and_then(|()| prepare(rootfs, at, mounts))
        .and_then(|()| within())
        .and_then(|opened| {
            let new = File::open("/proc/self/ns/mnt").context(about)?;
            Ok((OwnedFd::from(new), opened))
        });
    kernel::process::setns(own.as_fd(), ns::MOUNT)
        .and_then(|()| Ok(nix::unistd::fchdir(&cwd)?))
        .context(|| "go back to own mount namespace".to_owned())?;
    made
}

fn prepare(rootfs: &Path, at: &Path, mounts: &[Mounting]) -> Result<()> {
    let about = || format!("prepare {} for restoring", rootfs.display());
    bind_rootfs(rootfs, at).context(about)?;
    let root = path::open_dir(at).context(about)?;
    for mounting in mounts {
        make_place(root.as_fd(), mounting, mounts)
            .context(|| format!("make a place for {mounting}"))?;
    }
    drop(root);
    // The places are there now; criu does the mounting.
    mount::detach(at)
        .and_then(|()| bind_rootfs(rootfs, at))
        .context(about)
}

fn bind_rootfs(rootfs: &Path, at: &Path) -> io::Result<()> {
    let tree = mount::open_tree(mount::cwd(), rootfs, Tree::Clone { recursive: true })?;
    mount::attach(tree.as_fd(), path::open_dir(at)?.as_fd())
}

fn make_place(root: BorrowedFd<'_>, mounting: &Mounting, all: &[Mounting]) -> io::Result<()> {
    // criu brings the whole content of a tmpfs back, and what is in sysfs is there.
    if on_tmpfs(&mounting.destination, all) {
        return Ok(());
    }
    match (&mounting.what, &mounting.source) {
        (What::Bind { recursive }, Some(source)) => {
            let copy = Tree::Clone {
                recursive: *recursive,
            };
            let tree = mount::open_tree(mount::cwd(), source, copy)?;
            let directory = fstat(&tree)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
            let place = if directory {
                path::make_dirs_in(root, &mounting.destination, 0o755)?
            } else {
                path::make_file_in(root, &mounting.destination, 0o755)?
            };
            mount::attach(tree.as_fd(), place.as_fd())
        }
        (What::New(_), _) => path::make_dirs_in(root, &mounting.destination, 0o755).map(drop),
        // Below /sys, or on the tmpfs that holds the controllers.
        (What::Bind { .. } | What::Cgroup | What::Remount, _) => Ok(()),
    }
}

fn on_tmpfs(place: &Path, mounts: &[Mounting]) -> bool {
    mounts.iter().any(|mounting| {
        mounting.what == What::New("tmpfs".to_owned())
            && place != mounting.destination
            && place.starts_with(&mounting.destination)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mounting(json: &str) -> Mounting {
        Mounting::parse(
            &serde_json::from_str(json).unwrap(),
            Path::new("/bundle"),
            Path::new("/bundle/rootfs"),
        )
    }

    #[test]
    fn what_is_bound_comes_from_outside() {
        let mounts = [
            mounting(r#"{"destination":"/data","source":"d","options":["rbind"]}"#),
            mounting(r#"{"destination":"/tmp","type":"tmpfs"}"#),
            mounting(r#"{"destination":"/sys/fs/cgroup","type":"cgroup"}"#),
        ];
        let views = [CgroupView {
            name: "cpu,cpuacct".to_owned(),
            controllers: Vec::new(),
            dir: "/cg/cpu/c".into(),
        }];
        let found = external(&mounts, &views, &["/dev/null".into()]);
        let pair = |place: &str, source: &str| (PathBuf::from(place), PathBuf::from(source));
        assert_eq!(
            found,
            [
                pair("/data", "/bundle/d"),
                pair("/sys/fs/cgroup/cpu,cpuacct", "/cg/cpu/c"),
                pair("/dev/null", "/dev/null"),
            ]
        );
        assert!(on_tmpfs(Path::new("/tmp/x"), &mounts));
        assert!(!on_tmpfs(Path::new("/tmp"), &mounts));
        assert!(!on_tmpfs(Path::new("/tmpx"), &mounts));
    }

    #[test]
    fn names_are_places_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(at.join("real/conf")).unwrap();
        symlink("/real/conf", at.join("conf")).unwrap();
        let root = path::open_dir(&at).unwrap();
        let all = [
            ("/conf".into(), "/s".into()),
            ("/conf/no/where".into(), "/t".into()),
        ];
        let found = for_restore(root.as_fd(), &at, &all, true).unwrap();
        let keys: Vec<&str> = found.iter().map(|m| m.key.as_str()).collect();
        assert_eq!(keys, ["/real/conf", "/real/conf/no/where", "/dev/null"]);
    }
}
