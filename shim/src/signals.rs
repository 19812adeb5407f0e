//! The signals that a shim listens for.
//!
//! Not tokio's: it keeps a place for each of 65 signals, which is a tenth of
//! all that an idle shim holds.

use std::io;

use nix::libc::{SIGCHLD, SIGINT, SIGTERM};
use tokio::net::unix::pipe::Receiver;

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Children have ended.
    Child,
    /// The shim is to end.
    Terminate,
}

/// The signals of this process.
pub(crate) struct Signals {
    pipe: Receiver,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let pipe = kernel::signals::pipe(&[SIGCHLD, SIGTERM, SIGINT])?;
        Ok(Self {
            pipe: Receiver::from_owned_fd(pipe)?,
        })
    }

    /// The next one. One may stand for many of its kind.
    pub(crate) async fn next(&self) -> io::Result<Signal> {
        loop {
            self.pipe.readable().await?;
            let mut byte = [0];
            match self.pipe.try_read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if i32::from(byte[0]) == SIGCHLD => return Ok(Signal::Child),
                Ok(_) => return Ok(Signal::Terminate),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err),
            }
        }
    }
}
