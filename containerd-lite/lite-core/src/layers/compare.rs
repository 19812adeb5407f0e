//! The layer between two file systems: what an archive has to say so that the
//! one becomes the other.
//!
//! Both are stacks of directories, as a snapshot's mounts name them; nothing is
//! mounted. The two are walked side by side, in the order of names. What both
//! have in common, down to the very inode, is not looked into, so that a
//! container's changes cost no more than what it changed.
//!
//! Source: the image-spec's layer document. What is gone becomes `.wh.<name>`.
//! A directory is listed if its owner, mode or attributes changed, or for the
//! sake of what is in it. The first name of an inode holds its bytes, further ones are hard links to it. Attributes that belong
//! to this machine (`trusted.…`, `security.selinux`) stay here.

mod attributes;
mod merged;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::tar::{Header, Kind as EntryKind, Writer};
use crate::error::{Because as _, Error, Kind, Result};
use merged::{Entry, Merged, file_type, system};

const WHITEOUT: &[u8] = b".wh.";

/// What is taken into account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules<'a> {
    /// No time in the layer is later than this many seconds since 1970.
    pub(crate) latest: Option<i64>,
    /// Absolute paths that a runtime made to mount on: left out, with the
    /// directories above them, where they are new and nothing is in them.
    pub(crate) stubs: &'a [String],
    /// It is no layer: names that begin as whiteouts do are names.
    pub(crate) plain: bool,
}

impl Rules<'_> {
    /// The stubs and what leads to them, as the walk names them.
    fn paths(&self) -> HashSet<Vec<u8>> {
        let mut paths = HashSet::new();
        for stub in self.stubs {
            let mut path = Vec::new();
            for name in stub.split('/').filter(|name| !name.is_empty()) {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name.as_bytes());
                paths.insert(path.clone());
            }
        }
        paths
    }
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It, or something in it, is another.
    Changed,
    /// It is gone.
    Deleted,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Absolute; bytes that are no UTF-8 are replaced.
    pub path: String,
}

/// Lists what makes `lower` into `upper`, both stacks of directories with the
/// nearest first, in the order of names; no bytes of files are copied.
///
/// # Errors
/// Those of the file system.
pub(crate) fn list(lower: &[PathBuf], upper: &[PathBuf], rules: Rules<'_>) -> Result<Vec<Change>> {
    let mut walk = Walk::new(Output::<io::Sink>::List(Vec::new()), rules);
    walk.root(&Merged::open(lower)?, &Merged::open(upper)?)?;
    Ok(match walk.output {
        Output::List(changes) => changes,
        Output::Archive(_) => Vec::new(),
    })
}

/// Writes the archive that turns `lower` into `upper`, both stacks of
/// directories with the nearest first, to `output`; returns how many entries it
/// has.
///
/// # Errors
/// Those of the file system; InvalidArgument for a name that an archive cannot
/// have, naming it.
pub(crate) fn compare<W: Write>(
    lower: &[PathBuf],
    upper: &[PathBuf],
    rules: Rules<'_>,
    output: W,
) -> Result<u64> {
    let (lower, upper) = (Merged::open(lower)?, Merged::open(upper)?);
    let mut walk = Walk::new(Output::Archive(Writer::new(output)), rules);
    walk.root(&lower, &upper)?;
    let entries = walk.entries;
    walk.finish()?;
    Ok(entries)
}

/// Writes an archive of what the directory `dir` holds, every path below
/// `prefix`.
///
/// # Errors
/// Those of the file system.
pub(crate) fn pack_directory<W: Write>(dir: &Path, prefix: &[u8], output: W) -> Result<()> {
    let root = Merged::open(&[dir])?;
    let mut walk = Walk::new(Output::Archive(Writer::new(output)), PLAIN);
    let mut path = Vec::new();
    if let (false, Some(stat), Some(fd)) = (prefix.is_empty(), root.stat(), root.fd()) {
        path = [prefix, b"/"].concat();
        let header = walk.header(path.clone(), stat, attributes::of_open(fd)?);
        walk.write(ChangeKind::Added, &header)?;
    }
    walk.directory(&path, None, &root)?;
    walk.finish()
}

/// Writes an archive of what is called `name` in `parent`, under the name `shown`.
///
/// # Errors
/// NotFound; those of the file system.
pub(crate) fn pack_entry<W: Write>(
    parent: &Path,
    name: &[u8],
    shown: &[u8],
    output: W,
) -> Result<()> {
    let entries = Merged::open(&[parent])?.entries()?;
    let Some(entry) = entries.get(name) else {
        let name = String::from_utf8_lossy(name);
        return Err(Kind::NotFound.error(format!("{name:?} is not there")));
    };
    let mut walk = Walk::new(Output::Archive(Writer::new(output)), PLAIN);
    walk.entry(shown, name, None, entry)?;
    walk.finish()
}

/// For archives of files that are no layer.
const PLAIN: Rules<'static> = Rules {
    latest: None,
    stubs: &[],
    plain: true,
};

/// Where the walk's findings go.
enum Output<W> {
    Archive(Writer<W>),
    List(Vec<Change>),
}

