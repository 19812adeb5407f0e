//! Bundles on disk: `<state>/tasks/<namespace>/<id>/`.
//!
//! `config.json` is the spec, `rootfs/` where the shim mounts the root file
//! system, `log` its log, and `shim.json` ([`Record`]) what a later daemon
//! needs to find the shim again. The directory is run-time state: nothing in it
//! is synced, as a power cut ends the containers too. Only the daemon creates
//! and removes bundles; while one exists its id is taken.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Because, Kind, Result};
use crate::namespace::Namespace;
use crate::shim::Endpoint;

const RECORD: &str = "shim.json";

/// Mounts stacked on one root file system; more is a loop of somebody's making.
const MOST_MOUNTS: usize = 64;

/// What `shim.json` holds. Written before the shim is started, and again once
/// it has answered, each time by renaming a whole file into place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The runtime's name as the container has it.
    pub(super) runtime: String,
    /// The shim binary that was run for it.
    pub(super) shim: PathBuf,
    /// Where the shim listens; absent until it has answered.
    pub(super) endpoint: Option<Endpoint>,
}

/// One container's bundle directory.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
}

impl Bundle {
    /// Names the bundle of container `id` without touching the disk.
    pub(super) fn at(tasks: &Path, namespace: &Namespace, id: &str) -> Self {
        Self {
            path: tasks.join(namespace.as_str()).join(id),
        }
    }

    /// Makes the bundle on disk, whole or not at all.
    ///
    /// # Errors
    /// AlreadyExists if there is one, InvalidArgument if `spec` is no JSON.
    pub(super) fn create(&self, spec: &[u8]) -> Result<()> {
        let (mode, group) = access(spec)?;
        if let Some(parent) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(parent)
                .op(|| format!("make {}", parent.display()))?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&self.path)
            .op(|| format!("make bundle {}", self.path.display()))?;
        self.fill(spec, mode, group).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_dir_all(&self.path);
        })
    }

    fn fill(&self, spec: &[u8], mode: u32, group: Option<u32>) -> Result<()> {
        let op = || format!("fill bundle {}", self.path.display());
        DirBuilder::new()
            .mode(0o711)
            .create(self.path.join("rootfs"))
            .op(op)?;
        let config = self.path.join("config.json");
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(config)
            .and_then(|mut file| file.write_all(spec))
            .op(op)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(&self.path, None, Some(group)).op(op)?;
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).op(op)
    }

    /// Writes `shim.json`.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        let op = || format!("write {}", self.path.join(RECORD).display());
        let text =
            serde_json::to_vec(record).map_err(|err| Kind::Internal.error(op()).because(err))?;
        let fresh = self.path.join("shim.json~");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, self.path.join(RECORD)))
            .op(op)
    }

    /// Reads `shim.json`; `None` if it was never written.
    pub(super) fn load(&self) -> Result<Option<Record>> {
        let path = self.path.join(RECORD);
        let op = || format!("read {}", path.display());
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|err| Kind::DataLoss.error(op()).because(err)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).op(op),
        }
    }

    /// The address that shims leave in the bundle themselves, for the case
    /// that the daemon ended before it had read the answer.
    pub(super) fn address(&self) -> Option<Endpoint> {
        Endpoint::parse(&fs::read(self.path.join("address")).ok()?).ok()
    }

    /// Unmounts the root file system and removes the directory. A bundle that
    /// does not exist is a success.
    ///
    /// # Errors
    /// If something stays mounted or the rootfs is not empty afterwards:
    /// nothing below it is deleted then, as it may be the container's data.
    pub(super) fn remove(&self) -> Result<()> {
        let rootfs = self.path.join("rootfs");
        for _ in 0..MOST_MOUNTS {
            match umount2(&rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(errno).op(|| format!("unmount {}", rootfs.display())),
            }
        }
        absent_is_fine(fs::remove_dir(&rootfs)).op(|| format!("remove {}", rootfs.display()))?;
        // Renamed first: what a crash leaves of it is then no bundle any more.
        let doomed = self.doomed();
        absent_is_fine(fs::rename(&self.path, &doomed))
            .op(|| format!("remove bundle {}", self.path.display()))?;
        absent_is_fine(fs::remove_dir_all(&doomed)).op(|| format!("remove {}", doomed.display()))
    }

    fn doomed(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // Ids never begin with a dot.
        self.path.with_file_name(format!(".{name}"))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Mode and group of the bundle directory: a container's root that is another
/// user outside must be able to pass through, and nobody else.
fn access(spec: &[u8]) -> Result<(u32, Option<u32>)> {
    let spec: Value = serde_json::from_slice(spec).map_err(|err| {
        Kind::InvalidArgument
            .error("spec is not valid JSON")
            .because(err)
    })?;
    let mappings = spec.pointer("/linux/gidMappings").and_then(Value::as_array);
    let root = mappings
        .into_iter()
        .flatten()
        .find(|mapping| mapping["containerID"] == 0);
    let group = root
        .and_then(|mapping| mapping["hostID"].as_u64())
        .and_then(|gid| u32::try_from(gid).ok());
    Ok(if group.is_some() {
        (0o710, group)
    } else {
        (0o700, None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(dir: &tempfile::TempDir) -> Bundle {
        Bundle::at(dir.path(), &Namespace::default(), "c")
    }

    #[test]
    fn a_bundle_is_private_and_gone_after_removal() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir);
        bundle.create(b"{}").unwrap();
        assert_eq!(
            fs::metadata(&bundle.path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::read(bundle.path.join("config.json")).unwrap(), b"{}");
        assert_eq!(
            bundle.create(b"{}").unwrap_err().kind(),
            Kind::AlreadyExists
        );
        bundle.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("default")).unwrap().count(), 0);
        bundle.remove().unwrap();
    }

    #[test]
    fn a_bundle_with_a_remapped_root_lets_that_group_through() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir);
        bundle
            .create(br#"{"linux":{"gidMappings":[{"containerID":0,"hostID":4242,"size":10}]}}"#)
            .unwrap();
        let meta = fs::metadata(&bundle.path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o710);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&meta), 4242);
    }

    #[test]
    fn a_spec_that_is_no_json_makes_no_bundle() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            bundle(&dir).create(b"{").unwrap_err().kind(),
            Kind::InvalidArgument
        );
        assert!(!bundle(&dir).path.exists());
    }

    #[test]
    fn data_in_the_rootfs_is_never_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir);
        bundle.create(b"{}").unwrap();
        fs::write(bundle.path.join("rootfs/precious"), "data").unwrap();
        bundle.remove().unwrap_err();
        assert!(bundle.path.join("rootfs/precious").exists());
    }

    #[test]
    fn the_record_survives_and_a_damaged_one_is_told_from_an_absent_one() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir);
        bundle.create(b"{}").unwrap();
        assert_eq!(bundle.load().unwrap(), None);
        let record = Record {
            runtime: "io.containerd.runc.v2".to_owned(),
            shim: "/bin/shim".into(),
            endpoint: Some(Endpoint {
                socket: "/s".into(),
                version: 3,
            }),
        };
        bundle.save(&record).unwrap();
        assert_eq!(bundle.load().unwrap(), Some(record));
        fs::write(bundle.path.join(RECORD), "{").unwrap();
        assert_eq!(bundle.load().unwrap_err().kind(), Kind::DataLoss);
    }
}
