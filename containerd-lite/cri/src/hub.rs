//! What all use cases share: the stores, what pods and containers there are,
//! and who is waiting for a change of one.
//!
//! The index is a view: the records in the database are the truth, and a
//! change is stored before it shows here. What works on one pod or container
//! holds its gate, so that two requests for it come one after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lite_core::{AnyValue, Because, Core, Kind, Namespace, Result};
use tokio::sync::{OnceCell, OwnedMutexGuard, broadcast, watch};

use crate::bridge::Bridge;
use crate::events::Event;
use crate::host::Host;
use crate::record::{ContainerRecord, EXTENSION, PodRecord, encode};
use crate::stats::Rates;

/// The tenant of everything that Kubernetes makes; containerd's own name for
/// it, so that its clients look in the right place.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// Events that a slow listener may be behind; then it misses some, and is told.
const EVENTS: usize = 1024;

/// What it is told by whoever puts the daemon together.
#[derive(Debug, Clone)]
pub struct CriConfig {
    /// The cgroup of containers whose pod names none.
    pub cgroup_parent: String,
    /// Where networks are configured.
    pub cni_conf_dir: PathBuf,
    /// Where plugins are.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Runtimes by the name of their handler: a path or a program in PATH.
    pub runtimes: BTreeMap<String, String>,
    /// Systemd makes the cgroups.
    pub systemd_cgroup: bool,
    /// Where clients get streams of containers.
    pub stream_address: SocketAddr,
}

/// Whether something that a kubelet asks for is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Kubernetes' word for it.
    pub name: &'static str,
    /// One word and a sentence, where it is not.
    pub fault: Option<(&'static str, String)>,
}

/// Kubernetes' view of a core. Clones share everything.
#[derive(Clone)]
pub struct Cri {
    shared: Arc<Shared>,
}

struct Shared {
    core: Core,
    config: CriConfig,
    host: Host,
    ns: Namespace,
    index: Mutex<Index>,
    bridge: Bridge,
    plugins: cni::Client,
    /// Listens from the first URL on: without a kubelet no port is open.
    streaming: OnceCell<streaming::Server>,
    rates: Rates,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Index {
    pods: BTreeMap<String, Arc<PodRecord>>,
    containers: BTreeMap<String, Arc<ContainerRecord>>,
    /// Who has which name; includes those that are being made.
    names: HashMap<String, String>,
    gates: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Containers whose end a shim has told of, and nobody has taken note.
    ends: HashSet<String>,
}

/// A name that is taken. Given back when it is dropped, unless it was kept.
pub(crate) struct Name {
    cri: Cri,
    name: String,
    kept: bool,
}

impl Name {
    /// The name stays taken until [`Cri::forget_pod`] or
    /// [`Cri::forget_container`].
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.kept {
            self.cri.index().names.remove(&self.name);
        }
    }
}

