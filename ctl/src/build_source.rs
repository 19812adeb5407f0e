//! Where the context of a build comes from: a directory, an archive on standard input, a git repository.
//!
//! What is no directory becomes one, a temporary one, which is gone when the [`Source`] is dropped.

use std::fs;
use std::io::{self, BufRead, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::failure::{Failure, reason};

/// What an archive's head must have for its kind to be known: one block of a tar.
const BLOCK: usize = 512;

/// The context of a build.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its directory; `None` for a build without files.
    pub(crate) dir: Option<PathBuf>,
    /// The Dockerfile, where standard input was that and no archive.
    pub(crate) dockerfile: Option<String>,
    held: Option<TempDir>,
}

impl Source {
    /// The context that was typed: a path, `-`, or a repository's address.
    pub(crate) fn open(typed: &Path) -> Result<Self, Failure> {
        let text = typed.to_string_lossy();
        if text == "-" {
            return Self::from_stdin();
        }
        if typed.is_dir() || !is_repository(&text) {
            return Ok(Self {
                dir: Some(typed.to_owned()),
                dockerfile: None,
                held: None,
            });
        }
        let held = temporary()?;
        let dir = clone(&Repository::parse(&text), held.path())?;
        Ok(Self {
            dir: Some(dir),
            dockerfile: None,
            held: Some(held),
        })
    }

    /// Whether it is gone when the command ends, and must not be left behind.
    pub(crate) fn is_temporary(&self) -> bool {
        self.held.is_some()
    }

    fn from_stdin() -> Result<Self, Failure> {
        if io::stdin().is_terminal() {
            let message = "a Dockerfile or an archive is expected on stdin, which is a terminal";
            return Err(Failure::Client(message.to_owned()));
        }
        let failed = |err: &io::Error| Failure::io("read the context from stdin", err);
        let mut input = io::BufReader::with_capacity(1 << 16, io::stdin().lock());
        let mut head = Vec::new();
        Read::take(&mut input, BLOCK as u64)
            .read_to_end(&mut head)
            .map_err(|err| failed(&err))?;
        let kind = Kind::of(&head);
        let mut whole = io::Cursor::new(head).chain(input);
        if kind == Kind::Text {
            let mut text = String::new();
            whole
                .read_to_string(&mut text)
                .map_err(|err| failed(&err))?;
            return Ok(Self {
                dir: None,
                dockerfile: Some(text),
                held: None,
            });
        }
        let held = temporary()?;
        unpack(kind, whole, held.path())?;
        Ok(Self {
            dir: Some(held.path().to_owned()),
            dockerfile: None,
            held: Some(held),
        })
    }
}

fn temporary() -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("ctl-context-").tempdir();
    made.map_err(|err| Failure::io("make a directory for the context", &err))
}

/// What the bytes on standard input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tar,
    Gzip,
    /// An archive that is not read here, by the program that does.
    Other(&'static str),
    Text,
}

impl Kind {
    fn of(head: &[u8]) -> Self {
        let magics: [(&[u8], Self); 4] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (b"BZh", Self::Other("bzip2")),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Other("xz")),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Other("zstd")),
        ];
        let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
        match found {
            Some((_, kind)) => *kind,
            None if head.get(257..262) == Some(b"ustar") => Self::Tar,
            None => Self::Text,
        }
    }
}

/// Unpacks the archive into `dir`; nothing lands outside of it.
fn unpack(kind: Kind, archive: impl BufRead, dir: &Path) -> Result<(), Failure> {
    let read: Box<dyn Read + '_> = match kind {
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(archive)),
        Kind::Other(program) => {
            return Err(Failure::Client(format!(
                "the context on stdin is compressed with {program}: decompress it first, {program} -dc FILE | ctl build -"
            )));
        }
        Kind::Tar | Kind::Text => Box::new(archive),
    };
    let mut archive = tar::Archive::new(read);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    archive.set_overwrite(true);
    archive
        .unpack(dir)
        .map_err(|err| Failure::io("unpack the context from stdin", &err))
}

