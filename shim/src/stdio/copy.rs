//! Moves one output of a process to where it goes.
//!
//! From pipe to fifo the kernel moves the pages (`splice(2)`) and the bytes
//! never come here. For other pairs a buffer exists only while there is
//! something in it, as a shim spends nearly all of its life waiting.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{SpliceFlags, splice};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

use super::console::Console;
use super::input::write_pipe;
use super::lines::Output;
use super::session::Session;
use crate::failure::warn;

/// What one read takes from a process.
const CHUNK_BYTES: usize = 64 << 10;

/// What one splice moves: what a pipe holds unless it was made larger.
const SPLICE_BYTES: usize = 64 << 10;

/// How often [`Outputs::drained`] looks whether anything moves.
const TICK: Duration = Duration::from_millis(20);

/// How long output may wait for its reader when the process has ended.
const SLOW_READER: Duration = Duration::from_secs(10);

/// Where output comes from.
pub(super) enum Source {
    /// A pipe that the process writes to.
    Pipe(Receiver),
    /// The terminal that it has.
    Terminal(Rc<Console>),
}

/// Where output goes.
pub(super) enum Sink {
    /// Nowhere.
    Null,
    /// A fifo, or the pipe of a logging program.
    Fifo(Sender),
    /// A file.
    File(File),
    /// A log and whoever is attached.
    Session(Rc<Session>, Output),
}

/// How far the outputs of one process are.
pub(super) struct Outputs {
    /// Those not at their end yet.
    open: watch::Sender<usize>,
    /// Those with bytes that were read and not written yet.
    busy: Cell<usize>,
    /// Counts what was moved.
    moved: Cell<u64>,
}

impl Outputs {
    /// `count` outputs, none at its end.
    pub(super) fn new(count: usize) -> Rc<Self> {
        Rc::new(Self {
            open: watch::Sender::new(count),
            busy: Cell::new(0),
            moved: Cell::new(0),
        })
    }

    /// One more is at its end.
    pub(super) fn end_one(&self) {
        self.open
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    fn is_last(&self) -> bool {
        *self.open.borrow() == 1
    }

    fn has_ended(&self) -> bool {
        *self.open.borrow() == 0
    }

    /// Resolves when all output was read to its end and written.
    async fn ended(&self) {
        let mut open = self.open.subscribe();
        // An error means that nobody will ever count down: then never.
        if open.wait_for(|&count| count == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when all output was read to its end and written; or when none
    /// has come for `quiet`, as something that the process left behind may hold
    /// a pipe open for ever; or when a reader has taken nothing for ten seconds.
    pub(super) async fn drained(&self, quiet: Duration) {
        let given_up = async {
            let (mut seen, mut still) = (self.moved.get(), Duration::ZERO);
            loop {
                let patience = match self.busy.get() {
                    0 => quiet,
                    _ => SLOW_READER,
                };
                if still >= patience {
                    return;
                }
                tokio::time::sleep(TICK).await;
                still += TICK;
                if self.moved.get() != seen {
                    (seen, still) = (self.moved.get(), Duration::ZERO);
                }
            }
        };
        if self.has_ended() {
            return;
        }
        tokio::select! {
            () = self.ended() => {}
            () = given_up => {}
        }
    }
}

/// Counts an output as busy while it exists.
struct Busy<'a>(&'a Outputs);

impl<'a> Busy<'a> {
    fn new(outputs: &'a Outputs) -> Self {
        outputs.busy.set(outputs.busy.get() + 1);
        Self(outputs)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// Copies to the end of `source`.
pub(super) async fn copy(outputs: Rc<Outputs>, source: Source, mut sink: Sink) {
    let copied = match (&source, &sink) {
        (Source::Pipe(from), Sink::Fifo(to)) => splice_all(from, to, &outputs).await,
        _ => copy_all(&source, &mut sink, &outputs).await,
    };
    if let Err(err) = copied {
        warn("copy output", &err);
        // Read on, so that the process does not block for ever.
        sink = Sink::Null;
        if let Err(err) = copy_all(&source, &mut sink, &outputs).await {
            warn("read output", &err);
        }
    }
    if let Sink::Session(session, output) = &sink {
        session.finish(*output).await;
        if outputs.is_last() {
            session.end().await;
        }
    }
    // Readers of a fifo see its end before anybody hears of the exit.
    drop(sink);
    outputs.end_one();
}

async fn splice_all(from: &Receiver, to: &Sender, outputs: &Outputs) -> io::Result<()> {
    loop {
        from.readable().await?;
        let moved = match try_splice(from, to) {
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let _busy = Busy::new(outputs);
                wait_for_either(from, to).await?;
                continue;
            }
            Err(err) => return Err(err),
        };
        if moved == 0 {
            return Ok(());
        }
        outputs.moved.set(outputs.moved.get() + moved as u64);
        // Other containers of the pod want their turn.
        tokio::task::yield_now().await;
    }
}

fn try_splice(from: &Receiver, to: &Sender) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(from, None, to, None, SPLICE_BYTES, flags)?)
}

/// Waits until the side that stopped a splice is ready. `splice` does not say
/// which one it was, so both are asked now: whatever changes after that
/// makes an event, and one that is ready again by now is not waited for.
async fn wait_for_either(from: &Receiver, to: &Sender) -> io::Result<()> {
    let mut fds = [
        PollFd::new(from, PollFlags::IN),
        PollFd::new(to, PollFlags::OUT),
    ];
    poll(&mut fds, Some(&Timespec::default()))?;
    let not_ready = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    if fds[0].revents().is_empty() {
        // Takes back what the event loop believes; the next event sets it.
        let _ = from.try_io(not_ready);
    } else if fds[1].revents().is_empty() {
        let _ = to.try_io(not_ready);
        to.writable().await?;
    }
    Ok(())
}

async fn copy_all(source: &Source, sink: &mut Sink, outputs: &Outputs) -> io::Result<()> {
    // Said once for each row of failures, which may be long.
    let mut failing = false;
    loop {
        source.readable().await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        loop {
            chunk.clear();
            let n = match source.try_read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err),
            };
            let written = {
                let _busy = Busy::new(outputs);
                sink.write(&chunk).await
            };
            outputs.moved.set(outputs.moved.get() + n as u64);
            match written {
                // A disk that is full now may have room later.
                Err(err) if matches!(sink, Sink::File(_)) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn("write output, which is lost", &err);
                    }
                }
                Err(err) => return Err(err),
                Ok(()) => failing = false,
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Source {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.readable().await,
            Self::Terminal(console) => console.readable().await,
        }
    }

    /// Reads what is there into the room that `into` has; 0 at the end.
    pub(super) fn try_read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.try_read_buf(into),
            Self::Terminal(console) => console.try_read(into),
        }
    }
}

impl Sink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Null => Ok(()),
            Self::Fifo(fifo) => write_pipe(fifo, bytes).await,
            Self::File(file) => file.write_all(bytes),
            Self::Session(session, output) => {
                session.write(*output, bytes).await;
                Ok(())
            }
        }
    }
}
