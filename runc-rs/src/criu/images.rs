//! The files of a checkpoint: criu's images, its log, and beside them what the container's standard streams were.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};
use crate::log::Log;

/// More lines of criu's log than this say no more.
const QUOTED: usize = 20;

/// The directories of one checkpoint, open.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    open: File,
    work: Option<(PathBuf, File)>,
}

impl Images {
    /// Opens the directory of the images, `./checkpoint` if none is named, and the one for logs, which is made if missing.
    pub(crate) fn open(dir: Option<&Path>, work: Option<&Path>) -> Result<Self> {
        let given = |path: Option<&Path>| {
            path.filter(|p| !p.as_os_str().is_empty())
                .map(Path::to_path_buf)
        };
        let dir = given(dir).unwrap_or_else(|| PathBuf::from("checkpoint"));
        let open = open_dir(&dir)?;
        let work = match given(work) {
            None => None,
            Some(work) => {
                make_dir(&work)?;
                let open = open_dir(&work)?;
                Some((work, open))
            }
        };
        Ok(Self { dir, open, work })
    }

    /// The same for a checkpoint that is to be made.
    pub(crate) fn make(dir: Option<&Path>, work: Option<&Path>) -> Result<Self> {
        match dir.filter(|p| !p.as_os_str().is_empty()) {
            Some(dir) => make_dir(dir)?,
            None => make_dir(Path::new("checkpoint"))?,
        }
        Self::open(dir, work)
    }

    /// Descriptor numbers of the directories, for criu.
    pub(crate) fn numbers(&self) -> (i32, Option<i32>) {
        let work = self.work.as_ref().map(|(_, open)| open.as_raw_fd());
        (self.open.as_raw_fd(), work)
    }

    /// An earlier checkpoint of the same container, as a path from this one.
    pub(crate) fn check_parent(&self, parent: &Path) -> Result<()> {
        if parent.is_absolute() {
            return Err(Failure::new(format!(
                "--parent-path must be relative to --image-path, got {}",
                parent.display()
            )));
        }
        let path = self.dir.join(parent);
        let found = fs::metadata(&path)
            .context(|| format!("invalid --parent-path: stat {}", path.display()))?;
        if found.is_dir() {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "invalid --parent-path: {} is no directory",
                path.display()
            )))
        }
    }

    /// Writes down what the standard streams are, so that a restore can put others in the place of pipes.
    pub(crate) fn write_descriptors(&self, descriptors: &[String]) -> Result<()> {
        let file = self.dir.join("descriptors.json");
        let write = || -> std::io::Result<()> {
            let mut out = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file)?;
            std::io::Write::write_all(&mut out, &serde_json::to_vec(descriptors)?)
        };
        write().context(|| format!("write {}", file.display()))
    }

    pub(crate) fn read_descriptors(&self) -> Result<Vec<String>> {
        let file = self.dir.join("descriptors.json");
        let text = fs::read(&file).context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).context(|| format!("read {}", file.display()))
    }

    /// Warns with the errors that criu's log file `name` has.
    pub(crate) fn quote_errors(&self, name: &str, log: &Log) {
        let dir = self.work.as_ref().map_or(&self.dir, |(dir, _)| dir);
        let file = dir.join(name);
        match fs::read(&file) {
            Ok(text) => {
                for line in errors(&String::from_utf8_lossy(&text)) {
                    log.warn(&format!("{}:{line}", file.display()));
                }
            }
            // It may have failed before it had one.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => log.warn(&format!("read {}: {e}", file.display())),
        }
    }
}

/// The last lines with an error, each with its number.
fn errors(log: &str) -> Vec<String> {
    let mut found: Vec<String> = log
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("Error"))
        .map(|(at, line)| format!("{}: {line}", at + 1))
        .collect();
    found.split_off(found.len().saturating_sub(QUOTED))
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .context(|| format!("create {}", dir.display()))
}

fn open_dir(dir: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY)
        .open(dir)
        .context(|| format!("open {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_with_their_lines() {
        let log = "fine\n(00.1) Error (criu/x.c:1): no\nfine\nError: last\n";
        assert_eq!(
            errors(log),
            ["2: (00.1) Error (criu/x.c:1): no", "4: Error: last"]
        );
        assert_eq!(errors(&"Error\n".repeat(100)).len(), QUOTED);
    }

    #[test]
    fn a_parent_is_a_directory_beside() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        let images = Images::make(Some(&images), None).unwrap();
        fs::create_dir(dir.path().join("parent")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(images.check_parent(Path::new("../parent")).is_ok());
        for wrong in ["../file", "../none", "/tmp"] {
            let error = images.check_parent(Path::new(wrong)).unwrap_err();
            assert!(error.to_string().contains("--parent-path"), "{error}");
        }
    }

    #[test]
    fn streams_are_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::make(Some(dir.path()), None).unwrap();
        let streams = ["/dev/null".to_owned(), "pipe:[7]".to_owned()];
        images.write_descriptors(&streams).unwrap();
        assert_eq!(images.read_descriptors().unwrap(), streams);
    }
}
