//! All stores over one root directory.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::containers::Containers;
use crate::content::ContentStore;
use crate::db::Database;
use crate::error::{Because as _, Result};
use crate::images::Images;
use crate::leases::Leases;
use crate::namespaces::Namespaces;
use crate::snapshots::Snapshots;

/// Where the daemon keeps things.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Durable state.
    pub root: PathBuf,
    /// State that ends with the machine's run.
    pub state: PathBuf,
    /// The daemon's gRPC socket.
    pub address: PathBuf,
}

/// The stores. Clones share them.
#[derive(Clone)]
pub struct Core {
    /// Where things are.
    pub config: CoreConfig,
    /// The metadata database below all stores.
    pub db: Database,
    /// Tenants.
    pub namespaces: Namespaces,
    /// Blobs.
    pub content: ContentStore,
    /// Names of images.
    pub images: Images,
    /// Stacked file systems.
    pub snapshots: Snapshots,
    /// Container records.
    pub containers: Containers,
    /// Leases.
    pub leases: Leases,
}

impl Core {
    /// Opens the stores below `config.root`, making what is missing and
    /// removing the litter of an unclean end. One process at a time: the caller
    /// holds the lock on root.
    ///
    /// # Errors
    /// Those of the file system; FailedPrecondition if a newer version wrote
    /// the database.
    pub fn open(config: CoreConfig) -> Result<Self> {
        make_dir(&config.root)?;
        let db = Database::open(&config.root.join("meta.db"))?;
        // What an unpack that was killed has prepared is of no use to anybody.
        Leases::new(db.clone()).end_labelled(crate::gc::OF_PROCESS)?;
        Ok(Self {
            namespaces: Namespaces::new(db.clone()),
            content: ContentStore::new(db.clone(), config.root.join("content"))?,
            snapshots: Snapshots::new(db.clone(), config.root.join("snapshots"))?,
            images: Images::new(db.clone()),
            containers: Containers::new(db.clone()),
            leases: Leases::new(db.clone()),
            db,
            config,
        })
    }
}

/// Makes `path` and its parents, passable but not listable for others:
/// containers in user namespaces reach their root file system through it.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .op(|| format!("make {}", path.display()))
}
