//! The engine's hub: which containers there are, under which names, and how
//! to reach the supervisor of each.
//!
//! Names are given out in one place, under one lock ([`Engine::reserve`]), so
//! that two creates at once cannot get the same. What is here is a view: the
//! records in the database are the truth, and [`Engine::open`] reads them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lite_core::{AnyValue, Because, Core, Filters, Kind, Namespace, Result};

use crate::events::{Event, Events};
use crate::files::{self, ContainerDir};
use crate::limits::Capacity;
use crate::names::Name;
use crate::networks::{self, Fabric};
use crate::oom;
use crate::reconcile;
use crate::record::{EXTENSION, Record};
use crate::spec::HostFacts;
use crate::supervisor::{self, Handle};
use lite_core::ids::Id;

/// The snapshotter of every container the engine makes.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// The type URL of a spec in a container record.
pub(crate) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// What the engine is told by whoever puts the daemon together.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Durable state; containers are under `containers`.
    pub root: PathBuf,
    /// State that ends with the machine's run; session sockets are under `io`.
    pub state: PathBuf,
    /// Name of the cgroup that holds all containers.
    pub cgroup_parent: String,
    /// Runtime of containers that name none.
    pub default_runtime: String,
}

/// Docker's semantics over a core. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    core: Core,
    config: EngineConfig,
    host: HostFacts,
    instance: u16,
    ns: Namespace,
    index: Mutex<Index>,
    events: Events,
    fabric: Fabric,
    /// Until every container of an earlier daemon has been looked at.
    opening: AtomicBool,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Handle>,
    /// Includes names of containers that are being made.
    names: HashMap<String, String>,
}

/// A name that is taken for a container which is being made. Given back when
/// it is dropped, unless the container was entered.
pub(crate) struct Reservation {
    engine: Engine,
    /// The name.
    pub(crate) name: Name,
    id: String,
    kept: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.index().names.remove(self.name.as_str());
        }
    }
}

impl Engine {
    /// Opens the engine over `core`, whose tasks have been reconnected, and
    /// brings every container's record in line with what really is.
    ///
    /// # Errors
    /// Those of the database and of the directories.
    pub async fn open(core: Core, config: EngineConfig) -> Result<Self> {
        let host = host_facts()?;
        let instance = core.config.instance();
        let table = match instance {
            0 => "containerd_lite".to_owned(),
            number => format!("containerd_lite_{number:04x}"),
        };
        let shared = Shared {
            instance,
            fabric: Fabric::new(table),
            core,
            config,
            host,
            ns: Namespace::default(),
            index: Mutex::default(),
            events: Events::default(),
            opening: AtomicBool::new(true),
        };
        let engine = Self {
            shared: Arc::new(shared),
        };
        let stored = {
            let engine = engine.clone();
            lite_core::blocking(move || engine.read_records()).await?
        };
        {
            let engine = engine.clone();
            lite_core::blocking(move || {
                crate::rootfs::sweep(&engine.config().state);
                crate::volumes::sweep(&engine)
            })
            .await?;
        }
        let mut planned = Vec::new();
        for record in stored {
            let plan = reconcile::look(&engine, &record).await;
            if plan != reconcile::Plan::Keep {
                tracing::info!(
                    container_id = record.id,
                    ?plan,
                    phase = record.phase.word(),
                    "reconcile container"
                );
            }
            planned.push((record, plan));
        }
        engine.restore_networks(&planned).await?;
        let mut settling = Vec::new();
        for (record, plan) in planned {
            let handle = engine.enter(record, plan);
            settling.push(async move { handle.settled(plan).await });
        }
        // The first answer tells of every end that came before it.
        futures_util::future::join_all(settling).await;
        engine.shared.opening.store(false, Ordering::Relaxed);
        oom::watch(&engine);
        networks::guard(&engine);
        Ok(engine)
    }

    /// Reads which networks there are, and puts together again what the tasks
    /// that an earlier daemon has left have of them.
    async fn restore_networks(&self, planned: &[(Record, reconcile::Plan)]) -> Result<()> {
        use reconcile::Plan;
        let with_task = planned
            .iter()
            .filter(|(_, plan)| matches!(plan, Plan::Watch(_) | Plan::Reap(_)));
        let running: Vec<Record> = with_task.map(|(record, _)| record.clone()).collect();
        let engine = self.clone();
        lite_core::blocking(move || {
            engine.fabric().state().networks = networks::load(&engine)?;
            networks::restore(&engine, &running);
            Ok(())
        })
        .await
    }

