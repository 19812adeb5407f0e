//! Puts the daemon together and runs it until it is told to stop.
//!
//! 1. [`claim`] takes the directories against a second daemon.
//! 2. The sockets are made; nobody is answered yet.
//! 3. [`services::routes`] lists every service that the gRPC socket offers.
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

use cri::Cri;
use engine::{Engine, EngineConfig};
use lite_core::tasks::DEFAULT_RUNTIME;
use lite_core::{Core, CoreConfig};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::api::introspection::IntrospectionApi;
use crate::api::ttrpc_events;
use crate::config::{Config, LogLevel};
use crate::metrics;
use crate::services;
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
    let builder = engine::build::open(&engine).await;
    let builder = builder.map_err(|err| StartError::new("open the builder", err))?;
    let cri = Cri::open(core.clone(), config.cri()).await;
    let cri = cri.map_err(|err| StartError::new("bring the pods in line", err))?;
    let introspection = IntrospectionApi::open(&config.root)
        .await
        .map_err(|err| StartError::new("know this installation", err))?;

    if let Some(address) = config.metrics {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|err| StartError::new(format!("listen on {address} for metrics"), err))?;
        tokio::spawn(metrics::serve(listener, core.clone()));
    }
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = Server::builder()
        .add_routes(services::routes(&core, engine, cri, builder, introspection).await)
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
        shim_debug: matches!(config.log_level, LogLevel::Trace | LogLevel::Debug),
        registry: lite_core::RegistryConfig {
            hosts_dirs: config.hosts_dirs.clone(),
            ..lite_core::RegistryConfig::default()
        },
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
