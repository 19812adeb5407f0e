//! Entries of an archive into a directory, on descriptors only.
//!
//! Every parent directory is opened with `openat2(2)` and RESOLVE_IN_ROOT from
//! the layer's own descriptor: `..`, absolute paths and symbolic links inside
//! the layer all end within it. The last component is never followed. Paths
//! that climb above the root by their own words are refused.
//!
//! Each entry: what is in the way goes, then the file is made with no rights,
//! then owner, extended attributes, mode and times, in this order: a change of
//! owner clears set-uid bits and capabilities. Times of directories are set at
//! the end, since filling them changes them.

mod attributes;
mod dirs;
mod whiteout;

use std::fs::File;
use std::io::{BufRead, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tar::{Header, Kind as EntryKind, Reader};
use super::{Limits, Target, stream_fault};
use crate::error::{Error, Kind, Result};
use dirs::Dirs;

/// Where in the layer something is: its components, none of them special.
type Path = Vec<Vec<u8>>;

/// Applies every entry of the archive `input`.
pub(super) fn untar(input: &mut impl BufRead, target: Target<'_>, limits: Limits) -> Result<()> {
    entries(input, target, limits, false)
}

/// Unpacks an archive that is no layer: without whiteouts, and no directory takes
/// the place of something else or the other way round.
pub(super) fn files(input: &mut impl BufRead, target: Target<'_>, limits: Limits) -> Result<()> {
    entries(input, target, limits, true)
}

fn entries(
    input: &mut impl BufRead,
    target: Target<'_>,
    limits: Limits,
    plain: bool,
) -> Result<()> {
    let mut layer = Layer {
        dirs: Dirs::open(target)?,
        overlay: !target.below.is_empty(),
        plain,
        times: Vec::new(),
    };
    let mut reader = Reader::new(input);
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    while let Some(header) = reader.next().map_err(stream_fault)? {
        entries += 1;
        bytes = bytes.saturating_add(header.size);
        if entries > limits.entries || bytes > limits.bytes {
            return Err(Kind::ResourceExhausted.error(format!(
                "the layer has more than {} entries or {} bytes",
                limits.entries, limits.bytes
            )));
        }
        layer
            .entry(&mut reader, &header)
            .map_err(|err| err.within(format!("entry {:?}", shown(&header.path))))?;
    }
    layer.set_directory_times()
}

/// A directory and the modification and access times it gets at the end.
struct DirectoryTimes {
    path: Path,
    header: attributes::Times,
}

struct Layer {
    dirs: Dirs,
    /// Whiteouts are kept for overlayfs to see.
    overlay: bool,
    /// It is no layer.
    plain: bool,
    times: Vec<DirectoryTimes>,
}

impl Layer {
    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R>, header: &Header) -> Result<()> {
        let path = components(&header.path)?;
        let Some((name, parent)) = path.split_last() else {
            if header.kind != EntryKind::Directory {
                return Err(Kind::InvalidArgument.error("the layer's root must be a directory"));
            }
            attributes::of_directory(self.dirs.root(), header)?;
            self.times.push(DirectoryTimes {
                path,
                header: attributes::Times::of(header),
            });
            return Ok(());
        };
        if name.starts_with(whiteout::PREFIX) && !self.plain {
            return self.whiteout(parent, name);
        }
        if header.kind == EntryKind::HardLink {
            return self.hard_link(parent, name, header);
        }
        let existing = self.clear(parent, name, header.kind == EntryKind::Directory)?;
        let dir = self.dirs.parent(parent)?;
        match header.kind {
            EntryKind::Directory => {
                if existing != Existing::Directory {
                    sys(
                        rustix::fs::mkdirat(dir, name.as_slice(), Mode::RWXU),
                        "make directory",
                    )?;
                }
                let made = dirs::open_directory(dir, name)?;
                attributes::of_directory(made.as_fd(), header)?;
                if existing == Existing::Whiteout {
                    whiteout::make_opaque(made.as_fd())?;
                }
                self.times.push(DirectoryTimes {
                    path: path.clone(),
                    header: attributes::Times::of(header),
                });
                Ok(())
            }
            EntryKind::File => write_file(reader, dir, name, header),
            EntryKind::Symlink => {
                sys(
                    rustix::fs::symlinkat(header.target.as_slice(), dir, name.as_slice()),
                    "make symbolic link",
                )?;
                attributes::of_node(dir, name, header)
            }
            EntryKind::CharDevice => make_node(dir, name, header, FileType::CharacterDevice),
            EntryKind::BlockDevice => make_node(dir, name, header, FileType::BlockDevice),
            EntryKind::Fifo => make_node(dir, name, header, FileType::Fifo),
            EntryKind::HardLink => Ok(()),
        }
    }

    fn hard_link(&mut self, parent: &[Vec<u8>], name: &[u8], header: &Header) -> Result<()> {
        let target = components(&header.target)?;
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(Kind::InvalidArgument.error("a hard link to the layer's root"));
        };
        if target_parent == parent && target_name == name {
            // Removing what is in the way would remove the target itself.
            return Ok(());
        }
        let from = self.dirs.existing(target_parent)?;
        self.clear(parent, name, false)?;
        let dir = self.dirs.parent(parent)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to itself.
        sys(
            rustix::fs::linkat(&from, target_name.as_slice(), dir, name, AtFlags::empty()),
            &format!("hard link to {:?}", shown(&header.target)),
        )
    }

    /// Removes what is in the way of an entry. A directory stays for a directory.
    fn clear(&mut self, parent: &[Vec<u8>], name: &[u8], for_directory: bool) -> Result<Existing> {
        let dir = self.dirs.parent(parent)?;
        let found = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Existing::Nothing),
            Err(errno) => return Err(Error::io("look", errno.into())),
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory if for_directory => return Ok(Existing::Directory),
            kind if self.plain && (for_directory || kind == FileType::Directory) => {
                return Err(Kind::FailedPrecondition.error(match for_directory {
                    true => "cannot overwrite non-directory with directory",
                    false => "cannot overwrite directory with non-directory",
                }));
            }
            FileType::Directory => {
                dirs::remove_tree(dir, name)?;
                // Descriptors of what was below it lead nowhere now.
                self.dirs.forget();
                return Ok(Existing::Nothing);
            }
            _ => sys(rustix::fs::unlinkat(dir, name, AtFlags::empty()), "replace")?,
        }
        let whiteout = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == 0;
        Ok(if whiteout && self.overlay {
            Existing::Whiteout
        } else {
            Existing::Nothing
        })
    }

    fn set_directory_times(&mut self) -> Result<()> {
        for entry in std::mem::take(&mut self.times) {
            // A later entry may have put something else there.
            match self.dirs.existing(&entry.path) {
                Ok(dir) => attributes::set_times(dir.as_fd(), &entry.header)?,
                Err(err) if matches!(err.kind(), Kind::NotFound | Kind::InvalidArgument) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

/// What was in an entry's place.
#[derive(PartialEq, Eq)]
enum Existing {
    Nothing,
    Directory,
    Whiteout,
}

/// Splits a path; `.` and empty components vanish, `..` goes up.
fn components(path: &[u8]) -> Result<Path> {
    let mut parts: Path = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(Kind::InvalidArgument
                        .error(format!("path {:?} leaves the layer", shown(path))));
                }
            }
            _ if part.contains(&0) => return Err(Kind::InvalidArgument.error("a path with a NUL")),
            _ => parts.push(part.to_vec()),
        }
    }
    Ok(parts)
}