    /// Reads all records and removes directories that have none.
    fn read_records(&self) -> Result<Vec<Record>> {
        let io = self.config().state.join("io");
        std::fs::create_dir_all(&io).op(|| format!("create {}", io.display()))?;
        let mut records = Vec::new();
        for container in self
            .core()
            .containers
            .list(self.ns(), &Filters::default())?
        {
            let Some(any) = container.extensions.get(EXTENSION) else {
                continue;
            };
            match Record::from_json(&any.value) {
                Ok(record) => records.push(record),
                // Left alone: a newer daemon may understand it.
                Err(err) => {
                    tracing::error!(container_id = container.id, error = %err, "read container record")
                }
            }
        }
        let known: std::collections::HashSet<&str> =
            records.iter().map(|record| record.id.as_str()).collect();
        let root = &self.config().root;
        files::sweep(root, |id| known.contains(id)).op(|| format!("sweep {}", root.display()))?;
        Ok(records)
    }

    /// What of the networks is in use.
    pub(crate) fn fabric(&self) -> &Fabric {
        &self.shared.fabric
    }

    /// A number that tells this daemon's links, bridges and tables from those
    /// of another on the same host; zero for the usual one.
    pub(crate) fn instance(&self) -> u16 {
        self.shared.instance
    }

    /// The name of a thing of which each daemon has one: `ctl0`, or for a
    /// daemon with another state directory `ctl-12ab`.
    pub(crate) fn instance_name(&self, word: &str) -> String {
        match self.instance() {
            0 => format!("{word}0"),
            number => format!("{word}-{number:04x}"),
        }
    }

    /// Tells everybody who listens.
    pub(crate) fn emit(&self, event: Event) {
        self.shared.events.emit(event);
    }

    /// Where events go.
    pub(crate) fn events(&self) -> &Events {
        &self.shared.events
    }