struct Walk<W> {
    output: Output<W>,
    latest: Option<i64>,
    plain: bool,
    stubs: HashSet<Vec<u8>>,
    /// The first name of inodes that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories above the current one that are not listed yet.
    pending: Vec<Option<(ChangeKind, Header)>>,
    entries: u64,
}

impl<W: Write> Walk<W> {
    fn new(output: Output<W>, rules: Rules<'_>) -> Self {
        Self {
            output,
            latest: rules.latest,
            plain: rules.plain,
            stubs: rules.paths(),
            links: HashMap::new(),
            pending: Vec::new(),
            entries: 0,
        }
    }

    fn finish(self) -> Result<()> {
        if let Output::Archive(archive) = self.output {
            archive.finish().op(|| "write archive".to_owned())?;
        }
        Ok(())
    }

    fn root(&mut self, lower: &Merged, upper: &Merged) -> Result<()> {
        let (Some(after), Some(fd)) = (upper.stat(), upper.fd()) else {
            return Err(Kind::InvalidArgument.error("compare with no directory"));
        };
        if let (Some(before), Some(below)) = (lower.stat(), lower.fd()) {
            let same = same_owner(before, after)
                && attributes::of_open(below)? == attributes::of_open(fd)?;
            if !same {
                let header = self.header(b"./".to_vec(), after, attributes::of_open(fd)?);
                self.write(ChangeKind::Changed, &header)?;
            }
        }
        self.directory(b"", Some(lower), upper)
    }

    /// `path` ends in a slash unless it is empty.
    fn directory(&mut self, path: &[u8], lower: Option<&Merged>, upper: &Merged) -> Result<()> {
        let mut before = match lower {
            Some(lower) => lower.entries()?,
            None => Default::default(),
        };
        let after = upper.entries()?;
        let mut names: Vec<Vec<u8>> = before.keys().cloned().collect();
        names.extend(
            after
                .keys()
                .filter(|name| !before.contains_key(*name))
                .cloned(),
        );
        names.sort();
        for name in names {
            let full = [path, name.as_slice()].concat();
            let gone = before.remove(&name);
            let entry = match (after.get(&name), gone) {
                (Some(entry), Some(old)) if entry.is(&old) => Ok(()),
                (Some(entry), old) => self.entry(&full, &name, old.as_ref(), entry),
                (None, _) => self.whiteout(path, &name),
            };
            entry.map_err(|err| err.within(format!("{:?}", String::from_utf8_lossy(&full))))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], name: &[u8], old: Option<&Entry>, new: &Entry) -> Result<()> {
        if name.starts_with(WHITEOUT) && !self.plain {
            return Err(
                Kind::InvalidArgument.error("a layer cannot hold a name that begins with \".wh.\"")
            );
        }
        if new.is_directory() {
            return self.subdirectory(path, name, old, new);
        }
        let kind = file_type(&new.stat);
        // Sockets are of a process, not of an image; the other is overlay's.
        if kind == FileType::Socket || merged::is_whiteout(&new.stat) {
            return Ok(());
        }
        let is_stub = kind == FileType::RegularFile && new.stat.st_size == 0 && old.is_none();
        if is_stub && self.stubs.contains(path) {
            return Ok(());
        }
        let change = match old {
            None => ChangeKind::Added,
            Some(_) => ChangeKind::Changed,
        };
        let holder = new.holder()?;
        let xattrs = attributes::of(holder, name, kind)?;
        if let Some(old) = old
            && unchanged(old, new, name, &xattrs)?
        {
            return Ok(());
        }
        let mut header = self.header(path.to_vec(), &new.stat, xattrs);
        if kind == FileType::Symlink {
            header.target = system(
                rustix::fs::readlinkat(holder, name, Vec::new()),
                "read symbolic link",
            )?
            .into_bytes();
        }
        if new.stat.st_nlink > 1 {
            let inode = (new.stat.st_dev, new.stat.st_ino);
            match self.links.get(&inode) {
                Some(first) => {
                    header.target.clone_from(first);
                    header.kind = EntryKind::HardLink;
                    header.xattrs.clear();
                    header.size = 0;
                }
                None => {
                    self.links.insert(inode, path.to_vec());
                }
            }
        }
        if header.kind == EntryKind::File && matches!(self.output, Output::Archive(_)) {
            return self.file(change, &header, holder, name);
        }
        self.write(change, &header)
    }

