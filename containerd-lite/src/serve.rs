//! Puts the daemon together and runs it until it is told to stop.
//!
//! 1. [`claim`] takes the directories against a second daemon.
//! 2. The sockets are made; nobody is answered yet.
//! 3. [`services`] lists every service that the gRPC socket offers, one line
//!    each: this is the place to plug in an adapter.
//! 4. The server runs until SIGTERM or SIGINT. Containers are not touched by
//!    that: their shims live on, and the next daemon finds them.

use std::error::Error;
use std::fmt;
use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use engine::{Engine, EngineConfig};
use lite_core::tasks::DEFAULT_RUNTIME;
use lite_core::{Core, CoreConfig};
use proto::containerd::services::containers::v1::containers_server::ContainersServer;
use proto::containerd::services::content::v1::content_server::ContentServer;
use proto::containerd::services::diff::v1::diff_server::DiffServer;
use proto::containerd::services::images::v1::images_server::ImagesServer;
use proto::containerd::services::leases::v1::leases_server::LeasesServer;
use proto::containerd::services::namespaces::v1::namespaces_server::NamespacesServer;
use proto::containerd::services::snapshots::v1::snapshots_server::SnapshotsServer;
use proto::containerd::services::version::v1::version_server::VersionServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;

use crate::api::containers::ContainersApi;
use crate::api::content::ContentApi;
use crate::api::diff::DiffApi;
use crate::api::images::ImagesApi;
use crate::api::leases::LeasesApi;
use crate::api::namespaces::NamespacesApi;
use crate::api::snapshots::SnapshotsApi;
use crate::api::ttrpc_events;
use crate::api::version::VersionApi;
use crate::collector::Collector;
use crate::config::Config;
use crate::sockets::{self, DirLock};

/// How long calls that are under way may go on after the signal. Streams and
/// waits never end by themselves, so there has to be an end.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// If a directory or socket cannot be had, or the core cannot be opened.
pub async fn run(config: &Config) -> Result<(), StartError> {
    // Installed first, so that no signal from here on is lost or kills us midway.
    let stop = stop_signal()?;
    let _root = claim(&config.root)?;
    let _state = claim(&config.state)?;
    let socket = config.grpc_socket();
    let listener = listen(&socket, 0o660)?;
    let core = open_core(config).await?;

    let shims = listen(&core.config.ttrpc_address(), 0o600)?;
    tokio::spawn(ttrpc_events::serve(shims, core.tasks.clone()));
    let engine = open_engine(config, &core).await?;

    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = Server::builder()
        .add_routes(services(&core, engine).await)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
            // A closed channel means the same as a message: stop.
            let _ = stopped.await;
        });
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "serving");
    tokio::pin!(server);
    let outcome = tokio::select! {
        ended = &mut server => ended,
        name = stop => {
            tracing::info!(signal = name, "stopping");
            let _ = stopping.send(());
            tokio::time::timeout(GRACE, server).await.unwrap_or(Ok(()))
        }
    };
    // The next daemon need not find out that nobody answers.
    let _ = std::fs::remove_file(&socket);
    outcome.map_err(|err| StartError::new(format!("serve on {}", socket.display()), err))
}

/// Opens the core's stores, on a thread that may block.
async fn open_core(config: &Config) -> Result<Core, StartError> {
    let core = CoreConfig {
        root: config.root.clone(),
        state: config.state.clone(),
        address: config.grpc_socket(),
        shim_dirs: config.runtime_path.clone(),
        shim_debug: false,
    };
    let root = config.root.display().to_string();
    let opened = lite_core::blocking(move || Core::open(core)).await;
    opened.map_err(|err| StartError::new(format!("open the stores in {root}"), err))
}

/// Finds the tasks that run, and brings the engine's containers in line.
async fn open_engine(config: &Config, core: &Core) -> Result<Engine, StartError> {
    let found = core.tasks.reconnect().await;
    let found = found.map_err(|err| StartError::new("find the running tasks", err))?;
    tracing::info!(tasks = found.tasks, repairs = ?found.repairs, "reconnected");
    let settings = EngineConfig {
        root: config.root.clone(),
        state: config.state.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        default_runtime: DEFAULT_RUNTIME.to_owned(),
    };
    let opened = Engine::open(core.clone(), settings).await;
    opened.map_err(|err| StartError::new("bring the containers in line", err))
}

/// Every service on the gRPC socket.
async fn services(core: &Core, engine: Engine) -> Routes {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let mut routes = RoutesBuilder::default();
    routes.add_service(health);
    routes.add_service(crate::api::engine::service(engine));
    let collector = Collector::start(core.clone());
    routes.add_service(VersionServer::new(VersionApi));
    routes.add_service(NamespacesServer::new(NamespacesApi::new(
        core.namespaces.clone(),
    )));
    routes.add_service(ContentServer::new(ContentApi::new(
        core.content.clone(),
        collector.clone(),
    )));
    routes.add_service(ImagesServer::new(ImagesApi::new(
        core.images.clone(),
        collector.clone(),
    )));
    routes.add_service(SnapshotsServer::new(SnapshotsApi::new(
        core.snapshots.clone(),
    )));
    routes.add_service(DiffServer::new(DiffApi::new(core.content.clone())));
    routes.add_service(ContainersServer::new(ContainersApi::new(
        core.containers.clone(),
        collector.clone(),
    )));
    routes.add_service(LeasesServer::new(LeasesApi::new(
        core.leases.clone(),
        collector,
    )));
    routes.routes()
}

/// Makes `dir` (0711, as containers in a user namespace must pass through) and
/// locks it.
fn claim(dir: &Path) -> Result<DirLock, StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(|err| StartError::new(format!("create directory {}", dir.display()), err))?;
    sockets::lock(dir).map_err(|err| {
        if err.kind() == io::ErrorKind::WouldBlock {
            StartError::bare(format!("another daemon is using {}", dir.display()))
        } else {
            StartError::new(format!("lock directory {}", dir.display()), err)
        }
    })
}

fn listen(path: &Path, mode: u32) -> Result<UnixListener, StartError> {
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(dir)
            .map_err(|err| StartError::new(format!("create directory {}", dir.display()), err))?;
    }
    sockets::listen(path, mode)
        .and_then(UnixListener::from_std)
        .map_err(|err| StartError::new(format!("listen on {}", path.display()), err))
}

/// Resolves with the name of the first signal that asks the daemon to stop.
fn stop_signal() -> Result<impl Future<Output = &'static str>, StartError> {
    let install = |kind| signal(kind).map_err(|err| StartError::new("install signal handler", err));
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Why the daemon did not start or ended.
#[derive(Debug)]
pub struct StartError {
    op: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StartError {
    /// `op` is what was being done; the cause is printed after it.
    pub fn new(op: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            op: op.into(),
            source: Some(source.into()),
        }
    }

    fn bare(op: impl Into<String>) -> Self {
        Self {
            op: op.into(),
            source: None,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.op)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

/// `outer: inner: innermost`.
#[must_use]
pub fn chain(err: &dyn Error) -> String {
    std::iter::successors(Some(err), |&err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