    /// Whether the daemon has only just begun, so that what ran under an
    /// earlier one is to be started.
    pub(crate) fn is_opening(&self) -> bool {
        self.shared.opening.load(Ordering::Relaxed)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// AlreadyExists, naming the container that has it.
    pub(crate) fn take_name(&self, wanted: &Name, id: &str) -> Result<()> {
        let mut index = self.index();
        match index.names.get(wanted.as_str()) {
            Some(owner) => Err(name_taken(wanted, owner)),
            None => {
                index
                    .names
                    .insert(wanted.as_str().to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a name back.
    pub(crate) fn free_name(&self, name: &str) {
        self.index().names.remove(name);
    }

    /// The stores.
    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    /// The settings.
    pub(crate) fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// The host.
    pub(crate) fn host(&self) -> &HostFacts {
        &self.shared.host
    }

    /// The tenant all of the engine's containers and images belong to.
    pub(crate) fn ns(&self) -> &Namespace {
        &self.shared.ns
    }

    /// A container's own directory.
    pub(crate) fn dir(&self, id: &str) -> ContainerDir {
        ContainerDir::new(&self.config().root, id)
    }

    /// The session socket of a container or an exec. Half of the id is
    /// unique enough and keeps the path inside the 107 bytes of a socket's.
    pub(crate) fn session_socket(&self, id: &str) -> PathBuf {
        self.config().state.join("io").join(&id[..id.len().min(32)])
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.shared
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `wanted`, or an invented name, for the container `id`.
    ///
    /// # Errors
    /// AlreadyExists, naming the container that has it.
    pub(crate) fn reserve(&self, wanted: Option<Name>, id: &Id) -> Result<Reservation> {
        let mut index = self.index();
        let name = match wanted {
            Some(name) => {
                if let Some(owner) = index.names.get(name.as_str()) {
                    return Err(name_taken(&name, owner));
                }
                name
            }
            None => invent(&index.names)?,
        };
        index
            .names
            .insert(name.as_str().to_owned(), id.as_str().to_owned());
        drop(index);
        Ok(Reservation {
            engine: self.clone(),
            name,
            id: id.as_str().to_owned(),
            kept: false,
        })
    }

    /// Enters a container that was just made and starts its supervisor.
    pub(crate) fn enter_new(&self, mut reservation: Reservation, record: Record) {
        debug_assert_eq!(reservation.id, record.id);
        reservation.kept = true;
        self.enter(record, reconcile::Plan::Keep);
    }

    /// Collects what a failed transfer has brought. Its error is the one to
    /// tell; what cannot be collected now is at the next collection.
    pub async fn sweep(&self) {
        let core = self.core().clone();
        let swept = lite_core::blocking(move || lite_core::gc::collect(&core)).await;
        if let Err(err) = swept {
            tracing::warn!(error = %lite_core::chain(&err), "collect after a failed transfer");
        }
    }

    fn enter(&self, record: Record, plan: reconcile::Plan) -> Handle {
        let (id, name) = (record.id.clone(), record.name.clone());
        let handle = supervisor::spawn(self.clone(), record, plan);
        let mut index = self.index();
        index.names.insert(name, id.clone());
        index.by_id.insert(id, handle.clone());
        handle
    }

    /// Forgets a container that is gone; its name is free.
    pub(crate) fn forget(&self, id: &str, name: &str) {
        let mut index = self.index();
        index.by_id.remove(id);
        index.names.remove(name);
    }

    /// All containers, in no particular order.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.index().by_id.values().cloned().collect()
    }

    /// The container that `typed` names: by id, by name, or by the beginning
    /// of an id that only one container has.
    ///
    /// # Errors
    /// NotFound; InvalidArgument when several ids begin so.
    pub(crate) fn find(&self, typed: &str) -> Result<Handle> {
        let index = self.index();
        let bare = typed.strip_prefix('/').unwrap_or(typed);
        let by_name = || index.names.get(bare).and_then(|id| index.by_id.get(id));
        if let Some(handle) = index.by_id.get(bare).or_else(by_name) {
            return Ok(handle.clone());
        }
        if !bare.is_empty() {
            let from = (Bound::Included(bare.to_owned()), Bound::Unbounded);
            let mut begin_so = index
                .by_id
                .range::<String, _>(from)
                .take_while(|(id, _)| id.starts_with(bare));
            match (begin_so.next(), begin_so.next()) {
                (Some((_, handle)), None) => return Ok(handle.clone()),
                (Some(_), Some(_)) => {
                    return Err(Kind::InvalidArgument
                        .error(format!("Multiple IDs found with provided prefix: {typed}")));
                }
                (None, _) => {}
            }
        }
        Err(Kind::NotFound.error(format!("No such container: {typed}")))
    }

    /// Stores `record`, and `spec` where it has changed.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn store(&self, record: &Record, spec: Option<&[u8]>) -> Result<()> {
        let extension = EXTENSION.to_owned();
        let paths = [format!("extensions.{extension}"), "spec".to_owned()];
        let container = lite_core::Container {
            id: record.id.clone(),
            extensions: [(extension, extension_of(record)?)].into(),
            spec: spec.map(|value| AnyValue {
                type_url: SPEC_TYPE.to_owned(),
                value: value.to_vec(),
            }),
            ..lite_core::Container::default()
        };
        let paths = if spec.is_some() {
            &paths[..]
        } else {
            &paths[..1]
        };
        self.core()
            .containers
            .update(self.ns(), &container, paths)?;
        Ok(())
    }
}

/// A record as the container's extension.
///
/// # Errors
/// Internal; see [`Record::to_json`].
pub(crate) fn extension_of(record: &Record) -> Result<AnyValue> {
    let value = record
        .to_json()
        .map_err(|err| Kind::Internal.error("encode container record").because(err))?;
    Ok(AnyValue {
        type_url: EXTENSION.to_owned(),
        value,
    })
}

fn name_taken(name: &Name, owner: &str) -> lite_core::Error {
    Kind::AlreadyExists.error(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}

fn invent(taken: &HashMap<String, String>) -> Result<Name> {
    for attempt in 0.. {
        let random =
            getrandom::u64().map_err(|err| Kind::Internal.error("invent a name").because(err))?;
        let name = Name::invent(random, attempt);
        if !taken.contains_key(name.as_str()) {
            return Ok(name);
        }
    }
    Err(Kind::ResourceExhausted.error("invent a name"))
}

/// Processors, and whether the kernel counts swap: on v1 by the file that
/// would hold the limit, on v2 always where there is memory control.
fn capacity() -> Capacity {
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory");
    Capacity {
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        swap: !v1.exists() || v1.join("memory.memsw.limit_in_bytes").exists(),
    }
}

fn host_facts() -> Result<HostFacts> {
    let uname = nix::sys::utsname::uname().op(|| "uname".to_owned())?;
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok());
    Ok(HostFacts {
        cgroup2: std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        kernel: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        arch: lite_core::Platform::host().architecture,
        capacity: capacity(),
        mqueue: std::path::Path::new("/dev/mqueue").exists(),
        last_capability: std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(lite_core::capabilities::ALL.len() - 1),
    })
}
