//! Attaches a client to a container's main process, and starts it if asked.
//!
//! With a start, the session is in place before the process runs, so that not
//! a byte of output is missed. When the output is finished and the end is
//! recorded, the client gets the exit code; from a container that removes
//! itself only after it is gone, so that its name is free. A client that
//! leaves detaches: the container goes on.

use std::sync::Arc;

use lite_core::{Kind, Result};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::jsonlog::{Entry, Stream};
use crate::logs;
use crate::record::Record;
use crate::spec::Window;
use crate::state::Phase;
use crate::streams::{self, FromClient, Receiver, Sender, Target, ToClient};
use crate::supervisor::Handle;
use lite_core::session::Session;

/// What a client wants of an attach.
#[derive(Debug, Clone, Default)]
pub struct Attach {
    /// Id, name, or the beginning of an id.
    pub container: String,
    /// Start it once the session is in place.
    pub start: bool,
    /// Send the client's input.
    pub stdin: bool,
    /// The client's window.
    pub window: Option<Window>,
    /// Begin with the output so far.
    pub logs: bool,
}

/// Attaches. When this returns the session is in place and the process runs.
///
/// # Errors
/// NotFound; FailedPrecondition when it does not run and is not to be started;
/// those of a start.
pub async fn attach(
    engine: &Engine,
    request: Attach,
    from_client: mpsc::Receiver<FromClient>,
) -> Result<Receiver> {
    let handle = engine.find(&request.container)?;
    let before = handle.record();
    if !request.start && before.phase != Phase::Running {
        return Err(Kind::FailedPrecondition
            .error("You cannot attach to a stopped container, start it first"));
    }
    let target = Target {
        container: before.id.clone(),
        exec: None,
        stdin: request.stdin && before.config.open_stdin,
        tty: before.config.tty,
    };
    let mut session = None;
    if request.start {
        session = handle.start(true, request.window).await?;
    }
    let session = match session {
        Some(session) => session,
        // It runs already: started by somebody else.
        None => {
            let session = Session::connect(&engine.session_socket(&before.id)).await?;
            if let Some(window) = request.window {
                // Only for show; a process that has just ended has no window.
                let _ = streams::resize(engine, &target, window).await;
            }
            session
        }
    };
    let (to_client, receiver) = streams::channel();
    let engine = engine.clone();
    tokio::spawn(async move {
        let served = serve(
            &engine,
            &handle,
            &target,
            session,
            request.logs,
            from_client,
            &to_client,
        );
        if let Err(err) = served.await {
            // A client that has left need not know.
            let _ = to_client.send(Err(err)).await;
        }
    });
    Ok(receiver)
}

async fn serve(
    engine: &Engine,
    handle: &Handle,
    target: &Target,
    session: Session,
    with_logs: bool,
    from_client: mpsc::Receiver<FromClient>,
    to_client: &Sender,
) -> Result<()> {
    let started = ToClient::Started {
        exec_id: String::new(),
        tty: target.tty,
    };
    if to_client.send(Ok(started)).await.is_err() {
        return Ok(());
    }
    if with_logs {
        send_log(engine, &target.container, to_client).await?;
    }
    if streams::pump(engine, target, session, from_client, to_client).await? {
        tokio::select! {
            record = end(handle) => {
                let _ = to_client.send(Ok(ToClient::Exited(record.run.exit_code))).await;
            }
            () = to_client.closed() => {}
        }
    }
    Ok(())
}

async fn end(handle: &Handle) -> Arc<Record> {
    let record = handle.not_running().await;
    if record.config.auto_remove {
        handle.gone().await
    } else {
        record
    }
}

async fn send_log(engine: &Engine, container: &str, to_client: &Sender) -> Result<()> {
    let mut batches = logs::logs(engine, container, false, None, logs::Span::default()).await?;
    while let Some(batch) = batches.recv().await {
        for Entry { stream, data, .. } in batch? {
            let message = match stream {
                Stream::Stdout => ToClient::Stdout(data.into()),
                Stream::Stderr => ToClient::Stderr(data.into()),
            };
            if to_client.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
