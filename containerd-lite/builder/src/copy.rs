//! Copies files into a root file system, by the rules of `COPY`.
//!
//! 1. [`select`] finds what each source names, and where each file goes.
//! 2. [`write()`] makes it so, below the descriptor of the root: nothing in an image can lead outside.
//!
//! A directory is merged into one that is there. A file replaces a file; it never replaces a directory, nor a directory a
//! file or link: that is told as a mistake, as Docker does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::path::{Within, make_dirs_in, open_in};
use rustix::fs::{AtFlags, FileType, Gid, Mode as Bits, OFlags, Timespec, Timestamps, Uid};

use crate::modes::Mode;
use crate::paths;
use crate::pattern::Pattern;
use crate::source::{Entry, EntryKind, Source, below, cleaned, look};

/// One thing to copy, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its path in the source; links in it are resolved.
    pub from: String,
    /// Its absolute path in the image. For a directory: the directory that its contents go into.
    pub to: String,
}

/// How files are written.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Who owns them; as in the source where not given.
    pub owner: Option<(u32, u32)>,
    /// Their permissions; as in the source where not given.
    pub mode: Option<Mode>,
    /// Paths in the source that are left out, with all below them.
    pub exclude: Vec<Pattern>,
    /// The time of every file, in seconds since 1970.
    pub time_s: i64,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// An absolute path.
    pub path: &'a str,
    /// It is a directory, whether it is there or not.
    pub is_directory: bool,
    /// The directories above a source are part of its name.
    pub parents: bool,
}

/// Finds what the pattern or path `typed` names in `source`. `is_dir` says whether the destination is a directory that is there.
///
/// # Errors
/// A sentence for whoever wrote the Dockerfile: nothing found, a pattern that means nothing.
pub fn select(
    source: &Source,
    typed: &str,
    to: Destination<'_>,
    exists_as_dir: bool,
) -> Result<Vec<Selected>, String> {
    // `./` in a source ends the part of it that --parents leaves out.
    let (pivot, rest) = match typed.split_once("/./").filter(|_| to.parents) {
        Some((pivot, rest)) => (cleaned(pivot), format!("{pivot}/{rest}")),
        None => (String::new(), typed.to_owned()),
    };
    let pattern = Pattern::parse(&cleaned(&rest)).map_err(|bad| bad.to_string())?;
    let io = |err: io::Error| format!("{typed:?}: {err}");
    let found = match pattern.literal() {
        Some(path) => match source.resolve(&path).map_err(io)? {
            Some(real) => vec![(path, real)],
            None => Vec::new(),
        },
        None => {
            let mut found = Vec::new();
            for path in source.matching(&pattern).map_err(io)? {
                if let Some(real) = source.resolve(&path).map_err(io)? {
                    found.push((path, real));
                }
            }
            found
        }
    };
    if found.is_empty() {
        return Err(format!("{typed:?}: not found"));
    }
    // Several files need a directory, also where one pattern stands for them.
    let into = to.is_directory || exists_as_dir || found.len() > 1;
    let mut selected = Vec::new();
    for (path, real) in found {
        let entry = source.entry(&real).map_err(io)?;
        let Some(entry) = entry else {
            continue;
        };
        let is_dir = entry.kind == EntryKind::Directory;
        let target = if to.parents {
            let kept = path.strip_prefix(&pivot).unwrap_or(&path);
            paths::join(to.path, kept.trim_start_matches('/'))
        } else if is_dir || !into {
            to.path.to_owned()
        } else {
            paths::join(to.path, paths::last(&path))
        };
        selected.push(Selected {
            from: real,
            to: target,
        });
    }
    Ok(selected)
}

