//! The standard input and output of one process, from pipe to wherever.
//!
//! 1. [`uri`] says where the daemon wants them.
//! 2. [`ProcessIo::open`] opens that, and makes the pipes for the process.
//! 3. The runtime starts the process; a terminal comes back over [`console`].
//! 4. [`ProcessIo::start`] begins to [`copy`]: to fifos and files, or into a
//!    [`session`]. A [`logger`] reads the pipes itself.
//! 5. [`ProcessIo::drained`] resolves when all output was read and written.
//! 6. [`ProcessIo::close`] lets go of everything.

pub(crate) mod uri;

pub(crate) mod console;
mod input;
mod lines;

mod journald;
mod json_log;
mod log;
mod remote;
mod syslog;

mod copy;
mod cri_log;
pub(crate) mod logger;
mod session;

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use crate::failure::{Failure, Result, warn};
use crate::reaper::Reaper;
use crate::runtime::ChildStdio;
use console::Console;
use copy::{Outputs, Sink, Source};
use input::Input;
use lines::Output;
use logger::{Logger, Pipes, Whose};
use session::Session;
use uri::{StdioUris, Target};

/// What one read takes from a client's input, or from what a failed runtime said.
const CHUNK_BYTES: usize = 16 << 10;

/// How long [`ProcessIo::close`] lets attached clients read on.
const GOODBYE: Duration = Duration::from_millis(20);

/// The stdio of one process.
pub(crate) struct ProcessIo {
    terminal: bool,
    session: Option<Rc<Session>>,
    logger: Option<Logger>,
    input: Option<Input>,
    /// The fifo that input comes from, until it is opened.
    stdin_fifo: RefCell<Option<PathBuf>>,
    /// Our own writer of that fifo: input ends only once it is closed.
    stdin_hold: RefCell<Option<Sender>>,
    /// Whether the input was ended before it was opened.
    stdin_closed: Cell<bool>,
    sources: RefCell<Vec<(Source, Sink)>>,
    /// Where a terminal's output will go.
    terminal_sink: RefCell<Option<Sink>>,
    console: RefCell<Option<Rc<Console>>>,
    outputs: Rc<Outputs>,
    tasks: RefCell<Vec<AbortHandle>>,
}

/// Who the process is, as far as its stdio is concerned.
pub(crate) struct Owner<'a> {
    /// Its container's tenant, and its id.
    pub(crate) whose: Whose<'a>,
    /// Who may open `/dev/stdout` again inside.
    pub(crate) ids: (u32, u32),
    /// Who reaps a logging program.
    pub(crate) reaper: &'a Rc<Reaper>,
}

/// What was opened for the outputs of a process.
#[derive(Default)]
struct Opened {
    session: Option<Rc<Session>>,
    logger: Option<Logger>,
    terminal_sink: Option<Sink>,
    sources: Vec<(Source, Sink)>,
}

