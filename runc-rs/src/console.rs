//! Waits in the foreground for a process: hands on signals, and where it has a terminal, copies between that and ours.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Context, Result};

/// Signals seen as descriptors. Made before the clone, so that no child's end is missed.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn block() -> Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let make = || -> std::io::Result<SignalFd> {
            kernel::signals::block_all()?;
            Ok(SignalFd::with_flags(&SigSet::all(), flags)?)
        };
        make().map(Self).context(|| "watch signals".to_owned())
    }
}

/// A pair of sockets over which init sends the master of its terminal.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().context(|| "make console socket".to_owned())?;
    Ok((ours.into(), theirs.into()))
}

/// The master that init has sent, set up before the program can write: a terminal of ours translates newlines itself, and a
/// file wants none.
pub(crate) fn receive_master(socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut name = [0; 4096];
    let (_, mut fds) = kernel::scm::recv(socket.as_fd(), &mut name, 1)
        .context(|| "receive terminal".to_owned())?;
    let master = fds.pop();
    if let Some(master) = &master {
        kernel::pty::keep_newlines(master.as_fd()).context(|| "set up the console".to_owned())?;
    }
    Ok(master)
}

/// Waits until process `pid` has ended and returns its exit code, 128 and the signal's number for a signal.
pub(crate) fn wait(pid: i32, signals: &Signals, master: Option<OwnedFd>) -> Result<u8> {
    let mut terminal = master.map(Terminal::new).transpose()?;
    loop {
        if let Some(code) = reap(pid)? {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(code);
        }
        let (stdin, output) = {
            let stdin = std::io::stdin();
            let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
            if let Some(terminal) = terminal.as_ref().filter(|t| t.open) {
                fds.push(PollFd::new(terminal.master.as_fd(), PollFlags::POLLIN));
                if terminal.input {
                    fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            poll(&mut fds, PollTimeout::NONE).context(|| "wait".to_owned())?;
            let ready = |at: usize| {
                fds.get(at)
                    .and_then(PollFd::revents)
                    .is_some_and(|r| !r.is_empty())
            };
            (ready(2), ready(1))
        };
        while let Ok(Some(info)) = signals.0.read_signal() {
            hand_on(pid, info.ssi_signo, terminal.as_ref());
        }
        if let Some(terminal) = &mut terminal {
            if output {
                terminal.copy_output();
            }
            if stdin {
                terminal.copy_input();
            }
        }
    }
}

fn hand_on(pid: i32, number: u32, terminal: Option<&Terminal>) {
    let signal = i32::try_from(number)
        .ok()
        .and_then(|n| Signal::try_from(n).ok());
    match signal {
        Some(Signal::SIGCHLD | Signal::SIGPIPE | Signal::SIGURG) => {}
        Some(Signal::SIGWINCH) if terminal.is_some() => {
            if let Some(terminal) = terminal {
                terminal.resize();
            }
        }
        _ => {
            // It may have ended this instant; the loop will see.
            let _gone = kernel::signals::kill(pid, i32::try_from(number).unwrap_or_default());
        }
    }
}

/// Reaps whatever has ended, orphans that we adopted included.
fn reap(pid: i32) -> Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(who, code)) if who == Pid::from_raw(pid) => {
                return Ok(Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(who, signal, _)) if who == Pid::from_raw(pid) => {
                return Ok(Some(
                    128_u8.wrapping_add(u8::try_from(signal as i32).unwrap_or_default()),
                ));
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| "wait for process".to_owned()),
        }
    }
}

#[derive(Debug)]
struct Terminal {
    master: std::fs::File,
    /// Ours, in raw mode while this lives; `None` if standard input is no terminal.
    _raw: Option<kernel::pty::Raw>,
    open: bool,
    input: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        let raw = kernel::pty::Raw::enter(std::io::stdin().as_fd()).ok();
        let terminal = Self {
            master: master.into(),
            _raw: raw,
            open: true,
            input: true,
        };
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        if let Ok((rows, columns)) = kernel::pty::size(std::io::stdin().as_fd()) {
            // The other side may be gone already.
            let _gone = kernel::pty::set_size(self.master.as_fd(), rows, columns);
        }
    }

    fn copy_output(&mut self) {
        let mut buffer = [0; 16384];
        match self.master.read(&mut buffer) {
            Ok(len) if len > 0 => {
                let mut out = std::io::stdout();
                self.open = out
                    .write_all(&buffer[..len])
                    .and_then(|()| out.flush())
                    .is_ok();
            }
            // EIO: the last slave is closed.
            _ => self.open = false,
        }
    }

    fn copy_input(&mut self) {
        let mut buffer = [0; 4096];
        match std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map(std::fs::File::from)
            .and_then(|mut f| f.read(&mut buffer))
        {
            Ok(len) if len > 0 => self.input = self.master.write_all(&buffer[..len]).is_ok(),
            _ => {
                // End of input is a terminal's own end-of-file character.
                let _closed = self.master.write_all(&[4]);
                self.input = false;
            }
        }
    }

    /// What the process wrote before it ended.
    fn drain(&mut self) {
        while self.open {
            let ready = {
                let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
            };
            if !ready {
                return;
            }
            self.copy_output();
        }
    }
}
