//! One mount: made detached, attached to a descriptor of its place, given its attributes. The same for the mounts of a config and
//! for one that is added to a running container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::mount::{self, Attr, Propagation, Tree};
use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::copy_up::copy_up;
use super::places::{directory, not_over_proc, ordinary_directory, place};
use super::{Applied, Init, Progress, StepError};
use crate::mount_options::{Locked, Mounting, What};
use crate::sync::Channel;

impl Init<'_> {
    pub(super) fn mount(
        &mut self,
        root: BorrowedFd<'_>,
        at: usize,
        wanted: &Mounting,
        progress: &Progress,
        channel: Option<&Channel>,
    ) -> Applied {
        let source = match wanted.what {
            What::Bind { recursive } => {
                Some(match self.sources.get_mut(at).and_then(Option::take) {
                    Some(tree) => tree,
                    None => source_inside(root, wanted, recursive, &progress.rootfs)
                        .and_then(|tree| with_owners(tree, at, wanted, channel))?,
                })
            }
            _ => None,
        };
        let around = Around {
            root,
            proc: self.proc.as_fd(),
            shared: progress.later.is_some(),
            locked: self.in_user_namespace,
        };
        around.mount(wanted, source).map(drop)
    }
}

/// What a mount is made in.
pub(super) struct Around<'a> {
    /// The container's root.
    pub(super) root: BorrowedFd<'a>,
    /// The host's procfs, checked.
    pub(super) proc: BorrowedFd<'a>,
    /// Whether the container's mounts are to reach the host.
    pub(super) shared: bool,
    /// Whether attributes that the host set cannot be taken back.
    pub(super) locked: bool,
}

impl Around<'_> {
    /// Mounts, and hands back the mount. `source` is the detached copy of what a bind mount shows.
    pub(super) fn mount(
        &self,
        wanted: &Mounting,
        source: Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>, StepError> {
        let tree = match &wanted.what {
            What::Bind { .. } => self.bind(wanted, source)?,
            What::Remount => {
                let flags = OFlag::O_PATH.bits();
                let place = path::open_in(self.root, &wanted.destination, flags, 0, Within::Root)?;
                mount::open_tree(place.as_fd(), Path::new(""), Tree::Place)?
            }
            What::New(kind) => self.fill(kind, wanted)?,
            What::Cgroup => return Ok(None),
        };
        attributes(tree.as_fd(), wanted, self.locked)?;
        Ok(Some(tree))
    }

    fn bind(&self, wanted: &Mounting, source: Option<OwnedFd>) -> Result<OwnedFd, StepError> {
        let tree = source.ok_or_else(|| StepError::from(Errno::ENOENT).about("source"))?;
        let directory = fstat(&tree)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let place = place(self.root, &wanted.destination, directory)?;
        not_over_proc(self.proc, place.as_fd(), tree.as_fd(), &wanted.destination)?;
        // The source came from the host's namespace: what the container does must not travel back there.
        if !self.shared {
            let slave = Attr {
                propagation: Some(Propagation::Slave),
                ..Attr::default()
            };
            mount::set_attr(tree.as_fd(), true, &slave)?;
        }
        mount::attach(tree.as_fd(), place.as_fd())?;
        Ok(tree)
    }

    fn fill(&self, kind: &str, wanted: &Mounting) -> Result<OwnedFd, StepError> {
        let (place, existed) = if matches!(kind, "proc" | "sysfs") {
            (ordinary_directory(self.root, &wanted.destination)?, true)
        } else {
            directory(self.root, &wanted.destination)?
        };
        let tree = new_filesystem(kind, wanted, existed.then_some(&place))?;
        not_over_proc(self.proc, place.as_fd(), tree.as_fd(), &wanted.destination)?;
        if wanted.copy_up {
            copy_up(place.as_fd(), tree.as_fd())?;
            if wanted.set & mount::RDONLY != 0 {
                make_read_only(tree.as_fd())?;
            }
        }
        mount::attach(tree.as_fd(), place.as_fd())?;
        Ok(tree)
    }
}

/// A copy of what is at the mount's source. One inside the rootfs is resolved there, as the container would; another, which only
/// a parent without privileges leaves to us, on the host.
fn source_inside(
    root: BorrowedFd<'_>,
    wanted: &Mounting,
    recursive: bool,
    rootfs: &Path,
) -> Result<OwnedFd, StepError> {
    let source = wanted.source.as_deref().unwrap_or(Path::new(""));
    let inside = source.strip_prefix(rootfs).unwrap_or(source);
    let open = || -> io::Result<OwnedFd> {
        let copy = Tree::Clone { recursive };
        if !source.starts_with(rootfs) {
            return mount::open_tree(mount::cwd(), source, copy);
        }
        let place = path::open_in(root, inside, OFlag::O_PATH.bits(), 0, Within::Root)?;
        mount::open_tree(place.as_fd(), Path::new(""), copy)
    };
    open().map_err(|e| StepError::from(e).about("source"))
}