/// A root file system that is written to.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The root behind `fd`.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Its descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether `path` is a directory, links followed inside.
    #[must_use]
    pub fn is_dir(&self, path: &str) -> bool {
        self.open_dir(path).is_ok()
    }

    fn open_dir(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let path = format!(".{path}");
        open_in(
            self.fd(),
            Path::new(&path),
            flags.bits().cast_signed(),
            0,
            Within::Root,
        )
    }

    /// Makes the directory `path` and those above it, as far as they are missing; new ones belong to `owner`.
    ///
    /// # Errors
    /// Something on the way that is no directory; those of the file system.
    pub fn make_dirs(&self, path: &str, owner: (u32, u32), time_s: i64) -> io::Result<OwnedFd> {
        let mut here = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            here.push('/');
            here.push_str(name);
            match self.open_dir(&here) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    make_dirs_in(self.fd(), Path::new(&here), 0o755)?;
                    let made = self.open_dir(&here)?;
                    rustix::fs::fchmod(&made, Bits::from_raw_mode(0o755))?;
                    chown(&made, owner)?;
                    set_time(&made, time_s)?;
                }
                opened => drop(opened?),
            }
        }
        self.open_dir(path)
    }

    /// Reads the file at `path` as text; empty if there is none or it is no regular file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read_text(&self, path: &str) -> io::Result<String> {
        use std::io::Read as _;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = format!(".{path}");
        let opened = open_in(
            self.fd(),
            Path::new(&path),
            flags.bits().cast_signed(),
            0,
            Within::Root,
        );
        let file = match opened {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            opened => File::from(opened?),
        };
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        // Account files are small; whatever is larger is none.
        file.take(4 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Copies `selected` from `source` into `root`.
///
/// # Errors
/// A sentence that names the path and what is wrong with it.
pub fn write(
    root: &Root,
    source: &Source,
    selected: &Selected,
    rules: &Rules,
) -> Result<(), String> {
    let entry = source
        .entry(&selected.from)
        .map_err(|err| format!("{}: {err}", selected.from))?
        .ok_or_else(|| format!("{}: not found", selected.from))?;
    let writer = Writer { source, rules };
    let owner = rules.owner.unwrap_or((0, 0));
    if entry.kind == EntryKind::Directory {
        let existed = root.is_dir(&selected.to);
        let dir = root
            .make_dirs(&selected.to, owner, rules.time_s)
            .map_err(|err| format!("{}: {err}", selected.to))?;
        writer.contents(&selected.from, dir.as_fd(), &selected.to)?;
        if !existed {
            writer
                .attributes(&dir, &entry)
                .map_err(|err| format!("{}: {err}", selected.to))?;
        }
        return Ok(());
    }
    let (above, name) = selected.to.rsplit_once('/').unwrap_or(("", &selected.to));
    let dir = root
        .make_dirs(above, owner, rules.time_s)
        .map_err(|err| format!("{above}: {err}"))?;
    writer.one(&selected.from, &entry, dir.as_fd(), name, &selected.to)
}

/// Writes `content` to the absolute path `to`.
///
/// # Errors
/// As [`write()`].
pub fn write_inline(root: &Root, content: &str, to: &str, rules: &Rules) -> Result<(), String> {
    let owner = rules.owner.unwrap_or((0, 0));
    let (above, name) = to.rsplit_once('/').unwrap_or(("", to));
    let told = |err: io::Error| format!("{to}: {err}");
    let dir = root.make_dirs(above, owner, rules.time_s).map_err(told)?;
    clear(dir.as_fd(), name, to)?;
    let file = create(dir.as_fd(), name).map_err(told)?;
    io::Write::write_all(&mut &file, content.as_bytes()).map_err(told)?;
    let mode = rules.mode.as_ref();
    let mode = mode.map_or(0o644, |mode| mode.apply(0o644, false));
    finish(&file, mode, owner, rules.time_s).map_err(told)
}

struct Writer<'a> {
    source: &'a Source,
    rules: &'a Rules,
}