impl ProcessIo {
    /// Opens what `uris` name, and returns the process's own ends.
    pub(crate) async fn open(
        uris: &StdioUris,
        owner: &Owner<'_>,
    ) -> Result<(Rc<Self>, ChildStdio)> {
        let stdout = uri::parse(&uris.stdout)?;
        let stderr = match uris.terminal {
            true => Target::Null,
            false => uri::parse(&uris.stderr)?,
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
                let opening = opening("pipe");
                let (reader, writer) = owned_pipe(owner.ids).map_err(&opening)?;
                child.stdin = reader.into();
                Some(Input::pipe(
                    Sender::from_owned_fd(writer).map_err(&opening)?,
                ))
            }
        };
        let stdin_fifo = match stdin {
            Target::Path(path) => {
                std::fs::metadata(&path).map_err(opening(&uris.stdin))?;
                Some(path)
            }
            Target::Null | Target::Session(_) => None,
            Target::File(_) | Target::Logger(_) => {
                return Err(Failure::invalid(format!(
                    "stdin {:?} is no fifo",
                    uris.stdin
                )));
            }
        };
        let outputs = Outputs::new(count(&stdout, &stderr, uris.terminal));
        let mut opened = Opened::default();
        let done = opened
            .open(
                uris,
                (stdout, stderr),
                owner,
                &outputs,
                input.as_ref(),
                &mut child,
            )
            .await;
        if let Err(err) = done {
            opened.close().await;
            return Err(err);
        }
        let io = Rc::new(Self {
            terminal: uris.terminal,
            session: opened.session,
            logger: opened.logger,
            input,
            stdin_fifo: RefCell::new(stdin_fifo),
            stdin_hold: RefCell::default(),
            stdin_closed: Cell::new(false),
            sources: RefCell::new(opened.sources),
            terminal_sink: RefCell::new(opened.terminal_sink),
            console: RefCell::default(),
            outputs,
            tasks: RefCell::default(),
        });
        Ok((io, child))
    }

    /// Takes in the terminal.
    pub(crate) fn connect(&self, console: Console) {
        let console = Rc::new(console);
        if let Some(input) = &self.input {
            input.connect(&console);
        }
        let sink = self.terminal_sink.borrow_mut().take().unwrap_or(Sink::Null);
        self.sources
            .borrow_mut()
            .push((Source::Terminal(Rc::clone(&console)), sink));
        *self.console.borrow_mut() = Some(console);
    }

    /// Begins to copy; a second call does nothing.
    pub(crate) fn start(self: &Rc<Self>) {
        let sources = std::mem::take(&mut *self.sources.borrow_mut());
        let mut tasks = self.tasks.borrow_mut();
        for (source, sink) in sources {
            let copy = copy::copy(Rc::clone(&self.outputs), source, sink);
            tasks.push(tokio::task::spawn_local(copy).abort_handle());
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
            text.reserve(CHUNK_BYTES);
            // Nothing there is as good as an end.
            let _ = source.try_read(&mut text);
        }
        text
    }

    /// Resolves when all output was read to its end and written, or when there
    /// is no hope of that; see [`Outputs::drained`].
    pub(crate) async fn drained(&self, quiet: Duration) {
        self.outputs.drained(quiet).await;
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
            let _ = tokio::time::timeout(GOODBYE, session.end()).await;
            session.close();
        }
        if let Some(logger) = &self.logger {
            logger.stop().await;
        }
    }

    /// The socket where clients attach, if they can.
    pub(crate) fn session_socket(&self) -> Option<&Path> {
        self.session.as_deref().map(Session::socket)
    }

    /// Whether the process has a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl Opened {
    async fn open(
        &mut self,
        uris: &StdioUris,
        (stdout, stderr): (Target, Target),
        owner: &Owner<'_>,
        outputs: &Rc<Outputs>,
        input: Option<&Input>,
        child: &mut ChildStdio,
    ) -> Result<()> {
        if let Target::Logger(uri) = &stdout {
            let starting = Logger::start(uri, &owner.whose, owner.reaper, Rc::clone(outputs));
            let (logger, pipes) = starting.await.map_err(|err| {
                Failure::because(
                    format!("start logging binary {}", uri.program.display()),
                    &err,
                )
            })?;
            self.logger = Some(logger);
            let Pipes { stdout, stderr } = pipes;
            if uris.terminal {
                let to = Sender::from_owned_fd(stdout).map_err(opening(&uris.stdout))?;
                self.terminal_sink = Some(Sink::Fifo(to));
            } else {
                child.stdout = stdout.into();
                child.stderr = stderr.into();
            }
            return Ok(());
        }
        if let Target::Session(uri) = &stdout {
            let session = Session::open(uri, input.cloned()).map_err(opening(&uris.stdout))?;
            self.session = Some(session);
        }
        if uris.terminal {
            let sink = open_sink(stdout, Output::Stdout, self.session.as_ref())
                .map_err(opening(&uris.stdout))?;
            self.terminal_sink = Some(sink);
            return Ok(());
        }
        for (target, output, uri) in [
            (stdout, Output::Stdout, &uris.stdout),
            (stderr, Output::Stderr, &uris.stderr),
        ] {
            let opened = open_output(target, output, self.session.as_ref(), owner.ids)
                .map_err(opening(uri))?;
            let Some((source, sink, writer)) = opened else {
                continue;
            };
            self.sources.push((source, sink));
            match output {
                Output::Stdout => child.stdout = writer.into(),
                Output::Stderr => child.stderr = writer.into(),
            }
        }
        Ok(())
    }

    /// Lets go after a failure.
    async fn close(&self) {
        if let Some(session) = &self.session {
            session.close();
        }
        if let Some(logger) = &self.logger {
            logger.stop().await;
        }
    }
}

/// How many ends of output there will be.
fn count(stdout: &Target, stderr: &Target, terminal: bool) -> usize {
    let logger = matches!(stdout, Target::Logger(_));
    if terminal || logger {
        return usize::from(terminal) + usize::from(logger);
    }
    let session = matches!(stdout, Target::Session(_));
    let some = |target: &Target| usize::from(!matches!(target, Target::Null));
    some(stdout) + usize::from(session || some(stderr) == 1)
}

/// Says what could not be opened.
fn opening(uri: &str) -> impl Fn(io::Error) -> Failure + use<> {
    let op = format!("open stdio {uri:?}");
    move |err| Failure::because(&op, &err)
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
        (Target::Null | Target::Logger(_), _) => Ok(Sink::Null),
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

async fn copy_input(fifo: Receiver, input: Input) {
    while fifo.readable().await.is_ok() {
        // Only while there is something in it: most input never comes.
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        match fifo.try_read_buf(&mut chunk) {
            Ok(1..) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(0) | Err(_) => break,
        }
        if input.write(&chunk).await.is_err() {
            // The process has closed its input; the rest is of no use.
            return;
        }
    }
    input.close();
}
