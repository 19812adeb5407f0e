//! A whole build: from the request to the image.
//!
//! 1. The text is read and the graph made; a mistake is told before anything else happens.
//! 2. Every stage that is needed goes off at once, and waits only for those that it uses ([`stage`]).
//! 3. The target's result becomes the image ([`export`]).
//!
//! A build that is cancelled or fails ends the other stages before it tells, so that no process, mount or snapshot is left.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use lite_core::pull::TransferLease;
use lite_core::{Because as _, Core, Error, Kind, Namespace, Result, blocking, chain};
use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use crate::cache::{Cache, Layer};
use crate::client::Client;
use crate::config::ImageConfig;
use crate::context::Context;
use crate::dockerfile::{self, Mistake};
use crate::export::{self, Exported};
use crate::ignore::Ignore;
use crate::joined::Join;
use crate::news::{News, Teller};
use crate::ops::Network;
use crate::stage;
use crate::stages::{self, Graph, Options};
use crate::{SNAPSHOTTER, rootfs};

/// What the builder is told by whoever puts the daemon together.
#[derive(Debug, Clone)]
pub struct BuilderConfig {
    /// Durable: cached results, contexts, cache mounts.
    pub root: PathBuf,
    /// Until the machine's next start.
    pub state: PathBuf,
    /// Name of the cgroup that holds steps.
    pub cgroup_parent: String,
    /// containerd runtime name.
    pub runtime: String,
    /// Puts steps on a network.
    pub join: Join,
}

/// What is to be built.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The Dockerfile's name, for messages.
    pub file_name: String,
    /// Its text.
    pub text: String,
    /// The text of the `.dockerignore` that holds for it.
    pub ignore: String,
    /// Target, arguments, platform.
    pub options: Options,
    /// Full references for the result.
    pub names: Vec<String>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// No cached result is used.
    pub no_cache: bool,
    /// Nor one of these stages.
    pub no_cache_stages: Vec<String>,
    /// Bases are asked for at their registry though they are here.
    pub pull: bool,
    /// The network of steps that do not say.
    pub network: Option<Network>,
    /// More lines of steps' `/etc/hosts`: `name:address`.
    pub extra_hosts: Vec<String>,
    /// The spec of a plain container, with the limits that steps are to have.
    pub template: Value,
    /// What `--mount=type=secret` finds.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The time of every file and of the image, in seconds since 1970.
    pub time_s: i64,
    /// Which of all contexts this is.
    pub context_id: String,
}

/// Builds. Clones share everything.
#[derive(Clone)]
pub struct Builder {
    pub(crate) shared: Arc<Hub>,
}

pub(crate) struct Hub {
    pub(crate) core: Core,
    pub(crate) ns: Namespace,
    pub(crate) config: BuilderConfig,
    pub(crate) cache: Cache,
    /// Steps that run, by their key, and cache mounts, by their id: the second waits for the first.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What the stages of one build share.
pub(crate) struct Run {
    pub(crate) builder: Builder,
    pub(crate) request: Request,
    pub(crate) graph: Graph,
    pub(crate) escape: char,
    pub(crate) client: Client,
    pub(crate) context: OnceCell<Context>,
    pub(crate) ignore: Ignore,
    pub(crate) teller: Teller,
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) lease: String,
    steps: AtomicU32,
}

/// What a stage came to.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub(crate) image: ImageConfig,
    pub(crate) layers: Vec<Layer>,
}

impl Staged {
    /// The name of the topmost snapshot; empty without layers.
    pub(crate) fn chain(&self) -> &str {
        self.layers
            .last()
            .map_or("", |layer| layer.chain_id.as_str())
    }
}

/// A stage's result, for everybody who waits for it.
pub(crate) type Stage = Shared<BoxFuture<'static, std::result::Result<Arc<Staged>, Arc<Error>>>>;

