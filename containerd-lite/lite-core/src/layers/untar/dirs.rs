//! Directories of a layer, opened so that no path can lead out.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::Target;
use super::{attributes, sys};
use crate::error::{Error, Kind, Result};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The layer's root, those of the layers below, and the parent used last:
/// archives list a directory's entries one after the other.
pub(super) struct Dirs {
    root: OwnedFd,
    below: Vec<OwnedFd>,
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
}

impl Dirs {
    pub(super) fn open(target: Target<'_>) -> Result<Self> {
        let open = |path: &std::path::Path| {
            rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::io(format!("open {}", path.display()), errno.into()))
        };
        let below = target
            .below
            .iter()
            .map(|path| open(path))
            .collect::<Result<_>>()?;
        Ok(Self {
            root: open(target.dir)?,
            below,
            last: None,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Drops the descriptor kept from before.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// The directory `path`, with what is missing made as it is in the layers
    /// below, or as root's with mode 0755.
    pub(super) fn parent(&mut self, path: &[Vec<u8>]) -> Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let cached = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !cached {
            let dir = match within(self.root.as_fd(), path) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => self.make(path)?,
                Err(errno) => return sys(Err(errno), "open parent directory"),
            };
            self.last = Some((path.to_vec(), dir));
        }
        match &self.last {
            Some((_, dir)) => Ok(dir.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// The directory `path`, which must exist in the layer.
    pub(super) fn existing(&self, path: &[Vec<u8>]) -> Result<OwnedFd> {
        sys(within(self.root.as_fd(), path), "open directory")
    }

    fn make(&self, path: &[Vec<u8>]) -> Result<OwnedFd> {
        let mut dir = sys(within(self.root.as_fd(), &[]), "open directory")?;
        for depth in 1..=path.len() {
            let so_far = &path[..depth];
            dir = match within(self.root.as_fd(), so_far) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    let name = &so_far[depth - 1];
                    match rustix::fs::mkdirat(&dir, name.as_slice(), Mode::RWXU) {
                        Ok(()) => {}
                        // A symbolic link that leads nowhere in this layer.
                        Err(Errno::EXIST) => {
                            return Err(Kind::InvalidArgument
                                .error("a parent is a symbolic link to nothing in this layer"));
                        }
                        Err(errno) => return Err(Error::io("make parent directory", errno.into())),
                    }
                    let made = open_directory(dir.as_fd(), name)?;
                    self.copy_up(made.as_fd(), so_far)?;
                    made
                }
                Err(errno) => return sys(Err(errno), "open parent directory"),
            };
        }
        Ok(dir)
    }

    fn copy_up(&self, made: BorrowedFd<'_>, path: &[Vec<u8>]) -> Result<()> {
        for below in &self.below {
            if let Ok(found) = within(below.as_fd(), path) {
                return attributes::copy(found.as_fd(), made);
            }
        }
        sys(
            rustix::fs::fchmod(made, Mode::from_raw_mode(0o755)),
            "set mode",
        )
    }
}

/// Opens a directory below `root` as if `root` were `/`.
fn within(root: BorrowedFd<'_>, path: &[Vec<u8>]) -> rustix::io::Result<OwnedFd> {
    let joined = if path.is_empty() {
        b".".to_vec()
    } else {
        path.join(&b'/')
    };
    loop {
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, joined.as_slice(), DIRECTORY, Mode::empty(), flags) {
            // The kernel could not rule out a race with a rename elsewhere.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Opens the directory `name` itself, never through a symbolic link.
pub(super) fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    sys(
        rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()),
        "open directory",
    )
}

/// Removes the directory `name` and all below it. Its depth is limited by the
/// longest path, so the stack of descriptors is as well.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let opened = open_directory(dir, name)?;
    let mut entries = Vec::new();
    for entry in sys(Dir::read_from(&opened), "list directory")? {
        let entry = sys(entry, "list directory")?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            entries.push((child.to_vec(), entry.file_type()));
        }
    }
    for (child, kind) in entries {
        match kind {
            FileType::Directory => remove_tree(opened.as_fd(), &child)?,
            _ => sys(
                rustix::fs::unlinkat(&opened, child.as_slice(), AtFlags::empty()),
                "remove",
            )?,
        }
    }
    sys(
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        "remove directory",
    )
}
