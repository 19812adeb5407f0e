//! How much room images and containers take.

use std::path::PathBuf;
use std::time::SystemTime;

use lite_core::{Filters, Kind, OVERLAYFS, Result, SnapshotKind};

use crate::hub::Cri;

/// What lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// When it was measured.
    pub at: SystemTime,
    /// The directory.
    pub dir: PathBuf,
    /// Bytes in use.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// What all snapshots of Kubernetes' images and containers take.
///
/// # Errors
/// Those of storage.
pub async fn usage(cri: &Cri) -> Result<FilesystemUsage> {
    let cri = cri.clone();
    lite_core::blocking(move || {
        let snapshots = &cri.core().snapshots;
        let mut sum = FilesystemUsage {
            at: SystemTime::now(),
            dir: cri.core().config.root.join("snapshots"),
            bytes: 0,
            inodes: 0,
        };
        for snapshot in snapshots.list(cri.ns(), OVERLAYFS, &Filters::default())? {
            if snapshot.kind == SnapshotKind::View {
                continue;
            }
            match snapshots.usage(cri.ns(), OVERLAYFS, &snapshot.name) {
                Ok(one) => {
                    sum.bytes += one.size;
                    sum.inodes += one.inodes;
                }
                // Gone since it was listed.
                Err(err) if err.kind() == Kind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
        Ok(sum)
    })
    .await
}
