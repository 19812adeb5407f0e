//! The user's terminal: its size and its raw mode.

use std::io::{IsTerminal, Stdin, stderr, stdin, stdout};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use proto::engine::v1::WindowSize;
use terminal_size::{Height, Width, terminal_size_of};

/// Keys go to the container untouched for as long as this lives. Dropping it
/// gives the terminal its settings back, also when a panic unwinds.
#[derive(Debug)]
pub(super) struct Raw {
    terminal: Stdin,
    saved: Termios,
}

impl Raw {
    /// Sets stdin raw; `None` when it is no terminal.
    pub(super) fn set() -> nix::Result<Option<Self>> {
        let terminal = stdin();
        if !terminal.is_terminal() {
            return Ok(None);
        }
        let saved = tcgetattr(&terminal)?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { terminal, saved }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has hung up has no settings to give back.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved);
    }
}

/// What is typed does not show for as long as this lives.
#[derive(Debug)]
pub(crate) struct Silent(Termios);

impl Silent {
    /// Sets stdin silent; `None` when it is no terminal.
    pub(crate) fn set() -> Option<Self> {
        let saved = tcgetattr(stdin()).ok()?;
        let mut silent = saved.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(stdin(), SetArg::TCSANOW, &silent).ok()?;
        Some(Self(saved))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The window that output appears in, if there is one.
pub(crate) fn window() -> Option<WindowSize> {
    let (Width(columns), Height(rows)) =
        terminal_size_of(stdout()).or_else(|| terminal_size_of(stdin()))?;
    Some(WindowSize {
        columns: columns.into(),
        rows: rows.into(),
    })
}

/// Columns of the terminal behind stdout or stderr, `None` if it is none.
pub(crate) fn columns(on_stderr: bool) -> Option<usize> {
    let size = if on_stderr {
        terminal_size_of(stderr())
    } else {
        terminal_size_of(stdout())
    };
    size.map(|(Width(columns), _)| columns.into())
}
