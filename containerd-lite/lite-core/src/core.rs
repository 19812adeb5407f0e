//! All stores over one root directory.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::containers::Containers;
use crate::content::ContentStore;
use crate::db::Database;
use crate::documents::Documents;
use crate::error::{Because as _, Result};
use crate::events::Events;
use crate::images::Images;
use crate::leases::Leases;
use crate::namespaces::Namespaces;
use crate::sandboxes::Sandboxes;
use crate::shim::Launcher;
use crate::snapshots::Snapshots;
use crate::tasks::{Tasks, TasksConfig};

/// Where the daemon keeps things.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Durable state.
    pub root: PathBuf,
    /// State that ends with the machine's run.
    pub state: PathBuf,
    /// The daemon's gRPC socket.
    pub address: PathBuf,
    /// Directories to look for shim binaries in, before the daemon's own and PATH.
    pub shim_dirs: Vec<PathBuf>,
    /// Whether shims should log their debug lines.
    pub shim_debug: bool,
    /// How registries are reached.
    pub registry: registry::Config,
}

impl CoreConfig {
    /// Shims take the gRPC socket's path with this appended for the socket
    /// that their events go to.
    const TTRPC_SUFFIX: &str = ".ttrpc";

    /// Where shims send their events.
    #[must_use]
    pub fn ttrpc_address(&self) -> PathBuf {
        let mut path = self.address.clone().into_os_string();
        path.push(Self::TTRPC_SUFFIX);
        PathBuf::from(path)
    }

    /// A number made of the state directory's path (FNV-1a) that tells what this
    /// daemon makes on the host (links, bridges, tables) from what another does;
    /// zero for the usual directory.
    #[must_use]
    pub fn instance(&self) -> u16 {
        if self.state == Path::new("/run/containerd-lite") {
            return 0;
        }
        let bytes = self.state.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let folded = (hash >> 16) ^ (hash & 0xffff);
        u16::try_from(folded).unwrap_or(1).max(1)
    }

    fn tasks(&self) -> Result<TasksConfig> {
        let publish_binary =
            std::env::current_exe().op(|| "find the daemon's own binary".to_owned())?;
        let launcher = Launcher {
            grpc_address: self.address.clone(),
            ttrpc_address: self.ttrpc_address(),
            publish_binary,
            dirs: self.shim_dirs.clone(),
            debug: self.shim_debug,
        };
        Ok(TasksConfig {
            state: self.state.clone(),
            launcher,
        })
    }
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
    /// Sandbox records.
    pub sandboxes: Sandboxes,
    /// Leases.
    pub leases: Leases,
    /// Talks to registries, anonymously.
    pub registry: registry::Client,
    /// Documents of the services above.
    pub documents: Documents,
    /// What happens, for whoever wants to know.
    pub events: Events,
    /// Running instances of containers. None is known before
    /// [`Tasks::reconnect`] was called.
    pub tasks: Tasks,
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
        // What an unpack or an import that was killed has prepared is of no use to
        // anybody; what a pull has brought is, to the next one.
        let leases = Leases::new(db.clone());
        leases.end_labelled(crate::gc::OF_PROCESS)?;
        leases.interrupt_all()?;
        let events = db.events().clone();
        let tasks = Tasks::new(config.tasks()?, events.clone());
        Ok(Self {
            events,
            tasks,
            namespaces: Namespaces::new(db.clone()),
            content: ContentStore::new(db.clone(), config.root.join("content"))?,
            snapshots: Snapshots::new(db.clone(), config.root.join("snapshots"))?,
            images: Images::new(db.clone()),
            containers: Containers::new(db.clone()),
            leases,
            sandboxes: Sandboxes::new(db.clone()),
            registry: registry::Client::new(config.registry.clone())
                .map_err(crate::remote::plain)?,
            documents: Documents::new(db.clone()),
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
