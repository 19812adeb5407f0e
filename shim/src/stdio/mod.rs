//! The standard input and output of one process, from pipe to wherever.
//!
//! 1. [`uri`] says where the daemon wants them.
//! 2. [`ProcessIo::open`] opens that, and makes the pipes for the process.
//! 3. The runtime starts the process; a terminal comes back over [`console`].
//! 4. [`ProcessIo::start`] begins to copy: to fifos and files, or into a [`session`].
//! 5. [`ProcessIo::finished`] resolves when all output was read and written.
//! 6. [`ProcessIo::close`] lets go of everything.

pub(crate) mod uri;

pub(crate) mod console;
mod input;
mod json_log;
mod session;

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::failure::{Failure, Result, warn};
use crate::runtime::ChildStdio;
use console::Console;
use input::{Input, write_pipe};
use json_log::Output;
use session::Session;
use uri::{StdioUris, Target};

/// What one read takes from a process.
const CHUNK_BYTES: usize = 16 << 10;

/// How long [`ProcessIo::drain`] waits for a reader that is slow.
const SLOW_READER: Duration = Duration::from_secs(10);

/// How often [`ProcessIo::drain`] looks whether a copy is stuck.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// The stdio of one process.
pub(crate) struct ProcessIo {
    terminal: bool,
    session: Option<Rc<Session>>,
    input: Option<Input>,
    /// The fifo that input comes from, until it is opened.
    stdin_fifo: RefCell<Option<PathBuf>>,
    /// Our own writer of that fifo: input ends only once it is closed.
    stdin_hold: RefCell<Option<Sender>>,
    /// Whether the input was ended before it was opened.
    stdin_closed: Cell<bool>,
    sources: RefCell<Vec<(Source, Sink)>>,
    console: RefCell<Option<Rc<Console>>>,
    /// Outputs that are not at their end yet.
    open_outputs: watch::Sender<usize>,
    busy: Cell<usize>,
    tasks: RefCell<Vec<AbortHandle>>,
}

enum Source {
    Pipe(Receiver),
    Terminal(Rc<Console>),
}

enum Sink {
    Null,
    Fifo(Sender),
    File(File),
    Session(Rc<Session>, Output),
}

impl ProcessIo {
    /// Opens what `uris` name, and returns the process's own ends.
    /// `owner` is who may open `/dev/stdout` again inside.
    pub(crate) fn open(uris: &StdioUris, owner: (u32, u32)) -> Result<(Rc<Self>, ChildStdio)> {
        let opening = |uri: &str| {
            let op = format!("open stdio {uri:?}");
            move |err: io::Error| Failure::because(op.clone(), &err)
        };
        let stdout = uri::parse(&uris.stdout)?;
        let stderr = if uris.terminal {
            Target::Null
        } else {
            uri::parse(&uris.stderr)?
        };
        let stdin = uri::parse(&uris.stdin)?;

        let mut child = ChildStdio {
            stdin: Stdio::null(),
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        };
        let input = match (&stdin, uris.terminal) {
            (Target::Null, _) => None,
            (_, true) => Some(Input::terminal()),
            (_, false) => {
                let (reader, writer) = owned_pipe(owner).map_err(opening("pipe"))?;
                child.stdin = reader.into();
                Some(Input::pipe(
                    Sender::from_owned_fd(writer).map_err(opening("pipe"))?,
                ))
            }
        };
        let session = match &stdout {
            Target::Session(uri) => {
                Some(Session::open(uri, input.clone()).map_err(opening(&uris.stdout))?)
            }
            _ => None,
        };
        let mut sources = Vec::new();
        let stdin_fifo = match stdin {
            Target::Path(path) => std::fs::metadata(&path)
                .map(|_| Some(path))
                .map_err(opening(&uris.stdin)),
            Target::Null | Target::Session(_) => Ok(None),
            Target::File(_) => Err(Failure::invalid(format!(
                "stdin {:?} is no fifo",
                uris.stdin
            ))),
        }
        .inspect_err(|_| close_session(session.as_ref()))?;
        if !uris.terminal {
            let outputs = [
                (stdout, Output::Stdout, &uris.stdout),
                (stderr, Output::Stderr, &uris.stderr),
            ];
            for (target, output, uri) in outputs {
                let opened = open_output(target, output, session.as_ref(), owner)
                    .map_err(opening(uri))
                    .inspect_err(|_| close_session(session.as_ref()))?;
                let Some((source, sink, writer)) = opened else {
                    continue;
                };
                sources.push((source, sink));
                match output {
                    Output::Stdout => child.stdout = writer.into(),
                    Output::Stderr => child.stderr = writer.into(),
                }
            }
        }
        let io = Rc::new(Self {
            terminal: uris.terminal,
            session,
            input,
            stdin_fifo: RefCell::new(stdin_fifo),
            stdin_hold: RefCell::default(),
            stdin_closed: Cell::new(false),
            open_outputs: watch::Sender::new(sources.len() + usize::from(uris.terminal)),
            sources: RefCell::new(sources),
            console: RefCell::default(),
            busy: Cell::new(0),
            tasks: RefCell::default(),
        });
        Ok((io, child))
    }

