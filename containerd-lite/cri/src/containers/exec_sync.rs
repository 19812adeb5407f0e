//! Runs a command in a container to its end, and keeps what it says.

use std::time::Duration;

use lite_core::ids::Id;
use lite_core::session::{Endpoint, Output as Part, Session};
use lite_core::{AnyValue, Because, Kind, Result, chain};

use crate::hub::{Cri, absent_is_fine};
use crate::record::{ContainerRecord, ContainerState};

/// The type of a process for the shim.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// More than this of each stream is read and dropped, as an answer must fit
/// into a message.
const LONGEST: usize = 4 << 20;

/// How long output may go on after the command's end, when something that it
/// has left holds it open.
const LEFTOVERS: Duration = Duration::from_secs(2);

const SIGKILL: u32 = 9;

/// What a command said, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code.
    pub code: i32,
}

/// Runs `args` in the container `id`, for at most `timeout`.
///
/// # Errors
/// NotFound; FailedPrecondition unless it runs; DeadlineExceeded, and then the
/// command was killed; ExecutableNotFound and ExecutableNotRunnable.
pub async fn exec_sync(
    cri: &Cri,
    id: &str,
    args: &[String],
    timeout: Option<Duration>,
) -> Result<Output> {
    let record = cri.container(id)?;
    if record.state != ContainerState::Running {
        return Err(
            Kind::FailedPrecondition.error(format!("container {} is not running", record.id))
        );
    }
    let exec = Id::generate().op(|| "make an id".to_owned())?;
    let exec = exec.as_str().to_owned();
    let spec = {
        let (cri, record, args) = (cri.clone(), record.clone(), args.to_vec());
        lite_core::blocking(move || process(&cri, &record, &args, false)).await?
    };
    let endpoint = Endpoint {
        socket: cri.session_socket(&exec),
        log: None,
        stdin: None,
    };
    let (cri, id) = (cri.clone(), record.id.clone());
    // On its own task: a caller that leaves must not leave the command behind.
    let work = tokio::spawn(async move {
        let tasks = &cri.core().tasks;
        tasks
            .exec(cri.ns(), &id, &exec, endpoint.streams(false), spec)
            .await?;
        let done = follow(&cri, &id, &exec, &endpoint, timeout).await;
        let deleted = tasks.delete_process(cri.ns(), &id, &exec).await;
        if let Err(err) = absent_is_fine(deleted.map(drop)) {
            tracing::warn!(container = id, exec, error = %chain(&err), "delete exec");
        }
        done
    });
    work.await
        .map_err(|join| Kind::Internal.error("exec").because(join))?
}

async fn follow(
    cri: &Cri,
    id: &str,
    exec: &str,
    endpoint: &Endpoint,
    timeout: Option<Duration>,
) -> Result<Output> {
    let (tasks, ns) = (&cri.core().tasks, cri.ns());
    let (mut reader, _writer) = Session::connect(&endpoint.socket).await?.split();
    tasks.start(ns, id, Some(exec)).await?;
    let mut output = Output::default();
    let ended = async {
        let reading = async {
            while let Some(part) = reader.next().await? {
                match part {
                    Part::Stdout(bytes) => keep(&mut output.stdout, &bytes),
                    Part::Stderr(bytes) => keep(&mut output.stderr, &bytes),
                }
            }
            Ok::<(), lite_core::Error>(())
        };
        tokio::pin!(reading);
        let waiting = tasks.wait(ns, id, Some(exec));
        tokio::pin!(waiting);
        let mut read_all = false;
        let exit = loop {
            tokio::select! {
                exit = &mut waiting => break exit?,
                read = &mut reading, if !read_all => {
                    read?;
                    read_all = true;
                }
            }
        };
        if !read_all && let Ok(read) = tokio::time::timeout(LEFTOVERS, &mut reading).await {
            read?;
        }
        Ok::<_, lite_core::Error>(exit)
    };
    let exit = match timeout {
        None => ended.await,
        Some(limit) => match tokio::time::timeout(limit, ended).await {
            Ok(ended) => ended,
            Err(_) => {
                kill(cri, id, exec).await;
                return Err(Kind::DeadlineExceeded.error(format!(
                    "command timed out: not done after {} s: deadline exceeded",
                    limit.as_secs()
                )));
            }
        },
    }?;
    output.code = i32::try_from(exit.code).unwrap_or(super::watch::LOST);
    Ok(output)
}

fn keep(into: &mut Vec<u8>, bytes: &[u8]) {
    let room = LONGEST - into.len().min(LONGEST);
    into.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

async fn kill(cri: &Cri, id: &str, exec: &str) {
    let (tasks, ns) = (&cri.core().tasks, cri.ns());
    let killed = tasks.kill(ns, id, Some(exec), SIGKILL, false).await;
    if let Err(err) = absent_is_fine(killed) {
        tracing::warn!(container = id, exec, error = %chain(&err), "kill a command that took too long");
        return;
    }
    // Without its end it cannot be deleted.
    let _ = tasks.wait(ns, id, Some(exec)).await;
}

/// A process beside the container's first: the same user, rights, environment
/// and directory.
///
/// # Errors
/// InvalidArgument without a command; DataLoss for a spec that cannot be read.
pub fn process(
    cri: &Cri,
    record: &ContainerRecord,
    args: &[String],
    tty: bool,
) -> Result<AnyValue> {
    if args.is_empty() {
        return Err(Kind::InvalidArgument.error("exec: no command specified"));
    }
    let stored = cri.core().containers.get(cri.ns(), &record.id)?;
    let spec = stored.spec.map(|spec| spec.value).unwrap_or_default();
    let spec: serde_json::Value = serde_json::from_slice(&spec).map_err(|err| {
        Kind::DataLoss
            .error(format!("read spec of {}", record.id))
            .because(err)
    })?;
    let mut process = spec["process"].clone();
    process["args"] = serde_json::json!(args);
    process["terminal"] = serde_json::json!(tty);
    if tty && let Some(env) = process["env"].as_array_mut() {
        let has = |entry: &serde_json::Value| {
            entry
                .as_str()
                .is_some_and(|entry| entry.starts_with("TERM="))
        };
        if !env.iter().any(has) {
            env.push("TERM=xterm".into());
        }
    }
    let value = serde_json::to_vec(&process)
        .map_err(|err| Kind::Internal.error("encode process").because(err))?;
    Ok(AnyValue {
        type_url: PROCESS_TYPE.to_owned(),
        value,
    })
}
