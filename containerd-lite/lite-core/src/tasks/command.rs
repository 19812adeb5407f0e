//! What a supervisor is asked, and how it answers.

use tokio::sync::oneshot;

use crate::error::Result;
use crate::events::Envelope;
use crate::shim::{Deleted, Exit, ProcessState, TaskIo};
use crate::values::AnyValue;

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What a supervisor is asked, and what it is told.
#[derive(Debug)]
pub(super) enum Command {
    Start {
        exec: Option<String>,
        reply: Reply<u32>,
    },
    Exec {
        exec: String,
        io: TaskIo,
        process: AnyValue,
        reply: Reply<()>,
    },
    Wait {
        exec: Option<String>,
        reply: Reply<Exit>,
    },
    Delete {
        reply: Reply<Deleted>,
    },
    DeleteExec {
        exec: String,
        reply: Reply<Deleted>,
    },
    Pause {
        reply: Reply<()>,
    },
    Resume {
        reply: Reply<()>,
    },
    /// Ask the shim for an exec that is not in the view.
    Adopt {
        exec: String,
        reply: Reply<ProcessState>,
    },
    /// The shim reports.
    Event(Envelope),
}

/// Nobody listening is no error: the caller gave up.
pub(super) fn tell<T>(reply: Reply<T>, result: Result<T>) {
    let _ = reply.send(result);
}
