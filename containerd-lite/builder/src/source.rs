//! Where files of a copy come from: the client's context, or the file system of a stage or image.
//!
//! Both are read through the same few questions, so that there is one set of rules for wildcards, links and directories. A path
//! here is relative to the source's root, cleaned, without a leading slash; the root is the empty path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::path::{Within, open_in};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use crate::paths;
use crate::pattern::Pattern;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its permissions.
    pub mode: u32,
    /// Who owns it; in a context, root.
    pub owner: (u32, u32),
}

/// The kinds of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// What names its bytes in a context's store; empty elsewhere.
        content: String,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: PathBuf,
    },
    /// A device, a fifo: type bits and number.
    Node {
        /// The type.
        kind: u32,
        /// The device's number.
        device: u64,
    },
    /// A socket: never copied.
    Socket,
}

/// A context: what the client has listed, and where the bytes are that it has sent.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// By path.
    pub entries: BTreeMap<String, Entry>,
    /// Where the bytes of files are, by the name of their content.
    pub store: PathBuf,
}

/// Where files come from.
#[derive(Debug)]
pub enum Source {
    /// The client.
    Context(Listing),
    /// A mounted file system.
    Tree(OwnedFd),
}

impl Source {
    /// The file at `path`, not following a link in its last name. Links above it are the caller's to have resolved.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entry(&self, path: &str) -> io::Result<Option<Entry>> {
        match self {
            Self::Context(_) if path.is_empty() => Ok(Some(root())),
            Self::Context(listing) => Ok(listing.entries.get(path).cloned()),
            Self::Tree(root) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let opened = open_in(
                    root.as_fd(),
                    Path::new(or_dot(path)),
                    flags.bits().cast_signed(),
                    0,
                    Within::Root,
                );
                match opened {
                    Ok(fd) => described(&fd).map(Some),
                    Err(err) if is_absent(&err) => Ok(None),
                    Err(err) => Err(err),
                }
            }
        }
    }

    /// The names in the directory `path`, in order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn names(&self, path: &str) -> io::Result<Vec<String>> {
        match self {
            Self::Context(listing) => {
                let prefix = if path.is_empty() {
                    String::new()
                } else {
                    format!("{path}/")
                };
                let below = listing.entries.range(prefix.clone()..);
                Ok(below
                    .take_while(|(name, _)| name.starts_with(&prefix))
                    .map(|(name, _)| &name[prefix.len()..])
                    .filter(|name| !name.is_empty() && !name.contains('/'))
                    .map(str::to_owned)
                    .collect())
            }
            Self::Tree(_) => {
                let dir = self.open_tree(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let mut names = Vec::new();
                for entry in Dir::read_from(&dir)? {
                    let name = entry?.file_name().to_string_lossy().into_owned();
                    if name != "." && name != ".." {
                        names.push(name);
                    }
                }
                names.sort();
                Ok(names)
            }
        }
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(&self, path: &str) -> io::Result<File> {
        match self {
            Self::Context(listing) => match listing.entries.get(path).map(|e| &e.kind) {
                Some(EntryKind::File { content, .. }) => File::open(listing.store.join(content)),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            Self::Tree(_) => self
                .open_tree(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)
                .map(File::from),
        }
    }

    fn open_tree(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        match self {
            Self::Tree(root) => open_in(
                root.as_fd(),
                Path::new(or_dot(path)),
                flags.bits().cast_signed(),
                0,
                Within::Root,
            ),
            Self::Context(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The real path of `path`, every link in it followed inside the source; `None` if there is nothing.
    ///
    /// # Errors
    /// A loop of links; those of the file system.
    pub fn resolve(&self, path: &str) -> io::Result<Option<String>> {
        let mut names: Vec<String> = reversed(path);
        let mut real = String::new();
        let mut links = 0;
        while let Some(name) = names.pop() {
            if name == ".." {
                real = real
                    .rsplit_once('/')
                    .map(|(dir, _)| dir.to_owned())
                    .unwrap_or_default();
                continue;
            }
            let here = below(&real, &name);
            match self.entry(&here)?.map(|entry| entry.kind) {
                None => return Ok(None),
                Some(EntryKind::Link { target }) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::other(format!("{path}: too many links")));
                    }
                    if target.is_absolute() {
                        real.clear();
                    }
                    names.extend(reversed(&target.to_string_lossy()));
                }
                Some(EntryKind::Directory) => real = here,
                Some(_) if names.is_empty() => real = here,
                Some(_) => return Ok(None),
            }
        }
        Ok(Some(real))
    }

    /// Every path that `pattern` matches, in order. Directories are entered only where something in them can match.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn matching(&self, pattern: &Pattern) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        self.search(pattern, "", &mut found)?;
        Ok(found)
    }

    fn search(&self, pattern: &Pattern, dir: &str, found: &mut Vec<String>) -> io::Result<()> {
        for name in self.names(dir)? {
            let path = below(dir, &name);
            if pattern.matches(&path) {
                found.push(path.clone());
            }
            let is_dir = |entry: Entry| entry.kind == EntryKind::Directory;
            if pattern.reaches_below(&path) && self.entry(&path)?.is_some_and(is_dir) {
                self.search(pattern, &path, found)?;
            }
        }
        Ok(())
    }
}

