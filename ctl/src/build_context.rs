//! The directory that a build may see, as the daemon asks for it: names of a directory, bytes of a file.
//!
//! Nothing outside of it is ever sent: a path is taken apart, and what it leads to must lie inside.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use proto::engine::v1::build_input::{File as Entry, Listing, Piece};

use crate::failure::{Failure, reason};

/// Bytes in one message, well below gRPC's limit.
const CHUNK: usize = 256 << 10;

/// A context. Empty for a build that has none.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    root: Option<PathBuf>,
}

impl Context {
    /// The context in the directory `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let context = |err: &io::Error| Failure::io(format!("context {}", path.display()), err);
        let root = path.canonicalize().map_err(|err| context(&err))?;
        if !root.is_dir() {
            return Err(context(&io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { root: Some(root) })
    }

    /// No files at all.
    pub(crate) fn empty() -> Self {
        Self { root: None }
    }

    /// What tells it from other contexts.
    pub(crate) fn id(&self) -> String {
        match &self.root {
            Some(root) => root.display().to_string(),
            None => String::new(),
        }
    }

    /// The files in the directory `path`.
    pub(crate) fn list(&self, path: String) -> Listing {
        let (files, error) = match self.entries(&path) {
            Ok(files) => (files, String::new()),
            Err(err) => (Vec::new(), reason(&err)),
        };
        Listing { path, files, error }
    }

    fn entries(&self, path: &str) -> io::Result<Vec<Entry>> {
        let Some(dir) = self.inside(path)? else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is no text cannot stand in a Dockerfile either.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let about = entry.metadata()?;
            let target = if about.is_symlink() {
                fs::read_link(entry.path())?.to_string_lossy().into_owned()
            } else {
                String::new()
            };
            let nanos = about.mtime().saturating_mul(1_000_000_000);
            entries.push(Entry {
                name,
                mode: about.mode(),
                size: about.size(),
                modified_ns: nanos.saturating_add(about.mtime_nsec()),
                inode: about.ino(),
                target,
            });
        }
        Ok(entries)
    }

    /// Hands the bytes of the file `path` to `send`, until that says no.
    pub(crate) fn read(&self, path: &str, mut send: impl FnMut(Piece) -> bool) {
        let piece = |data: Vec<u8>, last: bool, error: String| Piece {
            path: path.to_owned(),
            data: data.into(),
            last,
            error,
        };
        let opened = self.inside(path).and_then(|found| match found {
            Some(found) => File::open(found),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        let mut file = match opened {
            Ok(file) => file,
            Err(err) => {
                send(piece(Vec::new(), true, reason(&err)));
                return;
            }
        };
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let next = match read {
                Ok(read) => piece(chunk, read < CHUNK, String::new()),
                Err(err) => piece(Vec::new(), true, reason(&err)),
            };
            let last = next.last;
            if !send(next) || last {
                return;
            }
        }
    }

    /// The real path of `path`, which must lie inside.
    fn inside(&self, path: &str) -> io::Result<Option<PathBuf>> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let plain = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let real = root.join(path).canonicalize()?;
        if !plain || !real.starts_with(root) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is outside of the context",
            ));
        }
        Ok(Some(real))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(context: &Context, path: &str) -> (Vec<u8>, String) {
        let (mut bytes, mut error) = (Vec::new(), String::new());
        context.read(path, |piece| {
            bytes.extend_from_slice(&piece.data);
            error.push_str(&piece.error);
            true
        });
        (bytes, error)
    }

    #[test]
    fn files_are_listed_and_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![7; CHUNK + 1]).unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("d/l")).unwrap();
        let context = Context::open(dir.path()).unwrap();
        let mut files = context.list("d".to_owned()).files;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(
            (files[0].size, files[1].target.as_str()),
            (CHUNK as u64 + 1, "f")
        );
        assert_eq!(read(&context, "d/f").0.len(), CHUNK + 1);
        assert!(!context.list("none".to_owned()).error.is_empty());
        assert!(context.list(String::new()).error.is_empty());
    }

    #[test]
    fn nothing_outside_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("c/up")).unwrap();
        let context = Context::open(&dir.path().join("c")).unwrap();
        for path in ["../secret", "up/secret", "/etc/passwd"] {
            let (bytes, error) = read(&context, path);
            assert!(
                bytes.is_empty() && error.contains("outside"),
                "{path}: {error}"
            );
        }
        assert!(!context.list("up".to_owned()).error.is_empty());
    }

    #[test]
    fn a_build_without_context_has_no_files() {
        let context = Context::empty();
        assert!(context.list(String::new()).files.is_empty());
        assert!(!read(&context, "x").1.is_empty());
    }
}
