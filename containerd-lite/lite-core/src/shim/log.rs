//! The shim's own log: it writes lines into the fifo `log` in its bundle, and
//! they come out in the daemon's log.
//!
//! The fifo is opened for reading and writing, so that the shim can open it at
//! any time and no line is lost between a daemon's end and the next one's start
//! but for what the pipe cannot hold.

use std::path::Path;

use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::task::AbortHandle;

use crate::error::{Because, Result};

/// A line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 4096;

/// Stops reading when dropped.
#[derive(Debug)]
pub struct LogReader(AbortHandle);

impl Drop for LogReader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the fifo in `bundle` if it is not there, and passes on what comes out
/// of it until the result is dropped.
///
/// # Errors
/// What `mkfifo(3)` or `open(2)` say.
pub fn follow(bundle: &Path, container: &str) -> Result<LogReader> {
    let path = bundle.join("log");
    match nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)) {
        Err(nix::errno::Errno::EEXIST) => {}
        other => other.op(|| format!("make fifo {}", path.display()))?,
    }
    let fifo = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&path)
        .op(|| format!("open fifo {}", path.display()))?;
    Ok(LogReader(
        tokio::spawn(pass_on(fifo, container.to_owned())).abort_handle(),
    ))
}

async fn pass_on(fifo: pipe::Receiver, container: String) {
    let mut reader = BufReader::with_capacity(LONGEST_LINE, fifo);
    let mut line = Vec::new();
    loop {
        let Ok(chunk) = reader.fill_buf().await else {
            return;
        };
        if chunk.is_empty() {
            return;
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() || line.len() >= LONGEST_LINE {
            say(&container, &String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}

/// Shims write logfmt; what they call a warning or worse is one for us too.
fn say(container: &str, line: &str) {
    let bad = [
        "level=warn",
        "level=error",
        "level=fatal",
        "level=panic",
        " WARN ",
        " ERROR ",
    ];
    if bad.iter().any(|level| line.contains(level)) {
        tracing::warn!(container_id = container, line, "shim log");
    } else if !line.is_empty() {
        tracing::debug!(container_id = container, line, "shim log");
    }
}