/// Has the parent give a detached mount its owners, as only it may.
fn with_owners(
    tree: OwnedFd,
    at: usize,
    wanted: &Mounting,
    channel: Option<&Channel>,
) -> Result<OwnedFd, StepError> {
    if wanted.owners.is_some() {
        let channel = channel
            .ok_or(io::ErrorKind::NotConnected)
            .map_err(io::Error::from)?;
        channel.offer_mount(at, tree.as_fd())?;
    }
    Ok(tree)
}

pub(super) fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attr = Attr {
        set: mount::RDONLY,
        ..Attr::default()
    };
    mount::set_attr(mount, false, &attr)
}

fn new_filesystem(
    kind: &str,
    wanted: &Mounting,
    existed: Option<&OwnedFd>,
) -> Result<OwnedFd, StepError> {
    let source = wanted
        .source
        .as_ref()
        .map(|s| s.to_string_lossy().into_owned());
    let mut data = wanted.data.clone();
    if kind == "tmpfs" && !data.iter().any(|(key, _)| key == "mode") {
        // A tmpfs over a directory of the image looks like that directory.
        if let Some(existed) = existed {
            data.push((
                "mode".to_owned(),
                Some(format!("{:o}", fstat(existed)?.st_mode & 0o7777)),
            ));
        }
    }
    // The kernel labels message queues as their makers, so that nothing but their directory has a label to be given.
    let by_option = kind != "mqueue";
    data.extend(context(wanted.label.as_deref().filter(|_| by_option)));
    let source = source.as_deref().filter(|s| !s.is_empty());
    // What is to be filled becomes read-only afterwards.
    let later = if wanted.copy_up { mount::RDONLY } else { 0 };
    let tree = mount::new_filesystem(kind, source, &data, wanted.set & !later)?;
    if let (Some(label), false) = (&wanted.label, by_option) {
        let flags = (OFlag::O_RDONLY | OFlag::O_DIRECTORY).bits();
        let root = path::open_in(tree.as_fd(), Path::new("."), flags, 0, Within::Root)?;
        path::set_label(root.as_fd(), label)?;
    }
    Ok(tree)
}

/// The option by which everything in a new filesystem has SELinux's `label`.
pub(super) fn context(label: Option<&str>) -> Option<(String, Option<String>)> {
    label.map(|label| ("context".to_owned(), Some(label.to_owned())))
}

/// Attributes and propagation of a mount that is attached already; a new filesystem has its attributes from the start.
fn attributes(tree: BorrowedFd<'_>, wanted: &Mounting, locked: bool) -> Applied {
    let own = match wanted.what {
        What::New(_) | What::Cgroup => None,
        What::Remount => Some((wanted.set, wanted.clear)),
        What::Bind { .. } => wanted
            .over(attributes_now(tree)?, locked)
            .map_err(|Locked| StepError::from(Errno::EPERM))?,
    };
    if let Some((set, clear)) = own.filter(|(set, clear)| set | clear != 0) {
        mount::set_attr(
            tree,
            false,
            &Attr {
                set,
                clear,
                ..Attr::default()
            },
        )?;
    }
    if wanted.recursive_set | wanted.recursive_clear != 0 {
        let attr = Attr {
            set: wanted.recursive_set,
            clear: wanted.recursive_clear,
            ..Attr::default()
        };
        mount::set_attr(tree, true, &attr)?;
    }
    for (how, recursive) in &wanted.propagation {
        mount::set_attr(
            tree,
            *recursive,
            &Attr {
                propagation: Some(*how),
                ..Attr::default()
            },
        )?;
    }
    Ok(())
}

/// The attributes that a mount has, of those that can be locked; an access time mode among them.
fn attributes_now(mount: BorrowedFd<'_>) -> io::Result<u64> {
    use nix::sys::statvfs::{FsFlags, fstatvfs};
    let flags = fstatvfs(mount)?.flags();
    let known = [
        (FsFlags::ST_RDONLY, mount::RDONLY),
        (FsFlags::ST_NOSUID, mount::NOSUID),
        (FsFlags::ST_NODEV, mount::NODEV),
        (FsFlags::ST_NOEXEC, mount::NOEXEC),
        (FsFlags::ST_NODIRATIME, mount::NODIRATIME),
    ];
    let mode = if flags.contains(FsFlags::ST_NOATIME) {
        mount::NOATIME
    } else if flags.contains(FsFlags::ST_RELATIME) {
        0
    } else {
        mount::STRICTATIME
    };
    Ok(known
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(mode, |all, (_, attribute)| all | attribute))
}
