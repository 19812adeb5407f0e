//! Runs one more process in a running container.
//!
//! It has a session of its own, without a log. The engine waits for its end
//! and deletes it from the task, whether or not a client is still there.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use lite_core::tasks::TaskIo;
use lite_core::{AnyValue, Because, Kind, Result, chain};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::environment;
use crate::exit;
use crate::record::Record;
use crate::rights::Rights;
use crate::spec::{self, Process, Window};
use crate::state::Phase;
use crate::streams::{self, FromClient, Receiver, Sender, Target, ToClient};
use crate::user::{self, User};
use lite_core::ids::Id;
use lite_core::session::{Endpoint, Session};

/// The type URL of a process for the shim.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// The process to run. Empty means "as the container's main process".
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Id, name, or the beginning of an id.
    pub container: String,
    /// Command line.
    pub args: Vec<String>,
    /// `KEY=VALUE`, over the container's.
    pub env: Vec<String>,
    /// Working directory.
    pub workdir: String,
    /// `user[:group]`.
    pub user: String,
    /// With a terminal.
    pub tty: bool,
    /// Send the client's input.
    pub stdin: bool,
    /// Start it and answer without streaming.
    pub detach: bool,
    /// With all capabilities.
    pub privileged: bool,
    /// The client's window.
    pub window: Option<Window>,
}

/// Starts the process. When this returns it runs.
///
/// # Errors
/// NotFound; FailedPrecondition when the container does not run;
/// InvalidArgument for the user; ExecutableNotFound and ExecutableNotRunnable
/// for the program's faults.
pub async fn exec(
    engine: &Engine,
    request: Exec,
    from_client: mpsc::Receiver<FromClient>,
) -> Result<Receiver> {
    let record = engine.find(&request.container)?.record();
    if record.phase != Phase::Running {
        return Err(
            Kind::FailedPrecondition.error(format!("container {} is not running", record.id))
        );
    }
    if request.args.is_empty() {
        return Err(Kind::InvalidArgument.error("no exec command specified"));
    }
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let target = Target {
        container: record.id.clone(),
        exec: Some(id.as_str().to_owned()),
        stdin: request.stdin,
        tty: request.tty,
    };
    let process = {
        let (record, request) = (std::sync::Arc::clone(&record), request.clone());
        let last = engine.host().last_capability;
        lite_core::blocking(move || process(&record, &request, last)).await?
    };
    let engine = engine.clone();
    // On its own task: a caller that leaves half way must not leave half an exec.
    let work = tokio::spawn(async move {
        let session = begin(&engine, &target, &request, id.as_str(), process).await?;
        let (to_client, receiver) = streams::channel();
        tokio::spawn(async move {
            if let Err(err) = serve(
                &engine,
                &target,
                id.as_str(),
                session,
                from_client,
                &to_client,
            )
            .await
            {
                let _ = to_client.send(Err(err)).await;
            }
        });
        Ok(receiver)
    });
    work.await
        .map_err(|join| Kind::Internal.error("exec").because(join))?
}

/// Adds the process to the task, attaches, and starts it.
async fn begin(
    engine: &Engine,
    target: &Target,
    request: &Exec,
    id: &str,
    process: AnyValue,
) -> Result<Option<Session>> {
    let (tasks, ns, container) = (&engine.core().tasks, engine.ns(), target.container.as_str());
    let endpoint = Endpoint {
        socket: engine.session_socket(id),
        log: None,
        stdin: request.stdin.then_some(true),
    };
    let io = if request.detach && !request.tty {
        TaskIo::default()
    } else {
        endpoint.streams(request.tty)
    };
    tasks.exec(ns, container, id, io, process).await?;
    let started = async {
        let session = if request.detach {
            None
        } else {
            Some(Session::connect(&endpoint.socket).await?)
        };
        tasks.start(ns, container, Some(id)).await?;
        if let Some(window) = request.window {
            // The process asked for this size too, but not every runtime
            // listens. One that has ended already needs none.
            let _ = streams::resize(engine, target, window).await;
        }
        Ok(session)
    };
    let started = started.await;
    if started.is_err() {
        delete(engine, container, id).await;
    }
    started
}