/// `name` in the directory `dir`.
#[must_use]
pub fn below(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

fn or_dot(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// The names of a path, last first, without those that mean nothing.
fn reversed(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.rev().map(str::to_owned).collect()
}

fn root() -> Entry {
    Entry {
        kind: EntryKind::Directory,
        mode: 0o755,
        owner: (0, 0),
    }
}

fn is_absent(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What an `O_PATH` descriptor stands for.
fn described(fd: &OwnedFd) -> io::Result<Entry> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            content: String::new(),
        },
        FileType::Symlink => EntryKind::Link {
            target: {
                use std::os::unix::ffi::OsStringExt as _;
                let text = rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes();
                std::ffi::OsString::from_vec(text).into()
            },
        },
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::Node {
            kind: stat.st_mode & 0o170_000,
            device: stat.st_rdev,
        },
    };
    Ok(Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
    })
}

/// Whether there is something at `name` in `dir`, and what; links are not followed.
///
/// # Errors
/// Those of `statx(2)`.
pub fn look(dir: impl AsFd, name: &str) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(err) if err == rustix::io::Errno::NOENT => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// A source's path as typed, without what leads above the root.
#[must_use]
pub fn cleaned(typed: &str) -> String {
    paths::join("/", typed).trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind) -> Entry {
        Entry {
            kind,
            mode: 0o644,
            owner: (0, 0),
        }
    }

    /// A context of `path`, `path/` for directories and `path->target` for links.
    fn context(files: &str) -> Source {
        let mut listing = Listing::default();
        for text in files.split_whitespace() {
            let (path, kind) = if let Some((path, target)) = text.split_once("->") {
                (
                    path,
                    EntryKind::Link {
                        target: target.into(),
                    },
                )
            } else if let Some(path) = text.strip_suffix('/') {
                (path, EntryKind::Directory)
            } else {
                (
                    text,
                    EntryKind::File {
                        size: 0,
                        content: "x".to_owned(),
                    },
                )
            };
            listing.entries.insert(path.to_owned(), entry(kind));
        }
        Source::Context(listing)
    }

    #[test]
    fn names_are_those_of_one_directory() {
        let source = context("a/ a/b a/c/ a/c/d ab z");
        assert_eq!(source.names("").unwrap(), ["a", "ab", "z"]);
        assert_eq!(source.names("a").unwrap(), ["b", "c"]);
    }

    #[test]
    fn links_are_followed_inside() {
        let source = context("d/ d/f l->d abs->/d/f out->../../d loop->loop file d/up->../l/f");
        let resolve = |path| source.resolve(path).unwrap();
        assert_eq!(resolve("l/f"), Some("d/f".to_owned()));
        assert_eq!(resolve("abs"), Some("d/f".to_owned()));
        assert_eq!(resolve("out/f"), Some("d/f".to_owned()));
        assert_eq!(resolve("d/up"), Some("d/f".to_owned()));
        assert_eq!(resolve("file/x"), None);
        assert_eq!(resolve("none"), None);
        assert_eq!(resolve(""), Some(String::new()));
        assert!(source.resolve("loop").is_err());
    }

    #[test]
    fn patterns_find_what_matches() {
        let source = context("a.txt b.md d/ d/c.txt d/e/ d/e/f.txt");
        let found = |text| source.matching(&Pattern::parse(text).unwrap()).unwrap();
        assert_eq!(found("*.txt"), ["a.txt"]);
        assert_eq!(found("**/*.txt"), ["a.txt", "d/c.txt", "d/e/f.txt"]);
        assert_eq!(found("d/*"), ["d/c.txt", "d/e"]);
    }

    #[test]
    fn a_tree_answers_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "hi").unwrap();
        std::os::unix::fs::symlink("/d", dir.path().join("l")).unwrap();
        let source = Source::Tree(kernel::path::open_dir(dir.path()).unwrap());
        assert_eq!(source.names("").unwrap(), ["d", "l"]);
        assert_eq!(source.resolve("l/f").unwrap(), Some("d/f".to_owned()));
        assert!(matches!(
            source.entry("d/f").unwrap().unwrap().kind,
            EntryKind::File { size: 2, .. }
        ));
        assert_eq!(source.entry("none").unwrap(), None);
        assert_eq!(
            io::read_to_string(source.open("d/f").unwrap()).unwrap(),
            "hi"
        );
    }
}