    fn subdirectory(
        &mut self,
        path: &[u8],
        name: &[u8],
        old: Option<&Entry>,
        new: &Entry,
    ) -> Result<()> {
        let upper = new.open(name)?;
        let lower = match old {
            Some(old) if old.is_directory() => Some(old.open(name)?),
            _ => None,
        };
        let xattrs = match upper.fd() {
            Some(fd) => attributes::of_open(fd)?,
            None => Vec::new(),
        };
        let same = match (&lower, old) {
            (Some(lower), Some(old)) => {
                let before = match lower.fd() {
                    Some(fd) => attributes::of_open(fd)?,
                    None => Vec::new(),
                };
                same_owner(&old.stat, &new.stat) && before == xattrs
            }
            // Listed for what was put into it, if there is anything.
            (None, None) => self.stubs.contains(path),
            _ => false,
        };
        let change = match old {
            None => ChangeKind::Added,
            Some(_) => ChangeKind::Changed,
        };
        let path = [path, b"/"].concat();
        let header = self.header(path.clone(), &new.stat, xattrs);
        if same {
            self.pending.push(Some((change, header)));
        } else {
            self.write(change, &header)?;
            self.pending.push(None);
        }
        let walked = self.directory(&path, lower.as_ref(), &upper);
        self.pending.pop();
        walked
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let prefix = match self.output {
            Output::Archive(_) => WHITEOUT,
            Output::List(_) => b"",
        };
        let header = Header {
            path: [dir, prefix, name].concat(),
            kind: EntryKind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            modified: (0, 0),
            accessed: None,
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            segments: Vec::new(),
        };
        self.write(ChangeKind::Deleted, &header)
    }

    fn file(
        &mut self,
        change: ChangeKind,
        header: &Header,
        holder: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<()> {
        let file = open_file(holder, name)?;
        // A file that became shorter meanwhile: the archive stays whole.
        self.append(change, header, file.chain(io::repeat(0)))
    }

    /// Lists an entry, and before it the directories that lead to it.
    fn write(&mut self, change: ChangeKind, header: &Header) -> Result<()> {
        self.append(change, header, io::empty())
    }

    fn append(&mut self, change: ChangeKind, header: &Header, data: impl io::Read) -> Result<()> {
        for above in 0..self.pending.len() {
            if let Some((change, header)) = self.pending[above].take() {
                self.put(change, &header, io::empty())?;
            }
        }
        self.put(change, header, data)
    }

    fn put(&mut self, kind: ChangeKind, header: &Header, data: impl io::Read) -> Result<()> {
        self.entries += 1;
        match &mut self.output {
            Output::Archive(archive) => {
                archive.append(header, data).op(|| "write layer".to_owned())
            }
            Output::List(changes) => {
                let path = String::from_utf8_lossy(&header.path);
                // Of the root itself Docker does not tell.
                if path != "./" {
                    let path = format!("/{}", path.trim_end_matches('/'));
                    changes.push(Change { kind, path });
                }
                Ok(())
            }
        }
    }

    fn header(&self, path: Vec<u8>, stat: &Stat, xattrs: Vec<(String, Vec<u8>)>) -> Header {
        let kind = match file_type(stat) {
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => EntryKind::File,
        };
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            _ => (0, 0),
        };
        let size = if kind == EntryKind::File {
            u64::try_from(stat.st_size).unwrap_or_default()
        } else {
            0
        };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        let modified = match self.latest {
            Some(latest) if stat.st_mtime >= latest => (latest, 0),
            _ => (stat.st_mtime, nanos),
        };
        Header {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified,
            accessed: None,
            target: Vec::new(),
            device,
            xattrs,
            size,
            segments: Vec::new(),
        }
    }
}

fn same_owner(one: &Stat, other: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    of(one) == of(other)
}

/// Whether something other than a directory says the same in both. Equal times
/// of change to the nanosecond are believed; whole seconds may come from an
/// archive, and then the bytes are compared.
fn unchanged(old: &Entry, new: &Entry, name: &[u8], xattrs: &[(String, Vec<u8>)]) -> Result<bool> {
    let (before, after) = (&old.stat, &new.stat);
    let kind = file_type(after);
    let of = |stat: &Stat| {
        (
            (stat.st_rdev, stat.st_size),
            (stat.st_mtime, stat.st_mtime_nsec),
            // A further name of a file is told together with its first.
            if kind == FileType::RegularFile {
                stat.st_nlink
            } else {
                1
            },
        )
    };
    if !same_owner(before, after) || of(before) != of(after) {
        return Ok(false);
    }
    let holder = old.holder()?;
    if attributes::of(holder, name, kind)? != *xattrs {
        return Ok(false);
    }
    match kind {
        FileType::Symlink => {
            let target = |holder| {
                system(
                    rustix::fs::readlinkat(holder, name, Vec::new()),
                    "read symbolic link",
                )
            };
            Ok(target(holder)? == target(new.holder()?)?)
        }
        FileType::RegularFile if after.st_mtime_nsec == 0 => same_bytes(
            &mut open_file(holder, name)?,
            &mut open_file(new.holder()?, name)?,
        )
        .map_err(|err| Error::io("compare", err)),
        _ => Ok(true),
    }
}

fn same_bytes(one: &mut File, other: &mut File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let len = one.read(&mut left)?;
        if len == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..len]) {
            Ok(()) if left[..len] == right[..len] => {}
            Ok(()) => return Ok(false),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(err) => return Err(err),
        }
    }
}

fn open_file(holder: BorrowedFd<'_>, name: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = system(
        rustix::fs::openat(holder.as_fd(), name, flags, Mode::empty()),
        "open",
    )?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests;
