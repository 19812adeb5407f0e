//! The embedded default: a daemon that ctl starts when none runs.
//!
//! 1. [`start`] takes a lock in the state directory, so that of several
//!    clients one starts the daemon and the others wait for it.
//! 2. It runs ctl itself as [`launch`], which becomes the leader of a new
//!    session and then the daemon; its output goes to `daemon.log`.
//! 3. It waits for the socket. A daemon that ends before it answers is
//!    reported with the last line it logged.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixStream;

use super::{is_nobody, unreachable};
use crate::failure::Failure;
use crate::out;

/// What ctl's own first word is when it is to become the daemon. It is no
/// command of the command line: no help or completion knows it.
const LAUNCH: &str = "launch-daemon";

/// The daemon's executable.
const DAEMON: &str = "containerd-lite";

/// How long a daemon may take until it answers: at its start it looks after
/// every container and mount that an earlier one left.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the socket is tried: far below what a person notices.
const INTERVAL: Duration = Duration::from_millis(5);

/// How much of the log's end is searched for its last line.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// Starts a daemon in `state` and returns a connection to its `socket`.
pub(super) async fn start(state: &Path, socket: &Path) -> Result<UnixStream, Failure> {
    let place = || format!("start a daemon in {}", state.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .map_err(|err| cannot(&place(), &err))?;
    let _lock = lock(&state.join("start.lock")).map_err(|err| cannot(&place(), &err))?;
    // Someone else may have started it while we waited for the lock.
    match UnixStream::connect(socket).await {
        Err(err) if is_nobody(&err) => {}
        Err(err) => return Err(unreachable(socket, &err)),
        Ok(stream) => return Ok(stream),
    }
    let program = find_daemon()?;
    let log_path = state.join("daemon.log");
    let mut log = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(&log_path)
        .map_err(|err| cannot(&format!("open {}", log_path.display()), &err))?;
    let before = log.seek(SeekFrom::End(0)).unwrap_or_default();
    let place = log_path.display();
    out::complain(&format!(
        "ctl: no daemon is running: starting {DAEMON}, log in {place}\n"
    ));
    let mut child = spawn(&program, state, &log)
        .map_err(|err| cannot(&format!("start {}", program.display()), &err))?;
    match await_socket(&mut child, socket).await? {
        Waited::Answered(stream) => Ok(stream),
        Waited::Ended(status) => {
            let ended = describe(status);
            Err(Failure::Setup(match last_line(&mut log, before) {
                Some(line) => format!("the daemon {ended}: {line}"),
                None => format!("the daemon {ended} and logged nothing"),
            }))
        }
        Waited::Silent => Err(Failure::Setup(format!(
            "the daemon does not answer at unix://{} after {} s: see {}",
            socket.display(),
            PATIENCE.as_secs(),
            log_path.display()
        ))),
    }
}

fn cannot(op: &str, err: &io::Error) -> Failure {
    let hint = match err.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run ctl as root, or name a running daemon with --host"
        }
        _ => "",
    };
    match Failure::io(op, err) {
        Failure::Client(message) => Failure::Setup(format!("{message}{hint}")),
        other => other,
    }
}

/// Waits for and takes the lock; dropping it, or dying, gives it back.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// The daemon's executable: beside our own, else on PATH.
fn find_daemon() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(DAEMON))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        Failure::Setup(format!(
            "no daemon is running, and there is no {DAEMON} beside ctl or on PATH to start: name a running one with --host or CTL_HOST"
        ))
    })
}

fn spawn(program: &Path, state: &Path, log: &File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(LAUNCH)
        .arg(std::path::absolute(program)?)
        .args(["--state".as_ref(), state.as_os_str()])
        // A daemon must not keep a mount busy that someone ran ctl in.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    if let Some(root) = std::env::var_os("CONTAINERD_LITE_ROOT") {
        command.env("CONTAINERD_LITE_ROOT", std::path::absolute(root)?);
    }
    command.spawn()
}

/// If ctl was run by [`spawn`], leaves the user's session and becomes the
/// daemon: returns only what went wrong. A process of its own can do that,
/// where doing so between fork and exec would need unsafe code.
pub(crate) fn launch(argv: &[OsString]) -> Option<Failure> {
    let [_, word, program, args @ ..] = argv else {
        return None;
    };
    if word != LAUNCH {
        return None;
    }
    if let Err(errno) = nix::unistd::setsid() {
        return Some(Failure::io("leave the terminal's session", &errno.into()));
    }
    let err = Command::new(program).args(args).exec();
    Some(Failure::io(format!("run {}", program.display()), &err))
}

/// How waiting for the daemon ended.
enum Waited {
    Answered(UnixStream),
    Ended(ExitStatus),
    Silent,
}

async fn await_socket(child: &mut Child, socket: &Path) -> Result<Waited, Failure> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        // Asked before connecting: a daemon that ends because another one
        // has come first still leaves a socket that answers.
        let ended = child
            .try_wait()
            .map_err(|err| Failure::io("wait for the daemon", &err))?;
        match (UnixStream::connect(socket).await, ended) {
            (Ok(stream), _) => return Ok(Waited::Answered(stream)),
            (Err(_), Some(status)) => return Ok(Waited::Ended(status)),
            (Err(_), None) => tokio::time::sleep(INTERVAL).await,
        }
    }
    Ok(Waited::Silent)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended at its start with exit code {code}"),
        (None, Some(signal)) => format!("was killed at its start by signal {signal}"),
        (None, None) => "ended at its start".to_owned(),
    }
}

/// The last line that was written after `before`.
fn last_line(log: &mut File, before: u64) -> Option<String> {
    let end = log.seek(SeekFrom::End(0)).ok()?;
    log.seek(SeekFrom::Start(
        before.max(end.saturating_sub(LOG_TAIL_BYTES)),
    ))
    .ok()?;
    let mut text = Vec::new();
    log.take(LOG_TAIL_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .map(ToOwned::to_owned)
}