impl Cri {
    /// An empty one.
    ///
    /// # Errors
    /// Those of looking at the host.
    pub(crate) fn new(core: Core, config: CriConfig) -> Result<Self> {
        let shared = Shared {
            host: Host::look()?,
            bridge: Bridge::open(&core),
            // Beside the leases that plugins keep over a boot, which are given
            // back by what is known here.
            plugins: cni::Client::new(config.cni_bin_dirs.clone(), &core.config.root.join("cni")),
            core,
            config,
            ns: Namespace::parse(NAMESPACE)?,
            index: Mutex::default(),
            streaming: OnceCell::new(),
            rates: Rates::default(),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The stores.
    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    /// The settings.
    pub(crate) fn config(&self) -> &CriConfig {
        &self.shared.config
    }

    /// The host.
    pub(crate) fn host(&self) -> &Host {
        &self.shared.host
    }

    /// The tenant that all pods, containers and images belong to.
    pub(crate) fn ns(&self) -> &Namespace {
        &self.shared.ns
    }

    /// The network of pods that no plugin has.
    pub(crate) fn bridge(&self) -> &Bridge {
        &self.shared.bridge
    }

    /// The network of pods that the host is configured for.
    pub(crate) fn plugins(&self) -> &cni::Client {
        &self.shared.plugins
    }

    /// Where clients get streams.
    ///
    /// # Errors
    /// Those of listening, for the first who asks.
    pub(crate) async fn streaming(&self) -> Result<&streaming::Server> {
        let listen = self.shared.config.stream_address;
        let start = || {
            streaming::Server::start(streaming::Config {
                listen,
                ..streaming::Config::default()
            })
        };
        let started = self.shared.streaming.get_or_try_init(start).await;
        started.op(|| format!("listen on {listen} for streams of containers"))
    }

    /// Processor time as last seen.
    pub(crate) fn rates(&self) -> &Rates {
        &self.shared.rates
    }

    /// Whether pods can be run, and whether they get a network.
    pub async fn conditions(&self) -> Vec<Condition> {
        let runtime = Condition {
            name: "RuntimeReady",
            fault: None,
        };
        vec![runtime, crate::connect::condition(self).await]
    }

    /// Whether systemd makes the cgroups.
    #[must_use]
    pub fn has_systemd_cgroups(&self) -> bool {
        self.config().systemd_cgroup
    }

    /// The settings, for people.
    #[must_use]
    pub fn about(&self) -> serde_json::Value {
        let (core, config) = (&self.core().config, self.config());
        serde_json::json!({
            "root": core.root,
            "state": core.state,
            "namespace": self.ns().as_str(),
            "cgroupParent": config.cgroup_parent,
            "cniConfDir": config.cni_conf_dir,
            "cniBinDirs": config.cni_bin_dirs,
            "runtimes": config.runtimes,
            "systemdCgroup": config.systemd_cgroup,
        })
    }

    /// The directory of a pod's namespaces and files, until the next boot.
    pub(crate) fn pod_dir(&self, id: &str) -> PathBuf {
        self.core().config.state.join("sandboxes").join(id)
    }

    /// The session socket of a container or an exec. Half of the id is unique
    /// enough and keeps the path inside the 107 bytes of a socket's.
    pub(crate) fn session_socket(&self, id: &str) -> PathBuf {
        let short = id.get(..32).unwrap_or(id);
        self.core().config.state.join("io").join(short)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.shared
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for `id`.
    ///
    /// # Errors
    /// AlreadyExists, naming who has it.
    pub(crate) fn take_name(&self, name: String, id: &str) -> Result<Name> {
        let mut index = self.index();
        if let Some(owner) = index.names.get(&name) {
            return Err(
                Kind::AlreadyExists.error(format!("name {name:?} is reserved for {owner:?}"))
            );
        }
        index.names.insert(name.clone(), id.to_owned());
        drop(index);
        Ok(Name {
            cri: self.clone(),
            name,
            kept: false,
        })
    }

    /// Waits for the turn to work on the pod or container `id`.
    pub(crate) async fn turn(&self, id: &str) -> OwnedMutexGuard<()> {
        let gate = Arc::clone(self.index().gates.entry(id.to_owned()).or_default());
        gate.lock_owned().await
    }

    /// The pod `id`, or the only one whose id begins so.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<PodRecord>> {
        only(&self.index().pods, id)
            .ok_or_else(|| Kind::NotFound.error(format!("pod sandbox {id:?}: not found")))
    }

    /// The container `id`, or the only one whose id begins so.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<ContainerRecord>> {
        only(&self.index().containers, id)
            .ok_or_else(|| Kind::NotFound.error(format!("container {id:?}: not found")))
    }

    /// All pods, by id.
    pub(crate) fn pods(&self) -> Vec<Arc<PodRecord>> {
        self.index().pods.values().cloned().collect()
    }

    /// All containers, by id.
    pub(crate) fn containers(&self) -> Vec<Arc<ContainerRecord>> {
        self.index().containers.values().cloned().collect()
    }

    /// The containers of a pod, by id.
    pub(crate) fn containers_of(&self, pod: &str) -> Vec<Arc<ContainerRecord>> {
        let index = self.index();
        let of_pod = index.containers.values().filter(|one| one.pod == pod);
        of_pod.cloned().collect()
    }

    /// Stores a pod's record, and then shows it.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn store_pod(&self, record: PodRecord) -> Result<Arc<PodRecord>> {
        let (core, ns) = (self.core().clone(), self.ns().clone());
        let (id, sandbox) = (record.id.clone(), crate::pods::to_sandbox(&record)?);
        lite_core::blocking(move || core.sandboxes.put(&ns, sandbox).map(drop)).await?;
        let record = Arc::new(record);
        self.show_pod(&id, Arc::clone(&record));
        Ok(record)
    }

    /// Shows a pod as the database has it.
    pub(crate) fn show_pod(&self, id: &str, record: Arc<PodRecord>) {
        let mut index = self.index();
        let name = record.config.metadata.unique_name();
        index.names.insert(name, id.to_owned());
        index.pods.insert(id.to_owned(), record);
        drop(index);
        self.changed();
    }

