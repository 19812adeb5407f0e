//! Learning that the kernel killed a process of a group for want of memory.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::group::Cgroup;
use crate::{Error, Layout, Result};

/// Becomes readable when an out-of-memory kill may have happened: wait for [`OomWatch::as_fd`] with poll, then ask
/// [`OomWatch::kills`]. Non-blocking throughout.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    counter: PathBuf,
    seen: u64,
}

#[derive(Debug)]
enum Source {
    /// v1: the kernel counts up this eventfd, registered in `cgroup.event_control`. The second file keeps the registration.
    V1(
        EventFd,
        #[expect(dead_code, reason = "open for as long as the registration is to last")] File,
    ),
    /// v2: `memory.events` was modified.
    V2(Inotify),
}

impl OomWatch {
    /// Starts to watch `cgroup`.
    ///
    /// # Errors
    /// If it has no memory controller.
    pub fn new(cgroup: &Cgroup) -> Result<Self> {
        let os = |op: &str, e: nix::errno::Errno| Error::new(op, e.into());
        let missing = || Error::refused("watch memory: no memory controller");
        let (source, counter) = match cgroup.layout() {
            Layout::V2 => {
                let file = cgroup
                    .unified_dir()
                    .ok_or_else(missing)?
                    .join("memory.events");
                let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
                let inotify = Inotify::init(flags).map_err(|e| os("watch memory.events", e))?;
                inotify
                    .add_watch(&file, AddWatchFlags::IN_MODIFY)
                    .map_err(|e| os("watch memory.events", e))?;
                (Source::V2(inotify), file)
            }
            Layout::V1 { .. } => {
                let dir = cgroup.dir("memory").ok_or_else(missing)?;
                let file = dir.join("memory.oom_control");
                let control = File::open(&file)
                    .map_err(|e| Error::new(format!("open {}", file.display()), e))?;
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let event = EventFd::from_flags(flags).map_err(|e| os("make eventfd", e))?;
                let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                crate::group::write(&dir.join("cgroup.event_control"), &line)?;
                (Source::V1(event, control), file)
            }
        };
        let mut watch = Self {
            source,
            counter,
            seen: 0,
        };
        watch.seen = watch.count();
        Ok(watch)
    }

    /// How many processes were killed since the last call. Removing a v1 group also wakes the watcher; that counts none.
    pub fn kills(&mut self) -> u64 {
        match &self.source {
            // Nothing to read is an answer as well: the counter is what counts.
            Source::V1(event, _) => drop(event.read()),
            Source::V2(inotify) => drop(inotify.read_events()),
        }
        let now = self.count();
        let new = now.saturating_sub(self.seen);
        self.seen = self.seen.max(now);
        new
    }

    fn count(&self) -> u64 {
        fs::read_to_string(&self.counter)
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event, _) => event.as_fd(),
            Source::V2(inotify) => inotify.as_fd(),
        }
    }
}