async fn serve(
    engine: &Engine,
    target: &Target,
    id: &str,
    session: Option<Session>,
    from_client: mpsc::Receiver<FromClient>,
    to_client: &Sender,
) -> Result<()> {
    let started = ToClient::Started {
        exec_id: id.to_owned(),
        tty: target.tty,
    };
    let _ = to_client.send(Ok(started)).await;
    let detached = session.is_none();
    let pumped = match session {
        Some(session) => streams::pump(engine, target, session, from_client, to_client).await,
        None => Ok(false),
    };
    let waited = engine
        .core()
        .tasks
        .wait(engine.ns(), &target.container, Some(id));
    if detached {
        // Answered with the start; nobody waits for the end.
        let (engine, target, id) = (engine.clone(), target.clone(), id.to_owned());
        tokio::spawn(async move {
            let _ = engine
                .core()
                .tasks
                .wait(engine.ns(), &target.container, Some(&id))
                .await;
            delete(&engine, &target.container, &id).await;
        });
        return Ok(());
    }
    let code = match waited.await {
        Ok(exit) => i32::try_from(exit.code).unwrap_or(exit::LOST),
        // The container ended and took the exec with it: killed.
        Err(err) if err.kind() == Kind::NotFound => 137,
        Err(err) => return Err(err),
    };
    if pumped? {
        let _ = to_client.send(Ok(ToClient::Exited(code))).await;
    }
    delete(engine, &target.container, id).await;
    Ok(())
}

async fn delete(engine: &Engine, container: &str, id: &str) {
    match engine
        .core()
        .tasks
        .delete_process(engine.ns(), container, id)
        .await
    {
        Err(err) if err.kind() != Kind::NotFound => {
            tracing::warn!(container_id = container, exec_id = id, error = %chain(&err), "delete exec");
        }
        _ => {}
    }
}

/// The OCI process: the container's own settings, changed by the request.
fn process(record: &Record, request: &Exec, last_capability: usize) -> Result<AnyValue> {
    let config = &record.config;
    let mut host = record.host.clone();
    host.privileged |= request.privileged;
    let rights = Rights::of(&host, last_capability)?;
    let mut env = environment::of_process(&config.env, &config.hostname, request.tty);
    environment::over(&mut env, &request.env);
    let typed = if request.user.is_empty() {
        &config.user
    } else {
        &request.user
    };
    let process = spec::process_json(&Process {
        args: &request.args,
        env: &env,
        cwd: if request.workdir.is_empty() {
            &config.workdir
        } else {
            &request.workdir
        },
        user: &who(typed, record.run.pid)?,
        tty: request.tty,
        window: request.window,
        capabilities: &rights.capabilities,
        no_new_privileges: rights.no_new_privileges && !request.privileged,
    });
    let value = serde_json::to_vec(&process)
        .map_err(|err| Kind::Internal.error("encode process").because(err))?;
    Ok(AnyValue {
        type_url: PROCESS_TYPE.to_owned(),
        value,
    })
}

/// Looks the user up in the running container's own files, as they are now.
fn who(typed: &str, pid: u32) -> Result<User> {
    let (passwd, group) = if user::needs_files(typed) {
        let root = format!("/proc/{pid}/root");
        let root = kernel::path::open_dir(Path::new(&root)).op(|| format!("open {root}"))?;
        let read = |path: &str| {
            read_in(root.as_fd(), path).op(|| format!("read /{path} of the container"))
        };
        (read("etc/passwd")?, read("etc/group")?)
    } else {
        (String::new(), String::new())
    };
    user::resolve(typed, &passwd, &group)
        .map_err(|err| Kind::InvalidArgument.error(err.to_string()))
}

/// A container can put anything there: a fifo must not hang us, nor a huge
/// file fill us up.
fn read_in(root: std::os::fd::BorrowedFd<'_>, path: &str) -> std::io::Result<String> {
    let flags =
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let fd = match kernel::path::open_in(
        root,
        Path::new(path),
        flags.bits(),
        0,
        kernel::path::Within::Root,
    ) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let file = std::fs::File::from(fd);
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(4 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
