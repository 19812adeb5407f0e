//! Terminals: the runtime opens one and sends its master over a socket.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};

use crate::address;
use crate::readiness;

/// The runtime has ended by the time the master is asked for.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket that waits for one terminal; removed when dropped.
pub(crate) struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // Nothing depends on it any more.
        let _ = fs::remove_file(&self.path);
    }
}

impl ConsoleSocket {
    /// Listens in `dir`, whose path is short, under a name of its own.
    pub(crate) fn open(dir: &Path, serial: u64) -> io::Result<Self> {
        let path = dir.join(format!("pty-{}-{serial}", std::process::id()));
        address::remove(&path)?;
        let listener = address::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            path,
            listener: UnixListener::from_std(listener)?,
        })
    }

    /// For the runtime's `--console-socket`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal that was sent.
    pub(crate) async fn receive(self) -> io::Result<Console> {
        let master = tokio::time::timeout(RECEIVE_TIMEOUT, async {
            let (stream, _) = self.listener.accept().await?;
            receive_fd(&stream).await
        });
        Console::new(
            master
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        )
    }
}

async fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    loop {
        stream.readable().await?;
        let received = stream.try_io(Interest::READABLE, || {
            let mut name = [0; 256];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [io::IoSliceMut::new(&mut name)];
            recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let fds = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            Ok(fds.flatten().next())
        });
        match received {
            Ok(Some(fd)) => return Ok(fd),
            Ok(None) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "no terminal came over the console socket",
                ));
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) => return Err(err),
        }
    }
}

/// The master side of a terminal.
pub(crate) struct Console {
    master: AsyncFd<OwnedFd>,
}

impl Console {
    fn new(master: OwnedFd) -> io::Result<Self> {
        if !rustix::termios::isatty(&master) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what came over the console socket is no terminal",
            ));
        }
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            master: readiness::register(master)?,
        })
    }

    /// Resolves when there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.master
            .readable()
            .await
            .map(|mut ready| ready.retain_ready())
    }

    /// Reads output that is there into the room that `into` has; 0 when no
    /// process has the terminal open any more.
    pub(crate) fn try_read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let read = self.master.try_io(Interest::READABLE, |fd| {
            rustix::io::read(fd, spare_capacity(into)).map_err(io::Error::from)
        });
        match read {
            // The kernel's word for a terminal without a slave side.
            Err(err) if err.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
            other => other,
        }
    }

    /// Writes all of `bytes` as input.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = self.master.async_io(Interest::WRITABLE, |fd| {
                nix::unistd::write(fd, bytes).map_err(io::Error::from)
            });
            bytes = &bytes[write.await?..];
        }
        Ok(())
    }

    /// Sets the size, as `TIOCSWINSZ` does.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.master.get_ref(), size).map_err(io::Error::from)
    }
}
