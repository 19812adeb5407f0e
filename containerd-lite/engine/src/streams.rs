//! What a client of `attach` and `exec` sends and gets, and the pump between
//! it and a session with the shim.

use bytes::Bytes;
use lite_core::{Kind, Result, chain};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::signals::Signal;
use crate::spec::Window;
use lite_core::session::{Output, Reader, Session, Writer};

/// What a client sends once its session is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// No more of them.
    CloseStdin,
    /// Its window has a new size.
    Resize(Window),
    /// A signal for the process: name or number.
    Signal(String),
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient {
    /// The session is in place.
    Started {
        /// Of the exec'd process; empty for an attach.
        exec_id: String,
        /// With a terminal: all output is raw and on stdout.
        tty: bool,
    },
    /// Output.
    Stdout(Bytes),
    /// Output on standard error.
    Stderr(Bytes),
    /// The process has ended with this code and all output was sent.
    Exited(i32),
}

/// Messages that wait for a client that does not read; then the container's
/// output waits, as with a terminal that nobody reads.
const WAITING: usize = 16;

/// Where a client's messages go.
pub type Sender = mpsc::Sender<Result<ToClient>>;
/// Where they come out. Dropping it detaches.
pub type Receiver = mpsc::Receiver<Result<ToClient>>;

/// A channel of the right size.
#[must_use]
pub fn channel() -> (Sender, Receiver) {
    mpsc::channel(WAITING)
}

/// The process a session belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) container: String,
    pub(crate) exec: Option<String>,
    /// Whether the client's input is wanted.
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// Streams both ways until the output is finished. Returns false when the
/// client left before.
pub(crate) async fn pump(
    engine: &Engine,
    target: &Target,
    session: Session,
    from_client: mpsc::Receiver<FromClient>,
    to_client: &Sender,
) -> Result<bool> {
    let (reader, writer) = session.split();
    tokio::select! {
        finished = copy_output(reader, to_client) => finished,
        () = copy_input(engine, target, writer, from_client) => Ok(false),
        () = to_client.closed() => Ok(false),
    }
}

async fn copy_output(mut reader: Reader, to_client: &Sender) -> Result<bool> {
    while let Some(output) = reader.next().await? {
        let message = match output {
            Output::Stdout(bytes) => ToClient::Stdout(bytes),
            Output::Stderr(bytes) => ToClient::Stderr(bytes),
        };
        if to_client.send(Ok(message)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Never ends: when the client sends nothing more, the writer has to stay open,
/// as its end would be a detach.
async fn copy_input(
    engine: &Engine,
    target: &Target,
    mut writer: Writer,
    mut from: mpsc::Receiver<FromClient>,
) {
    while let Some(message) = from.recv().await {
        let outcome = match message {
            FromClient::Stdin(bytes) if target.stdin && !bytes.is_empty() => {
                writer.stdin(&bytes).await
            }
            FromClient::CloseStdin if target.stdin => writer.close_stdin().await,
            FromClient::Stdin(_) | FromClient::CloseStdin => Ok(()),
            FromClient::Resize(window) => resize(engine, target, window).await,
            FromClient::Signal(signal) => send_signal(engine, target, &signal).await,
        };
        // A process that ends meanwhile is told by the output's end.
        if let Err(err) = outcome {
            tracing::debug!(container_id = target.container, error = %chain(&err), "client input");
        }
    }
    std::future::pending::<()>().await;
    drop(writer);
}

pub(crate) async fn resize(engine: &Engine, target: &Target, window: Window) -> Result<()> {
    if !target.tty {
        return Ok(());
    }
    let Window { columns, rows } = window;
    engine
        .core()
        .tasks
        .resize(
            engine.ns(),
            &target.container,
            target.exec.as_deref(),
            columns,
            rows,
        )
        .await
}

async fn send_signal(engine: &Engine, target: &Target, signal: &str) -> Result<()> {
    let signal =
        Signal::parse(signal).map_err(|err| Kind::InvalidArgument.error(err.to_string()))?;
    let exec = target.exec.as_deref();
    engine
        .core()
        .tasks
        .kill(engine.ns(), &target.container, exec, signal.number(), false)
        .await
}
