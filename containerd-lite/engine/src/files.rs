//! A container's own directory, `<root>/containers/<id>`: its log, and the
//! three files under `/etc` that differ from container to container.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDir {
    path: PathBuf,
    id: String,
}

impl ContainerDir {
    /// The directory of container `id` under the daemon's `root`.
    #[must_use]
    pub fn new(root: &Path, id: &str) -> Self {
        Self {
            path: root.join("containers").join(id),
            id: id.to_owned(),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The json-file log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join(format!("{}-json.log", self.id))
    }

    /// Makes the directory, for root alone.
    ///
    /// # Errors
    /// Those of `mkdir(2)`.
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.path)
    }

    /// Removes the directory with everything in it; one that is not there is
    /// fine.
    ///
    /// # Errors
    /// Those of removing files.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }
}

/// Removes the directories under `root` whose container is not `known`: what
/// a daemon that was killed in the middle of a create or a removal left.
///
/// # Errors
/// Those of reading the directory; what cannot be removed is logged.
pub fn sweep(root: &Path, known: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(root.join("containers")) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(id) = name.to_str().filter(|id| !known(id)) else {
            continue;
        };
        match ContainerDir::new(root, id).remove() {
            Ok(()) => tracing::info!(container_id = id, "removed a directory without container"),
            Err(err) => {
                tracing::warn!(container_id = id, error = %err, "directory without container")
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_roots_alone_and_goes_with_its_files() {
        let root = tempfile::tempdir().unwrap();
        let dir = ContainerDir::new(root.path(), "c1");
        dir.create().unwrap();
        fs::write(dir.path().join("hostname"), "web\n").unwrap();
        let mode = fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        dir.remove().unwrap();
        assert!(!dir.path().exists());
        dir.remove().unwrap();
    }

    #[test]
    fn only_unknown_directories_are_swept() {
        let root = tempfile::tempdir().unwrap();
        sweep(root.path(), |_| true).unwrap();
        for id in ["kept", "gone"] {
            ContainerDir::new(root.path(), id).create().unwrap();
        }
        sweep(root.path(), |id| id == "kept").unwrap();
        assert!(root.path().join("containers/kept").exists());
        assert!(!root.path().join("containers/gone").exists());
    }
}