impl Builder {
    /// Opens the builder, removing what a daemon that was killed left.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn open(core: &Core, ns: &Namespace, config: BuilderConfig) -> Result<Self> {
        rootfs::clear(&config.state).op(|| format!("clear {}", config.state.display()))?;
        let cache = Cache::open(core, ns, config.root.join("steps"))?;
        Ok(Self {
            shared: Arc::new(Hub {
                core: core.clone(),
                ns: ns.clone(),
                config,
                cache,
                locks: Mutex::default(),
            }),
        })
    }

    /// Ends the tasks of builds that an earlier daemon left.
    pub async fn recover(&self) {
        let (core, ns) = (&self.shared.core, &self.shared.ns);
        for task in core.tasks.list(ns) {
            if task.id.starts_with(TASK_PREFIX) {
                tracing::info!(task = task.id, "end a step of a build that was cut short");
                let _may_have_ended = core.tasks.kill(ns, &task.id, None, 9, true).await;
                let _ended = core.tasks.wait(ns, &task.id, None).await;
                if let Err(err) = core.tasks.delete(ns, &task.id).await {
                    tracing::warn!(task = task.id, error = %chain(&err), "delete task of a build");
                }
            }
        }
    }

    /// Forgets every cached result and every context.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn prune(&self) -> Result<()> {
        self.shared.cache.clear()?;
        for part in ["files", "contexts", "mounts"] {
            let dir = self.shared.config.root.join(part);
            match std::fs::remove_dir_all(&dir) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", dir.display()), err));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Builds. `client` answers for the context, `teller` hears of progress, `cancelled` ends it early.
    ///
    /// # Errors
    /// InvalidArgument with the Dockerfile's line for a mistake in it; Cancelled; else what failed.
    pub async fn build(
        &self,
        request: Request,
        client: Client,
        teller: Teller,
        cancelled: watch::Receiver<bool>,
    ) -> Result<Exported> {
        let told = |mistake: Mistake| {
            Kind::InvalidArgument.error(mistake.render(&request.file_name, &request.text))
        };
        let file = dockerfile::parse(&request.text).map_err(told)?;
        let graph = stages::graph(&file, &request.options).map_err(told)?;
        let ignore = Ignore::parse(&request.ignore).map_err(|(line, bad)| {
            Kind::InvalidArgument.error(format!(".dockerignore:{line}: {bad}"))
        })?;
        for warning in &file.warnings {
            let text = warning.render(&request.file_name, &request.text);
            teller.tell(News::Warning(text)).await;
        }
        let (core, ns) = (&self.shared.core, &self.shared.ns);
        let lease = TransferLease::take(core, ns, "build").await?;
        let run = Arc::new(Run {
            builder: self.clone(),
            escape: file.escape,
            client,
            context: OnceCell::new(),
            ignore,
            teller,
            cancelled,
            lease: lease.id().to_owned(),
            steps: AtomicU32::new(0),
            request,
            graph,
        });
        let built = self.all(&run).await;
        let ended = lease.end().await;
        let exported = built?;
        ended?;
        Ok(exported)
    }

    async fn all(&self, run: &Arc<Run>) -> Result<Exported> {
        let (stop, stopped) = watch::channel(false);
        let mut stages: Vec<Option<Stage>> = Vec::new();
        let mut going = tokio::task::JoinSet::new();
        for index in 0..run.graph.stages.len() {
            if !run.graph.needed[index] {
                stages.push(None);
                continue;
            }
            let work = stage::build(Arc::clone(run), index, stages.clone(), stopped.clone());
            let stage = work
                .map(|done| done.map(Arc::new).map_err(Arc::new))
                .boxed()
                .shared();
            stages.push(Some(stage.clone()));
            going.spawn(stage);
        }
        let mut cancelled = run.cancelled.clone();
        let mut failed = None;
        loop {
            tokio::select! {
                ended = going.join_next() => match ended {
                    None => break,
                    Some(Ok(Err(err))) => {
                        failed.get_or_insert(err);
                        let _others = stop.send(true);
                    }
                    Some(_) => {}
                },
                Ok(_) = cancelled.wait_for(|cancelled| *cancelled), if !*stopped.borrow() => {
                    let _all = stop.send(true);
                }
            }
        }
        if let Some(err) = failed {
            return Err(again(&err));
        }
        if let Some(context) = run.context.get() {
            context.remember().await?;
        }
        let target = stages[run.graph.target].clone();
        let Some(Ok(staged)) = target
            .map(|stage| stage.peek().cloned())
            .unwrap_or_default()
        else {
            return Err(Kind::Internal.error("the target stage has no result"));
        };
        let (run, staged) = (Arc::clone(run), Arc::clone(&staged));
        blocking(move || finish(&run, &staged)).await
    }
}

/// The image of the target.
fn finish(run: &Run, staged: &Staged) -> Result<Exported> {
    let mut image = staged.image.clone();
    image.created = Some(export::rfc3339(run.request.time_s));
    if !run.request.labels.is_empty() {
        let labels = image.config.labels.get_or_insert_default();
        labels.extend(run.request.labels.clone());
    }
    let hub = &run.builder.shared;
    export::export(
        &hub.core,
        &hub.ns,
        &run.lease,
        image,
        &staged.layers,
        &run.request.names,
    )
}

/// The same error, of which everybody who waited has a share.
fn again(err: &Arc<Error>) -> Error {
    err.kind().error(chain(err.as_ref()))
}

/// What ids of a build's tasks and snapshots begin with.
pub(crate) const TASK_PREFIX: &str = "build-";

impl Run {
    /// The number of a new step.
    pub(crate) fn next_step(&self) -> u32 {
        self.steps.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The client's context, listed when it is first needed.
    pub(crate) async fn context(&self) -> Result<&Context> {
        let root = &self.builder.shared.config.root;
        let open = Context::open(
            self.client.clone(),
            &self.ignore,
            root,
            &self.request.context_id,
        );
        self.context.get_or_try_init(|| open).await
    }
}

impl Hub {
    /// An id that nothing else has, for a task and its snapshot.
    pub(crate) fn unique() -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{TASK_PREFIX}{:x}-{count}", since.as_nanos())
    }

    /// The lock of a name.
    pub(crate) fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }

    /// How a committed snapshot is read: a view of it under `key`.
    pub(crate) fn view(
        &self,
        lease: &str,
        key: &str,
        chain: &str,
    ) -> Result<Vec<lite_core::Mount>> {
        let snapshots = self.core.snapshots.leased(Some(lease));
        snapshots.view(&self.ns, SNAPSHOTTER, key, chain, &lite_core::Labels::new())
    }
}
