//! A directory as overlayfs would show it, without mounting anything: the same
//! path in each layer that has it, nearest first.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory of one layer.
#[derive(Debug)]
struct Part {
    fd: OwnedFd,
    stat: Stat,
    /// Hides the layers below.
    is_opaque: bool,
}

/// A directory of the stack.
#[derive(Debug, Clone)]
pub(super) struct Merged(Vec<Rc<Part>>);

/// Something in a directory of the stack.
#[derive(Debug)]
pub(super) struct Entry {
    /// Of the nearest layer's.
    pub(super) stat: Stat,
    /// The directories that hold it, nearest first: one, or for a directory
    /// each that has a part of it.
    holders: Vec<(Rc<Part>, (u64, u64))>,
}

impl Merged {
    /// The root of the stack `layers`, nearest first.
    pub(super) fn open<P: AsRef<Path>>(layers: &[P]) -> Result<Self> {
        let mut parts = Vec::new();
        for layer in layers {
            let path = layer.as_ref();
            let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
            let opened = rustix::fs::openat(CWD, path, flags, Mode::empty())
                .map_err(|errno| Error::io(format!("open {}", path.display()), errno.into()))?;
            let part = Part::of(opened)?;
            let last = part.is_opaque;
            parts.push(Rc::new(part));
            if last {
                break;
            }
        }
        Ok(Self(parts))
    }

    /// Attributes of the directory itself; `None` for a stack of no layers.
    pub(super) fn stat(&self) -> Option<&Stat> {
        self.0.first().map(|part| &part.stat)
    }

    /// The nearest layer's directory, for its extended attributes.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.first().map(|part| part.fd.as_fd())
    }

    /// What the directory shows, by name.
    pub(super) fn entries(&self) -> Result<BTreeMap<Vec<u8>, Entry>> {
        // `None`: hidden by a whiteout.
        let mut all: BTreeMap<Vec<u8>, Option<Entry>> = BTreeMap::new();
        // Directories that something else in between cuts off from below.
        let mut closed: Vec<Vec<u8>> = Vec::new();
        for part in &self.0 {
            let list = system(Dir::read_from(&part.fd), "list directory")?;
            let mut closing = Vec::new();
            for entry in list {
                let entry = system(entry, "list directory")?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let stat = match rustix::fs::statat(&part.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    found => system(found, "look")?,
                };
                let is_directory = file_type(&stat) == FileType::Directory;
                let holder = (part.clone(), (stat.st_dev, stat.st_ino));
                match all.get_mut(name) {
                    None => {
                        let shown = (!is_whiteout(&stat)).then(|| Entry {
                            stat,
                            holders: vec![holder],
                        });
                        all.insert(name.to_vec(), shown);
                    }
                    Some(Some(nearer))
                        if file_type(&nearer.stat) == FileType::Directory
                            && !closed.iter().any(|other| other == name) =>
                    {
                        if is_directory {
                            nearer.holders.push(holder);
                        } else {
                            closing.push(name.to_vec());
                        }
                    }
                    Some(_) => {}
                }
            }
            closed.extend(closing);
        }
        Ok(all
            .into_iter()
            .filter_map(|(name, entry)| Some((name, entry?)))
            .collect())
    }
}

impl Part {
    fn of(fd: OwnedFd) -> Result<Self> {
        let stat = system(rustix::fs::fstat(&fd), "look")?;
        let mut value = [0; 8];
        let is_opaque = match rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value[..]) {
            Ok(len) => value[..len].starts_with(b"y"),
            Err(_) => false,
        };
        Ok(Self {
            fd,
            stat,
            is_opaque,
        })
    }
}

impl Entry {
    pub(super) fn is_directory(&self) -> bool {
        file_type(&self.stat) == FileType::Directory
    }

    /// Whether both are the very same files, so that nothing below differs.
    pub(super) fn is(&self, other: &Self) -> bool {
        let ids =
            |entry: &Self| -> Vec<(u64, u64)> { entry.holders.iter().map(|(_, id)| *id).collect() };
        ids(self) == ids(other)
    }

    /// The directory that holds the nearest one.
    pub(super) fn holder(&self) -> Result<BorrowedFd<'_>> {
        let nearest = self.holders.first();
        nearest
            .map(|(part, _)| part.fd.as_fd())
            .ok_or_else(|| Kind::Internal.error("an entry that nothing holds"))
    }

    /// Opens the directory `name` that this is.
    pub(super) fn open(&self, name: &[u8]) -> Result<Merged> {
        let mut parts = Vec::new();
        for (holder, _) in &self.holders {
            let opened = rustix::fs::openat(&holder.fd, name, DIRECTORY, Mode::empty());
            let part = Part::of(system(opened, "open directory")?)?;
            let last = part.is_opaque;
            parts.push(Rc::new(part));
            if last {
                break;
            }
        }
        Ok(Merged(parts))
    }
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Overlay's sign that the layers below have nothing of this name.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn system<T>(result: rustix::io::Result<T>, op: &str) -> Result<T> {
    result.map_err(|errno| Error::io(op, errno.into()))
}
