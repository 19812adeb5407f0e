//! Reaps every child, and tells those who wait for one.
//!
//! The shim is a subreaper: processes that the runtime leaves behind become
//! its children. A process that was started by the runtime is known only once
//! the runtime has ended and its pid file was read, and may be dead by then.
//! So whoever starts one opens a [`Window`] first: exits of pids nobody waits
//! for are kept while a window is open, and can be claimed by it.
//!
//! Everything runs on one thread, and children are only reaped in [`Reaper::reap`],
//! so nothing is lost between a fork and the call of [`Reaper::watch`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::SystemTime;

use rustix::process::{WaitOptions, wait};
use tokio::sync::oneshot;

use crate::bundle::Exit;

/// Who waits for which child.
#[derive(Default)]
pub(crate) struct Reaper {
    children: RefCell<Children>,
}

#[derive(Default)]
struct Children {
    waiting: HashMap<u32, oneshot::Sender<Exit>>,
    /// When each open window was opened.
    windows: Vec<u64>,
    /// Counts reaped children, so that a window knows which came before it.
    reaped: u64,
    unclaimed: HashMap<u32, (u64, Exit)>,
}

/// The time in which a process is being started, see the module.
pub(crate) struct Window {
    reaper: Rc<Reaper>,
    since: u64,
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut children = self.reaper.children.borrow_mut();
        let Children {
            windows, unclaimed, ..
        } = &mut *children;
        if let Some(own) = windows.iter().position(|&since| since == self.since) {
            windows.swap_remove(own);
        }
        // What came before every other window can be claimed by none.
        match windows.iter().min() {
            Some(&oldest) => unclaimed.retain(|_, (at, _)| *at > oldest),
            None => *unclaimed = HashMap::new(),
        }
    }
}

impl Window {
    /// The exit of `pid`, whether it is still to come or came while the
    /// window was open.
    pub(crate) fn watch(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let claimed = {
            let mut children = self.reaper.children.borrow_mut();
            match children.unclaimed.get(&pid) {
                Some(&(at, exit)) if at > self.since => {
                    children.unclaimed.remove(&pid);
                    Some(exit)
                }
                _ => None,
            }
        };
        match claimed {
            Some(exit) => {
                let (tell, told) = oneshot::channel();
                // The receiver is right here.
                let _ = tell.send(exit);
                told
            }
            None => self.reaper.watch(pid),
        }
    }
}

impl Reaper {
    /// Opens a window for a start.
    pub(crate) fn open_window(self: &Rc<Self>) -> Window {
        let mut children = self.children.borrow_mut();
        let since = children.reaped;
        children.windows.push(since);
        Window {
            reaper: Rc::clone(self),
            since,
        }
    }

    /// The exit of a child that was forked since control last left this task.
    pub(crate) fn watch(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let (tell, told) = oneshot::channel();
        self.children.borrow_mut().waiting.insert(pid, tell);
        told
    }

    /// Reaps every child that has ended; for each SIGCHLD, as one of them may
    /// stand for many children.
    pub(crate) fn reap(&self) {
        // Not nix: it cannot name real-time signals and would lose the child.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            let (Ok(pid), Some(Ok(status))) = (
                u32::try_from(pid.as_raw_nonzero().get()),
                code.map(u32::try_from),
            ) else {
                continue;
            };
            let exit = Exit {
                pid,
                status,
                at: SystemTime::now(),
            };
            let mut children = self.children.borrow_mut();
            children.reaped += 1;
            if let Some(tell) = children.waiting.remove(&pid) {
                // Nobody listens when the wait was given up.
                let _ = tell.send(exit);
            } else if !children.windows.is_empty() {
                let at = children.reaped;
                children.unclaimed.insert(pid, (at, exit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_that_no_open_window_can_claim_is_forgotten() {
        let reaper = Rc::new(Reaper::default());
        let exit = Exit {
            pid: 7,
            status: 0,
            at: SystemTime::now(),
        };
        let end = |pid| {
            let mut children = reaper.children.borrow_mut();
            children.reaped += 1;
            let at = children.reaped;
            children.unclaimed.insert(pid, (at, exit));
        };
        let kept = || reaper.children.borrow().unclaimed.len();
        let first = reaper.open_window();
        end(7);
        // There is always one open: what is kept must not grow.
        let second = reaper.open_window();
        end(8);
        drop(first);
        assert_eq!(kept(), 1);
        assert!(second.watch(8).try_recv().is_ok());
        drop(second);
        assert_eq!(kept(), 0);
    }
}
