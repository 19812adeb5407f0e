//! Mounts in the words of `mount(8)`, which containerd's snapshots and tasks use.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{
    ATIME_MASK, Attr, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, Propagation, RDONLY, STRICTATIME,
    Tree, attach, cwd, detach, new_filesystem, open_tree, set_attr,
};
use crate::raw::{bytes, check, cstr};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{is_mount_point, unmount_recursive};

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
}
