//! A process's standard input: a pipe, or the terminal's master.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tokio::net::unix::pipe::Sender;

use super::console::Console;

/// Where input is written. Clones share it.
#[derive(Clone)]
pub(crate) struct Input {
    end: Rc<RefCell<End>>,
}

#[derive(Clone)]
enum End {
    Pipe(Rc<Sender>),
    Terminal(Option<Rc<Console>>),
    Closed,
}

impl Input {
    /// Input through a pipe.
    pub(crate) fn pipe(sender: Sender) -> Self {
        Self {
            end: Rc::new(RefCell::new(End::Pipe(Rc::new(sender)))),
        }
    }

    /// Input through a terminal that is still to come.
    pub(crate) fn terminal() -> Self {
        Self {
            end: Rc::new(RefCell::new(End::Terminal(None))),
        }
    }

    /// The terminal is there.
    pub(crate) fn connect(&self, console: &Rc<Console>) {
        let mut end = self.end.borrow_mut();
        if matches!(*end, End::Terminal(None)) {
            *end = End::Terminal(Some(Rc::clone(console)));
        }
    }

    /// Writes all of `bytes`; waits while the process does not read.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // Not held while waiting: it may be closed meanwhile, which takes
        // effect after this write.
        let end = self.end.borrow().clone();
        match end {
            End::Pipe(sender) => write_pipe(&sender, bytes).await,
            End::Terminal(Some(console)) => console.write(bytes).await,
            // Nobody to read it, as for a terminal that nobody opened yet.
            End::Terminal(None) => Ok(()),
            End::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the input. For a terminal nothing: it has no end.
    pub(crate) fn close(&self) {
        let mut end = self.end.borrow_mut();
        if matches!(*end, End::Pipe(_)) {
            *end = End::Closed;
        }
    }

    /// Lets go of whatever it is.
    pub(crate) fn release(&self) {
        *self.end.borrow_mut() = End::Closed;
    }
}

/// Writes all of `bytes` to a pipe or fifo.
pub(crate) async fn write_pipe(to: &Sender, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