    /// Removes a pod's record.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn forget_pod(&self, record: &PodRecord) -> Result<()> {
        let (core, ns, id) = (self.core().clone(), self.ns().clone(), record.id.clone());
        lite_core::blocking(move || absent_is_fine(core.sandboxes.delete(&ns, &id))).await?;
        let mut index = self.index();
        index.pods.remove(&record.id);
        index.gates.remove(&record.id);
        index.names.remove(&record.config.metadata.unique_name());
        drop(index);
        self.changed();
        Ok(())
    }

    /// Stores a change of a container's record, and then shows it.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn store_container(
        &self,
        record: ContainerRecord,
    ) -> Result<Arc<ContainerRecord>> {
        let (core, ns) = (self.core().clone(), self.ns().clone());
        let stored = lite_core::Container {
            id: record.id.clone(),
            extensions: [(EXTENSION.to_owned(), extension_of(&record)?)].into(),
            ..lite_core::Container::default()
        };
        lite_core::blocking(move || {
            let path = format!("extensions.{EXTENSION}");
            core.containers.update(&ns, &stored, &[path]).map(drop)
        })
        .await?;
        let record = Arc::new(record);
        self.show_container(Arc::clone(&record));
        Ok(record)
    }

    /// Shows a container as the database has it.
    pub(crate) fn show_container(&self, record: Arc<ContainerRecord>) {
        let mut index = self.index();
        let name = container_name(&record.pod, &record.config.name, record.config.attempt);
        index.names.insert(name, record.id.clone());
        index.containers.insert(record.id.clone(), record);
        drop(index);
        self.changed();
    }

    /// Shows that a container ran out of memory; its end stores it.
    pub(crate) fn note_oom(&self, id: &str) {
        let mut index = self.index();
        if let Some(record) = index.containers.get_mut(id) {
            Arc::make_mut(record).oom = true;
        }
    }

    /// Notes that a shim has told of a container's end.
    pub(crate) fn note_end(&self, id: &str) {
        let mut index = self.index();
        if index.containers.contains_key(id) {
            index.ends.insert(id.to_owned());
        }
        drop(index);
        self.changed();
    }

    /// Whether a shim has told of a container's end; it is told once.
    pub(crate) fn take_end(&self, id: &str) -> bool {
        self.index().ends.remove(id)
    }

    /// Removes a container's record.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn forget_container(&self, record: &ContainerRecord) -> Result<()> {
        let (core, ns, id) = (self.core().clone(), self.ns().clone(), record.id.clone());
        lite_core::blocking(move || absent_is_fine(core.containers.delete(&ns, &id))).await?;
        let mut index = self.index();
        index.containers.remove(&record.id);
        index.ends.remove(&record.id);
        index.gates.remove(&record.id);
        let name = container_name(&record.pod, &record.config.name, record.config.attempt);
        index.names.remove(&name);
        drop(index);
        self.changed();
        Ok(())
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Waits until `seen` finds what it wants in what there is.
    pub(crate) async fn until<T>(&self, mut seen: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        loop {
            if let Some(found) = seen(self) {
                return found;
            }
            // The sender lives as long as this does.
            let _ = changes.changed().await;
        }
    }

    /// Tells everybody who listens.
    pub(crate) fn emit(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.shared.events.send(event);
    }

    /// What is told from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }
}

/// No two containers at a time have the same.
pub(crate) fn container_name(pod: &str, name: &str, attempt: u32) -> String {
    format!("{name}_{pod}_{attempt}")
}

/// A container's record as an extension of the core's.
///
/// # Errors
/// Those of [`encode`].
pub(crate) fn extension_of(record: &ContainerRecord) -> Result<AnyValue> {
    Ok(AnyValue {
        type_url: EXTENSION.to_owned(),
        value: encode(record)?,
    })
}

/// What is gone already need not be removed.
pub(crate) fn absent_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(err) if err.kind() == Kind::NotFound => Ok(()),
        other => other,
    }
}

/// The entry `id`, or the only one that begins so.
fn only<T>(all: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(Arc::clone(found));
    }
    if id.is_empty() {
        return None;
    }
    let from = (Bound::Included(id), Bound::Unbounded);
    let mut begin_so = all
        .range::<str, _>(from)
        .take_while(|(other, _)| other.starts_with(id));
    match (begin_so.next(), begin_so.next()) {
        (Some((_, found)), None) => Some(Arc::clone(found)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_enough_where_only_one_has_it() {
        let all: BTreeMap<String, Arc<u8>> = ["aa", "ab", "b"]
            .map(|id| (id.to_owned(), Arc::new(0)))
            .into();
        assert!(only(&all, "aa").is_some());
        assert!(only(&all, "b").is_some());
        assert!(only(&all, "a").is_none());
        assert!(only(&all, "").is_none());
        assert!(only(&all, "c").is_none());
    }
}
