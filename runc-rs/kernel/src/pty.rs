//! Pseudo terminals: a pair by descriptors only, window sizes, raw mode, controlling terminals.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::pty::OpenptFlags;
use rustix::termios::{self, OptionalActions, OutputModes};

use crate::path::{self, Within};
use crate::raw::check;

/// Both ends of a pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that a terminal emulator holds.
    pub master: OwnedFd,
    /// The end that programs hold.
    pub slave: OwnedFd,
}

/// Opens a new pseudo terminal out of the devpts at `dev/pts` below `root`. The multiplexer is checked to be one (character
/// device 5:2 on a devpts), and the slave comes from the master, not from a name. Newlines are not translated on output, as
/// Docker's and runc's clients expect.
///
/// # Errors
/// `ENODEV` if what stands there is something else.
pub fn open_in(root: BorrowedFd<'_>) -> io::Result<Pty> {
    let pts = path::open_in(
        root,
        Path::new("dev/pts"),
        libc::O_PATH | libc::O_DIRECTORY,
        0,
        Within::Root,
    )?;
    if path::filesystem_type(pts.as_fd())? != path::DEVPTS_MAGIC {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let master = path::open_in(
        pts.as_fd(),
        Path::new("ptmx"),
        libc::O_RDWR | libc::O_NOCTTY,
        0,
        Within::Beneath,
    )?;
    let slave = slave_of(master.as_fd())?;
    Ok(Pty { master, slave })
}

fn slave_of(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // Fails with ENOTTY for anything that is not a pseudo terminal's master.
    rustix::pty::unlockpt(master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(slave)
}

/// Stops the terminal behind `terminal` (either end) from turning a newline
/// into carriage return and newline on output: whoever copies to a terminal of
/// their own has it done there.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn keep_newlines(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = termios::tcgetattr(terminal)?;
    modes.output_modes.remove(OutputModes::ONLCR);
    Ok(termios::tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// Sets the size of the terminal's window.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(termios::tcsetwinsize(terminal, size)?)
}

/// Rows and columns of the terminal's window.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let size = termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Makes `slave` the controlling terminal of the calling process, which must lead a session without one.
///
/// # Errors
/// `EPERM` if it does not.
pub fn make_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes an integer and no pointer.
    check(libc::c_long::from(unsafe {
        libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0)
    }))?;
    Ok(())
}

/// A terminal in raw mode; dropping it brings back the mode from before.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: termios::Termios,
}

impl Raw {
    /// Sets raw mode.
    ///
    /// # Errors
    /// `ENOTTY` if it is no terminal.
    pub fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Output still goes through: what is copied has bare newlines.
        raw.output_modes.insert(OutputModes::OPOST);
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone with its window; then there is nothing to restore.
        let _gone = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pty_translates_newlines_until_told_not_to() {
        let root = path::open_dir(Path::new("/")).unwrap();
        let pty = open_in(root.as_fd()).unwrap();
        rustix::io::write(&pty.slave, b"a\n").unwrap();
        let mut buffer = [0; 8];
        let len = rustix::io::read(&pty.master, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"a\r\n");
        keep_newlines(pty.master.as_fd()).unwrap();
        set_size(pty.master.as_fd(), 25, 81).unwrap();
        assert_eq!(size(pty.slave.as_fd()).unwrap(), (25, 81));
        rustix::io::write(&pty.slave, b"a\n").unwrap();
        let mut buffer = [0; 8];
        let len = rustix::io::read(&pty.master, &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"a\n");
    }
}
