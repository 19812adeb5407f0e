//! One attached session: a process's streams on this terminal.
//!
//! 1. [`signals::Signals`] catches what would kill us, from before the
//!    terminal is touched, so that every way out restores it.
//! 2. The conversation opens the stream and waits for `started`.
//! 3. A terminal that feeds a terminal goes raw ([`terminal::Raw`]).
//! 4. Output, input and signals then run side by side, so that none of them
//!    waits for another: a container that does not read its input can still
//!    write and be interrupted.
//!
//! The session ends with the process, with the detach keys, or with a signal
//! that is ours rather than the container's.

mod conversation;
mod signals;
mod terminal;

use std::cell::Cell;
use std::io::IsTerminal;

use proto::engine::v1::{SessionInput, WindowSize, session_input};
use tokio::sync::mpsc;

use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::parse::detach_keys::DetachKeys;

pub(crate) use terminal::{Silent, columns, window};

/// Messages to the daemon that may wait; when full, reading stdin waits.
const QUEUE: usize = 16;

/// What kind of session to hold.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The first message: attach or exec.
    pub(crate) open: session_input::Message,
    /// Send on what is typed.
    pub(crate) stdin: bool,
    /// Whether the process has a terminal, where it is known beforehand.
    pub(crate) tty: Option<bool>,
    /// Which of its output is shown.
    pub(crate) shown: Shown,
    /// The keys that leave the session.
    pub(crate) keys: DetachKeys,
    /// Which signals go to the container.
    pub(crate) forward: Forward,
    /// Make a program that already runs in the terminal draw itself again.
    pub(crate) redraw: bool,
}

/// Which of the process's output streams are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Shown {
    /// Both.
    pub(crate) const ALL: Self = Self {
        stdout: true,
        stderr: true,
    };
}

/// Which of our signals are meant for the container's process. While our
/// terminal is raw none is: its keys arrive there as input, so a signal comes
/// from outside and is for ctl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forward {
    /// To this container.
    To(String),
    /// To this container, unless it has a terminal.
    ToWithoutTty(String),
    /// None.
    Never,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ended, and all its output has been written.
    Exited(i32),
    /// The detach keys were typed.
    Detached,
    /// This signal ended ctl; the container lives on.
    Signalled(i32),
    /// The user insisted, three times, that ctl end.
    Forced,
}

impl End {
    /// The exit code for everything but [`End::Detached`], which each command
    /// counts in its own way.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Detached => 0,
            Self::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Forced => 1,
        }
    }
}

/// What the parts of a session know of it.
#[derive(Debug, Default)]
struct State {
    tty: Cell<Option<bool>>,
    started: Cell<bool>,
    raw: Cell<bool>,
}

/// Refuses input for a terminal that does not come from one, as Docker does.
pub(crate) fn check_tty(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !std::io::stdin().is_terminal() {
        return Err(Failure::Client("the input device is not a TTY".to_owned()));
    }
    Ok(())
}

/// Holds the session to its end. The terminal is as it was when this returns.
pub(crate) async fn hold(client: &Engine, plan: Plan) -> Result<End, Failure> {
    let (to_daemon, queue) = mpsc::channel(QUEUE);
    let state = State::default();
    state.tty.set(plan.tty);
    let mut signals =
        signals::Signals::catch().map_err(|err| Failure::io("catch signals", &err))?;
    let forward = plan.forward.clone();
    tokio::select! {
        end = conversation::run(client.clone(), plan, &state, to_daemon.clone(), queue) => end,
        end = signals.serve(client.clone(), &forward, &state, &to_daemon) => {
            if end == End::Forced {
                out::complain("\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n");
            }
            Ok(end)
        }
    }
}

fn input(message: session_input::Message) -> SessionInput {
    SessionInput {
        message: Some(message),
    }
}

fn resize(size: WindowSize) -> SessionInput {
    input(session_input::Message::Resize(size))
}
