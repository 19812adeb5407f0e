//! Signals during a session.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use proto::engine::v1::{KillContainerRequest, SessionInput, session_input};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{End, Forward, State, input, resize, terminal};
use crate::client::Engine;

/// What ends ctl however the container takes it: Docker's own limit.
const PATIENCE: u32 = 3;

/// The signals that are forwarded, or end ctl. A stop (Ctrl-Z) is left to
/// the shell, as it is for ctl and not for the container.
const FORWARDED: [(&str, i32); 7] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
];

/// Catches signals from its making on.
pub(super) struct Signals {
    window: Signal,
    caught: Vec<(&'static str, i32, Signal)>,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let caught = FORWARDED
            .iter()
            .map(|&(name, number)| Ok((name, number, signal(SignalKind::from_raw(number))?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            window: signal(SignalKind::window_change())?,
            caught,
        })
    }

    /// Forwards signals and sizes until one of them ends the session.
    pub(super) async fn serve(
        &mut self,
        mut client: Engine,
        forward: &Forward,
        state: &State,
        to_daemon: &mpsc::Sender<SessionInput>,
    ) -> End {
        let mut interrupts = 0;
        loop {
            let Some((name, number)) = self.next().await else {
                if let (Some(true), Some(size)) = (state.tty.get(), terminal::window()) {
                    // A queue full of input means that the container does not
                    // read; the next change will carry the size it has then.
                    let _ = to_daemon.try_send(resize(size));
                }
                continue;
            };
            let container = match forward {
                Forward::To(container) if !state.raw.get() => container,
                Forward::ToWithoutTty(container) if state.tty.get() == Some(false) => container,
                _ => return End::Signalled(number),
            };
            if matches!(name, "INT" | "TERM") {
                interrupts += 1;
            }
            if interrupts >= PATIENCE {
                return End::Forced;
            }
            if state.started.get() {
                // A call of its own: it arrives even if the session's input
                // is stuck behind a container that does not read. An error
                // means that the process has ended; the session will tell.
                let request = KillContainerRequest {
                    container: container.clone(),
                    signal: name.to_owned(),
                };
                let _ = client.kill_container(request).await;
            } else {
                // Nothing runs yet: it waits behind the message that starts it.
                let signal = session_input::Signal {
                    signal: name.to_owned(),
                };
                let _ = to_daemon.try_send(input(session_input::Message::Signal(signal)));
            }
        }
    }

    /// The next signal, or `None` for a change of the window's size.
    async fn next(&mut self) -> Option<(&'static str, i32)> {
        poll_fn(|context| {
            for (name, number, signal) in &mut self.caught {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(Some((*name, *number)));
                }
            }
            self.window.poll_recv(context).map(|_| None)
        })
        .await
    }
}
