//! `start`: lets the process of a created container go.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::poll::{PollFd, PollFlags, poll};

use crate::commands::Globals;
use crate::commands::state::document;
use crate::failure::{Context, Failure, Result};
use crate::phrases;
use crate::state::{Record, Status};

pub(super) fn run(globals: &Globals, id: &str) -> Result<()> {
    let (place, record) = globals.container(id)?;
    match place.status(&record)? {
        Status::Created => {}
        Status::Stopped => return Err(Failure::new(phrases::START_STOPPED)),
        Status::Running | Status::Paused => return Err(Failure::new(phrases::START_RUNNING)),
    }
    let fifo = place.fifo();
    // Init holds the fifo open for as long as it lives: without it this fails with ENXIO.
    let opened = fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&fifo);
    let mut opened = match opened {
        Err(e) if e.raw_os_error() == Some(nix::libc::ENXIO) => {
            return Err(Failure::new(phrases::START_STOPPED));
        }
        other => other.context(|| format!("open {}", fifo.display()))?,
    };
    // Removed first: two starts at once must not both succeed.
    match fs::remove_file(&fifo) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(phrases::START_RUNNING));
        }
        other => other.context(|| format!("remove {}", fifo.display()))?,
    }
    opened
        .write_all(b"0")
        .context(|| format!("write {}", fifo.display()))?;
    globals.log.span("await exec", || await_exec(&opened));
    poststart(&record)
}

/// Waits until init has become the program, or has ended: the spec has the start over only then, and a signal that the caller
/// sends next must reach the program. Exec closes the fifo's only reader. A container that was frozen meanwhile, or whose
/// startContainer hook hangs, is not waited for without end; nothing depends on the answer.
fn await_exec(fifo: &fs::File) {
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
    let _either_way = poll(&mut fds, EXEC_LIMIT_MS);
}

const EXEC_LIMIT_MS: u16 = 10_000;

/// Runs the hooks that come after the start.
pub(super) fn poststart(record: &Record) -> Result<()> {
    let hooks = record
        .spec
        .hooks()
        .as_ref()
        .and_then(|h| h.poststart().as_deref())
        .unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    crate::hooks::run(
        "poststart",
        hooks,
        &document(record, Status::Running, false)?,
    )
}
