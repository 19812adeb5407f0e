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
    windows: usize,
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
        children.windows -= 1;
        if children.windows == 0 {
            children.unclaimed = HashMap::new();
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
        children.windows += 1;
        Window {
            reaper: Rc::clone(self),
            since: children.reaped,
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
            } else if children.windows > 0 {
                let at = children.reaped;
                children.unclaimed.insert(pid, (at, exit));
            }
        }
    }
}