fn write_file<R: BufRead>(
    reader: &mut Reader<R>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    header: &Header,
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
        .map_err(|errno| Error::io("make file", errno.into()))?;
    let mut file = File::from(fd);
    let mut at = 0;
    for segment in &header.segments {
        if segment.offset != at {
            file.seek(SeekFrom::Start(segment.offset))
                .map_err(|err| Error::io("write file", err))?;
        }
        at = segment.offset + segment.len;
        let mut left = segment.len;
        while left > 0 {
            let data = reader.data().map_err(stream_fault)?;
            if data.is_empty() {
                return Err(Kind::DataLoss.error("corrupt layer: a file's data is short"));
            }
            let len = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&data[..len])
                .map_err(|err| Error::io("write file", err))?;
            reader.consume(len);
            left -= len as u64;
        }
    }
    if at < header.size {
        file.set_len(header.size)
            .map_err(|err| Error::io("write file", err))?;
    }
    attributes::of_file(file.as_fd(), header)
}

fn make_node(dir: BorrowedFd<'_>, name: &[u8], header: &Header, kind: FileType) -> Result<()> {
    let device = rustix::fs::makedev(header.device.0, header.device.1);
    sys(
        rustix::fs::mknodat(dir, name, kind, Mode::empty(), device),
        "make device or fifo",
    )?;
    attributes::of_node(dir, name, header)
}

fn sys<T>(result: rustix::io::Result<T>, op: &str) -> Result<T> {
    result.map_err(|errno| match errno {
        // Names the archive chose badly, not faults of the system.
        Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR | Errno::INVAL => Kind::InvalidArgument
            .error(op)
            .because(std::io::Error::from(errno)),
        _ => Error::io(op, errno.into()),
    })
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}