    /// Takes in the terminal, whose output goes to `stdout`.
    pub(crate) fn connect(&self, console: Console, stdout: &str) -> Result<()> {
        let console = Rc::new(console);
        let sink = open_sink(uri::parse(stdout)?, Output::Stdout, self.session.as_ref())
            .map_err(|err| Failure::because(format!("open stdio {stdout:?}"), &err))?;
        if let Some(input) = &self.input {
            input.connect(&console);
        }
        self.sources
            .borrow_mut()
            .push((Source::Terminal(Rc::clone(&console)), sink));
        *self.console.borrow_mut() = Some(console);
        Ok(())
    }

    /// Begins to copy; a second call does nothing.
    pub(crate) fn start(self: &Rc<Self>) {
        let sources = std::mem::take(&mut *self.sources.borrow_mut());
        let mut tasks = self.tasks.borrow_mut();
        for (source, sink) in sources {
            tasks.push(
                tokio::task::spawn_local(Rc::clone(self).copy_output(source, sink)).abort_handle(),
            );
        }
    }

    /// Begins to take input, once the process runs. Not earlier: a client
    /// whose input ends at once would find nothing yet to call CloseIO on.
    pub(crate) fn start_input(&self) {
        let path = self.stdin_fifo.borrow_mut().take();
        let (Some(path), Some(input)) = (path, self.input.clone()) else {
            return;
        };
        match open_stdin_fifo(&path) {
            Ok((fifo, hold)) => {
                if !self.stdin_closed.get() {
                    *self.stdin_hold.borrow_mut() = Some(hold);
                }
                let copy = tokio::task::spawn_local(copy_input(fifo, input));
                self.tasks.borrow_mut().push(copy.abort_handle());
            }
            Err(err) => {
                warn("open the input's fifo", &err);
                input.close();
            }
        }
    }

    /// What a runtime that failed has printed into the process's pipes.
    pub(crate) fn leftovers(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (source, _) in self.sources.borrow().iter() {
            if let Source::Pipe(pipe) = source {
                let mut chunk = vec![0; CHUNK_BYTES];
                let n = pipe.try_read(&mut chunk).unwrap_or(0);
                text.extend_from_slice(&chunk[..n]);
            }
        }
        text
    }

    /// Resolves when all output was read to its end and written.
    pub(crate) async fn finished(&self) {
        let mut open = self.open_outputs.subscribe();
        // An error means that nobody will ever count down: then never.
        if open.wait_for(|&count| count == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives output that was read but is stuck in a slow reader time to get
    /// out. Does not wait for output that may never come.
    pub(crate) async fn drain(&self) {
        let out = async {
            while self.busy.get() > 0 && *self.open_outputs.borrow() > 0 {
                tokio::time::sleep(DRAIN_TICK).await;
            }
        };
        let _ = tokio::time::timeout(SLOW_READER, async { tokio::join!(out) }).await;
    }

    /// Ends the process's input as soon as what was written is read.
    pub(crate) fn close_stdin(&self) {
        self.stdin_closed.set(true);
        self.stdin_hold.borrow_mut().take();
        // A fifo ends by itself once its other writers are gone, too.
        if self.session.is_some()
            && let Some(input) = &self.input
        {
            input.close();
        }
    }

    /// Sets the terminal's size; nothing without a terminal.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &*self.console.borrow() {
            Some(console) => console.resize(columns, rows),
            None => Ok(()),
        }
    }