/// Whether Docker takes it for a repository's address.
fn is_repository(text: &str) -> bool {
    let address = text.split('#').next().unwrap_or_default();
    let web = address.starts_with("https://") || address.starts_with("http://");
    ["git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| address.starts_with(prefix))
        || (web && address.ends_with(".git"))
}

/// A repository's address: `ADDRESS[#[REF][:DIRECTORY]]`.
#[derive(Debug, PartialEq, Eq)]
struct Repository {
    address: String,
    reference: String,
    directory: String,
}

impl Repository {
    fn parse(text: &str) -> Self {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let address = if address.starts_with("github.com/") {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        Self {
            address,
            reference: if reference.is_empty() {
                "HEAD"
            } else {
                reference
            }
            .to_owned(),
            directory: directory.trim_matches('/').to_owned(),
        }
    }
}

/// Fetches one commit and no history, and returns the directory that was named.
fn clone(repository: &Repository, into: &Path) -> Result<PathBuf, Failure> {
    let root = into.join("tree");
    fs::create_dir(&root).map_err(|err| Failure::io("make a directory for the context", &err))?;
    let Repository {
        address, reference, ..
    } = repository;
    git(&root, &["init", "--quiet"])?;
    git(
        &root,
        &["fetch", "--quiet", "--depth=1", "--", address, reference],
    )?;
    git(&root, &["checkout", "--quiet", "FETCH_HEAD"])?;
    let modules = [
        "submodule",
        "--quiet",
        "update",
        "--init",
        "--recursive",
        "--depth=1",
    ];
    git(&root, &modules)?;
    // History is no part of a context, as with Docker.
    fs::remove_dir_all(root.join(".git"))
        .map_err(|err| Failure::io("remove the context's history", &err))?;
    let failed = |what: &str| {
        let directory = &repository.directory;
        Failure::Client(format!("context {address}: directory {directory}: {what}"))
    };
    let real = |path: &Path| path.canonicalize().map_err(|err| failed(&reason(&err)));
    let found = real(&root.join(&repository.directory))?;
    if !found.starts_with(real(&root)?) {
        return Err(failed("it is outside of the repository"));
    }
    Ok(found)
}

fn git(dir: &Path, args: &[&str]) -> Result<(), Failure> {
    let ended = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output();
    let ended =
        ended.map_err(|err| Failure::io("git, which a context from a repository needs", &err))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let told = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(Failure::Client(format!(
        "git {}: {}",
        args.first().unwrap_or(&""),
        told.unwrap_or("it said nothing").trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_directories() {
        for text in [
            "git://h/r",
            "git@h:r.git",
            "github.com/a/b",
            "https://h/r.git",
            "https://h/r.git#v1:sub",
            "ssh://git@h/r",
        ] {
            assert!(is_repository(text), "{text}");
        }
        for text in [
            ".",
            "/srv/app",
            "https://h/context.tar.gz",
            "github.com",
            "r.git",
        ] {
            assert!(!is_repository(text), "{text}");
        }
        let parsed = Repository::parse("github.com/a/b#v1:/sub/");
        let expected = ("https://github.com/a/b", "v1", "sub");
        let found = (
            parsed.address.as_str(),
            parsed.reference.as_str(),
            parsed.directory.as_str(),
        );
        assert_eq!(found, expected);
        assert_eq!(Repository::parse("git://h/r#:d").reference, "HEAD");
    }

    #[test]
    fn archives_are_told_by_their_first_bytes() {
        let mut block = vec![0; BLOCK];
        block[257..262].copy_from_slice(b"ustar");
        assert_eq!(Kind::of(&block), Kind::Tar);
        assert_eq!(Kind::of(&[0x1f, 0x8b, 8]), Kind::Gzip);
        assert_eq!(Kind::of(b"BZh9"), Kind::Other("bzip2"));
        assert_eq!(Kind::of(b"FROM x\n"), Kind::Text);
        assert_eq!(Kind::of(b""), Kind::Text);
    }

    #[test]
    fn an_archive_cannot_leave_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        fs::create_dir(&inside).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o644);
        let name = b"../out";
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        unpack(Kind::Tar, bytes.as_slice(), &inside).unwrap();
        assert!(!dir.path().join("out").exists());
    }
}