impl Writer<'_> {
    /// Everything in the directory `from` of the source.
    fn contents(&self, from: &str, dir: BorrowedFd<'_>, to: &str) -> Result<(), String> {
        let told = |err: io::Error| format!("{from}: {err}");
        for name in self.source.names(from).map_err(told)? {
            let path = below(from, &name);
            if self
                .rules
                .exclude
                .iter()
                .any(|pattern| pattern.covers(&path))
            {
                continue;
            }
            if let Some(entry) = self.source.entry(&path).map_err(told)? {
                self.one(&path, &entry, dir, &name, &format!("{to}/{name}"))?;
            }
        }
        Ok(())
    }

    /// The file `from` as `name` in `dir`.
    fn one(
        &self,
        from: &str,
        entry: &Entry,
        dir: BorrowedFd<'_>,
        name: &str,
        to: &str,
    ) -> Result<(), String> {
        let told = |err: io::Error| format!("{to}: {err}");
        match &entry.kind {
            EntryKind::Directory => {
                let made = self.directory(dir, name, to)?;
                self.contents(from, made.as_fd(), to)?;
                self.attributes(&made, entry).map_err(told)
            }
            EntryKind::File { .. } => {
                clear(dir, name, to)?;
                let mut input = self
                    .source
                    .open(from)
                    .map_err(|err| format!("{from}: {err}"))?;
                let mut file = create(dir, name).map_err(told)?;
                // On Linux this is copy_file_range(2), which shares blocks where the file system can.
                io::copy(&mut input, &mut file).map_err(told)?;
                self.extended(&input, &file).map_err(told)?;
                let file = OwnedFd::from(file);
                self.attributes(&file, entry).map_err(told)
            }
            EntryKind::Link { target } => {
                clear(dir, name, to)?;
                rustix::fs::symlinkat(target, dir, name).map_err(|err| told(err.into()))?;
                self.unopened(dir, name, entry).map_err(told)
            }
            EntryKind::Node { kind, device } => {
                clear(dir, name, to)?;
                let (kind, bits) = (
                    FileType::from_raw_mode(*kind),
                    Bits::from_raw_mode(entry.mode),
                );
                rustix::fs::mknodat(dir, name, kind, bits, *device)
                    .map_err(|err| told(err.into()))?;
                self.unopened(dir, name, entry).map_err(told)
            }
            EntryKind::Socket => Ok(()),
        }
    }

    fn directory(&self, dir: BorrowedFd<'_>, name: &str, to: &str) -> Result<OwnedFd, String> {
        let told = |err: io::Error| format!("{to}: {err}");
        match look(dir, name).map_err(told)? {
            None => {
                rustix::fs::mkdirat(dir, name, Bits::from_raw_mode(0o755))
                    .map_err(|err| told(err.into()))?;
            }
            Some(FileType::Directory) => {}
            Some(_) => return Err(format!("{to}: cannot copy to non-directory")),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Bits::empty()).map_err(|err| told(err.into()))
    }

    fn mode(&self, entry: &Entry) -> u32 {
        let directory = entry.kind == EntryKind::Directory;
        let mode = self.rules.mode.as_ref();
        mode.map_or(entry.mode, |mode| mode.apply(entry.mode, directory))
    }

    fn attributes(&self, fd: &OwnedFd, entry: &Entry) -> io::Result<()> {
        let owner = self.rules.owner.unwrap_or(entry.owner);
        finish(fd, self.mode(entry), owner, self.rules.time_s)
    }

    /// Attributes of what must not be opened.
    fn unopened(&self, dir: BorrowedFd<'_>, name: &str, entry: &Entry) -> io::Result<()> {
        let (uid, gid) = self.rules.owner.unwrap_or(entry.owner);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(
            dir,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            flags,
        )?;
        if !matches!(entry.kind, EntryKind::Link { .. }) {
            let bits = Bits::from_raw_mode(self.mode(entry));
            rustix::fs::chmodat(dir, name, bits, AtFlags::empty())?;
        }
        rustix::fs::utimensat(dir, name, &times(self.rules.time_s), flags)?;
        Ok(())
    }

    /// Extended attributes of a file: capabilities above all. Overlay's own never come along.
    fn extended(&self, from: &File, to: &File) -> io::Result<()> {
        if matches!(self.source, Source::Context(_)) {
            return Ok(());
        }
        let mut names = vec![0_u8; 64 << 10];
        let length = match rustix::fs::flistxattr(from, &mut names) {
            Err(rustix::io::Errno::NOTSUP) => return Ok(()),
            length => length?,
        };
        for name in names[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let name = String::from_utf8_lossy(name).into_owned();
            if !name.starts_with("user.") && name != "security.capability" {
                continue;
            }
            let mut value = vec![0_u8; 64 << 10];
            let length = rustix::fs::fgetxattr(from, name.as_str(), &mut value)?;
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(to, name.as_str(), &value[..length], flags)?;
        }
        Ok(())
    }
}

/// Makes room for a file.
fn clear(dir: BorrowedFd<'_>, name: &str, to: &str) -> Result<(), String> {
    match look(dir, name).map_err(|err| format!("{to}: {err}"))? {
        None => Ok(()),
        Some(FileType::Directory) => Err(format!("{to}: cannot replace a directory with a file")),
        Some(_) => rustix::fs::unlinkat(dir, name, AtFlags::empty())
            .map_err(|err| format!("{to}: {}", io::Error::from(err))),
    }
}

fn create(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(
        dir,
        name,
        flags,
        Bits::from_raw_mode(0o600),
    )?))
}

/// Owner first: changing it takes set-user-id away, and a file's capabilities.
fn finish(fd: impl AsFd, mode: u32, owner: (u32, u32), time_s: i64) -> io::Result<()> {
    chown(&fd, owner)?;
    rustix::fs::fchmod(&fd, Bits::from_raw_mode(mode))?;
    set_time(&fd, time_s)
}

fn chown(fd: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    Ok(rustix::fs::fchown(
        fd,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?)
}

fn set_time(fd: impl AsFd, time_s: i64) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &times(time_s))?)
}

fn times(time_s: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: time_s,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Sets the time of everything below `dir` that was changed at `since` or later to `time_s`, so that the same step makes the
/// same layer whenever it runs. What a package brought with it is older, and keeps its time.
///
/// # Errors
/// Those of the file system.
pub fn fix_times(dir: &Path, since_s: i64, time_s: i64) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fix_times(&entry.path(), since_s, time_s)?;
        }
        fix_time(&entry.path(), since_s, time_s)?;
    }
    Ok(())
}

fn fix_time(path: &Path, since_s: i64, time_s: i64) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::symlink_metadata(path)?.mtime() < since_s {
        return Ok(());
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &times(time_s),
        flags,
    )?)
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
