//! The session's stream: opening it, then output and input side by side.

use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::engine::v1::{SessionInput, SessionOutput, WindowSize, session_input, session_output};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::terminal::{Raw, window};
use super::{End, Plan, Shown, State, check_tty, input, resize};
use crate::client::Engine;
use crate::failure::Failure;
use crate::parse::detach_keys::{DetachKeys, Watch};

/// Bytes of input in one message, as large as what a shim takes in one frame.
const CHUNK: usize = 32 << 10;

/// Pieces of input read ahead; when full, reading stdin waits.
const READ_AHEAD: usize = 4;

/// Opens the session and holds it until the process ends or is left.
pub(super) async fn run(
    mut client: Engine,
    plan: Plan,
    state: &State,
    to_daemon: mpsc::Sender<SessionInput>,
    queue: mpsc::Receiver<SessionInput>,
) -> Result<End, Failure> {
    // Before the start, where the answer is known: nothing typed may echo.
    let mut raw = raw_mode(&plan, state)?;
    let is_exec = matches!(plan.open, session_input::Message::Exec(_));
    to_daemon
        .send(input(plan.open.clone()))
        .await
        .map_err(|_| lost())?;
    let queue = ReceiverStream::new(queue);
    let mut output = if is_exec {
        client.exec(queue).await
    } else {
        client.attach(queue).await
    }?
    .into_inner();
    let early = match output.message().await?.and_then(|output| output.message) {
        Some(session_output::Message::Started(started)) => {
            state.tty.set(Some(started.tty));
            state.started.set(true);
            None
        }
        // No other message may come first, but none is lost if one does.
        Some(other) => Some(other),
        None => return Err(lost()),
    };
    let tty = state.tty.get() == Some(true);
    check_tty(plan.stdin, tty)?;
    if raw.is_none() {
        raw = raw_mode(&plan, state)?;
    }
    if let (true, true, Some(size)) = (plan.redraw, tty, window()) {
        // Programs draw on a change of size; to the same size there is none.
        let other = WindowSize {
            columns: size.columns + 1,
            rows: size.rows + 1,
        };
        for size in [other, size] {
            to_daemon.send(resize(size)).await.map_err(|_| lost())?;
        }
    }
    let end = tokio::select! {
        end = write_output(plan.shown, early, &mut output) => end,
        () = send_input(&plan, tty, &to_daemon) => Ok(End::Detached),
    };
    drop(raw);
    end
}

fn raw_mode(plan: &Plan, state: &State) -> Result<Option<Raw>, Failure> {
    if !plan.stdin || state.tty.get() != Some(true) {
        return Ok(None);
    }
    let raw = Raw::set().map_err(|errno| Failure::io("set the terminal raw", &errno.into()))?;
    state.raw.set(raw.is_some());
    Ok(raw)
}

fn lost() -> Failure {
    Failure::Setup("the daemon ended the session before the process ended".to_owned())
}

/// Writes what the process prints until it has ended.
async fn write_output(
    shown: Shown,
    early: Option<session_output::Message>,
    output: &mut Streaming<SessionOutput>,
) -> Result<End, Failure> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut next = early;
    loop {
        let message = match next.take() {
            Some(message) => message,
            None => match output.message().await?.ok_or_else(lost)?.message {
                Some(message) => message,
                None => continue,
            },
        };
        let written = match message {
            session_output::Message::Stdout(_) if !shown.stdout => Ok(()),
            session_output::Message::Stderr(_) if !shown.stderr => Ok(()),
            session_output::Message::Stdout(bytes) => write(&mut stdout, &bytes).await,
            session_output::Message::Stderr(bytes) => write(&mut stderr, &bytes).await,
            session_output::Message::Exited(exited) => return Ok(End::Exited(exited.exit_code)),
            session_output::Message::Started(_) => Ok(()),
        };
        written.map_err(|err| Failure::output(&err))?;
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Sends what is typed. Returns when the detach keys were typed, else never:
/// the end of the input is not the end of the session.
async fn send_input(plan: &Plan, tty: bool, to_daemon: &mpsc::Sender<SessionInput>) {
    if plan.stdin {
        let keys = (tty && io::stdin().is_terminal()).then(|| plan.keys.clone());
        if send_typed(keys, to_daemon).await {
            return;
        }
    }
    std::future::pending().await
}

/// Sends stdin to its end; true when the detach keys were typed.
async fn send_typed(keys: Option<DetachKeys>, to_daemon: &mpsc::Sender<SessionInput>) -> bool {
    let mut watch = keys.map(Watch::new);
    let mut typed = read_stdin();
    while let Some(bytes) = typed.recv().await {
        let (bytes, detach) = match &mut watch {
            Some(watch) => watch.feed(&bytes),
            None => (bytes, false),
        };
        if !bytes.is_empty() && !send(to_daemon, session_input::Message::Stdin(bytes.into())).await
        {
            return false;
        }
        if detach {
            return true;
        }
    }
    let rest = watch.map(|mut watch| watch.rest()).unwrap_or_default();
    if !rest.is_empty() {
        send(to_daemon, session_input::Message::Stdin(rest.into())).await;
    }
    let close = session_input::CloseStdin {};
    send(to_daemon, session_input::Message::CloseStdin(close)).await;
    false
}

/// False when the daemon has stopped listening; output tells why.
async fn send(to_daemon: &mpsc::Sender<SessionInput>, message: session_input::Message) -> bool {
    to_daemon.send(input(message)).await.is_ok()
}

/// Reads stdin on a thread of its own, as a terminal can only be read by
/// waiting. The thread ends with the process, or with stdin. An error is an
/// end too: a terminal that hangs up answers EIO.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    let piece = buffer.get(..read).unwrap_or_default().to_vec();
                    if pieces.blocking_send(piece).is_err() {
                        return;
                    }
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                // Someone we share the file with has set it non-blocking.
                Err(err) if err.kind() == ErrorKind::WouldBlock => {
                    let terminal = io::stdin();
                    let mut wait = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut wait, PollTimeout::NONE);
                }
                Err(_) => return,
            }
        }
    });
    receiver
}