    /// Lets go of everything; attached clients are told the end.
    pub(crate) async fn close(&self) {
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
        self.sources.borrow_mut().clear();
        self.console.borrow_mut().take();
        self.stdin_hold.borrow_mut().take();
        self.stdin_fifo.borrow_mut().take();
        if let Some(input) = &self.input {
            input.release();
        }
        if let Some(session) = &self.session {
            // A client that does not read must not hold up a delete.
            let _ = tokio::time::timeout(DRAIN_TICK, session.end()).await;
            session.close();
        }
    }

    async fn copy_output(self: Rc<Self>, mut source: Source, mut sink: Sink) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match &mut source {
                Source::Pipe(pipe) => pipe.read(&mut chunk).await,
                Source::Terminal(console) => console.read(&mut chunk).await,
            };
            let n = match read {
                Ok(0) => break,
                Ok(n) => n,
                Err(err) => {
                    warn("read output", &err);
                    break;
                }
            };
            self.busy.set(self.busy.get() + 1);
            let written = sink.write(&chunk[..n]).await;
            self.busy.set(self.busy.get() - 1);
            if let Err(err) = written {
                // Read on, so that the process does not block for ever.
                warn("write output", &err);
                sink = Sink::Null;
            }
        }
        if let Sink::Session(session, output) = &sink {
            session.finish(*output);
            if *self.open_outputs.borrow() == 1 {
                session.end().await;
            }
        }
        // Readers of a fifo see its end before anybody hears of the exit.
        drop(sink);
        self.open_outputs.send_modify(|count| *count -= 1);
    }

    /// Whether the process has a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
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

fn close_session(session: Option<&Rc<Session>>) {
    if let Some(session) = session {
        session.close();
    }
}

fn owned_pipe(owner: (u32, u32)) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    if owner != (0, 0) {
        for end in [&reader, &writer] {
            fchown(
                end,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            )?;
        }
    }
    Ok((reader, writer))
}

/// A pipe from the process to `target`; none if that is /dev/null.
fn open_output(
    target: Target,
    output: Output,
    session: Option<&Rc<Session>>,
    owner: (u32, u32),
) -> io::Result<Option<(Source, Sink, OwnedFd)>> {
    let merged = output == Output::Stderr && session.is_some();
    if matches!(target, Target::Null) && !merged {
        return Ok(None);
    }
    let sink = open_sink(target, output, session)?;
    let (reader, writer) = owned_pipe(owner)?;
    let source = Source::Pipe(Receiver::from_owned_fd(reader)?);
    Ok(Some((source, sink, writer)))
}

fn open_sink(target: Target, output: Output, session: Option<&Rc<Session>>) -> io::Result<Sink> {
    match (target, session) {
        (Target::Session(_), Some(session)) => Ok(Sink::Session(Rc::clone(session), output)),
        // Errors with no place of their own go where the output goes.
        (Target::Null, Some(session)) if output == Output::Stderr => {
            Ok(Sink::Session(Rc::clone(session), output))
        }
        (Target::Session(_), None) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a session must be given as stdout",
        )),
        (Target::Null, _) => Ok(Sink::Null),
        (Target::Path(path), _) => {
            if std::fs::metadata(&path)?.file_type().is_fifo() {
                // Both ends: a reader that comes late, leaves or comes back
                // finds the fifo as it was.
                pipe::OpenOptions::new()
                    .read_write(true)
                    .open_sender(&path)
                    .map(Sink::Fifo)
            } else {
                OpenOptions::new().append(true).open(&path).map(Sink::File)
            }
        }
        (Target::File(path), _) => {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(&path)
                .map(Sink::File)
        }
    }
}

fn open_stdin_fifo(path: &Path) -> io::Result<(Receiver, Sender)> {
    let fifo = pipe::OpenOptions::new().open_receiver(path)?;
    // Opened second: without a reader this would fail.
    let hold = pipe::OpenOptions::new().open_sender(path)?;
    Ok((fifo, hold))
}

async fn copy_input(mut fifo: Receiver, input: Input) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(n @ 1..) = fifo.read(&mut chunk).await {
        if input.write(&chunk[..n]).await.is_err() {
            // The process has closed its input; the rest is of no use.
            return;
        }
    }
    input.close();
}
