//! Reads a container's output, as far as it was logged, and follows it.
//!
//! Following waits for the kernel to say that something changed in the
//! container's directory (`inotify(7)`), or for the container to end. The
//! shim announces an end only after all output is in the log, so one more look
//! after the end finds the rest.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::time::SystemTime;

use lite_core::{Because, Kind, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::jsonlog::{Entry, Reader};
use crate::state::Phase;
use crate::supervisor::Handle;

/// Batches that wait for a client that does not read; then reading waits.
const BATCHES: usize = 4;

/// Entries in the order in which they were logged.
pub type Batches = mpsc::Receiver<Result<Vec<Entry>>>;

/// The time that is asked for; `None` is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Nothing from before.
    pub since: Option<SystemTime>,
    /// Nothing from after.
    pub until: Option<SystemTime>,
}

impl Span {
    fn has(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
    }

    /// Whether something this late ends the reading.
    fn is_over(&self, entry: &Entry) -> bool {
        self.until.is_some_and(|until| entry.time > until)
    }
}

/// Reads the log from its beginning, or its last `tail` lines. With `follow`
/// goes on until the container ends.
///
/// # Errors
/// NotFound; those of the files.
pub async fn logs(
    engine: &Engine,
    container: &str,
    follow: bool,
    tail: Option<u64>,
    span: Span,
) -> Result<Batches> {
    let handle = engine.find(container)?;
    let record = handle.record();
    let dir = engine.dir(&record.id);
    let follow = follow && record.phase == Phase::Running;
    // Watched before the first read, so that nothing falls in between.
    let changes = if follow {
        Some(Changes::watch(dir.path())?)
    } else {
        None
    };
    let reader = {
        let log = dir.log();
        lite_core::blocking(move || {
            Reader::open(&log, tail).op(|| format!("open {}", log.display()))
        })
        .await?
    };
    let (batches, receiver) = mpsc::channel(BATCHES);
    tokio::spawn(async move {
        let outcome = pump(reader, changes, &handle, span, &batches).await;
        if let Err(err) = outcome {
            // A receiver that is gone need not know.
            let _ = batches.send(Err(err)).await;
        }
    });
    Ok(receiver)
}

async fn pump(
    mut reader: Reader,
    mut changes: Option<Changes>,
    handle: &Handle,
    span: Span,
    batches: &mpsc::Sender<Result<Vec<Entry>>>,
) -> Result<()> {
    loop {
        let (returned, mut entries) = next_batch(reader).await?;
        reader = returned;
        if !entries.is_empty() {
            let is_over = entries.last().is_some_and(|entry| span.is_over(entry));
            entries.retain(|entry| span.has(entry));
            if is_over {
                // Nobody waits for a client that has gone.
                let _ = batches.send(Ok(entries)).await;
                return Ok(());
            }
            if batches.send(Ok(entries)).await.is_err() {
                return Ok(());
            }
            continue;
        }
        let Some(watched) = &mut changes else {
            return Ok(());
        };
        let ended = tokio::select! {
            changed = watched.next() => { changed?; false }
            _ = handle.not_running() => true,
            () = batches.closed() => return Ok(()),
        };
        if ended {
            changes = None;
        }
    }
}

async fn next_batch(mut reader: Reader) -> Result<(Reader, Vec<Entry>)> {
    lite_core::blocking(move || {
        let entries = reader.read().op(|| "read log".to_owned())?;
        Ok((reader, entries))
    })
    .await
}

/// Tells when something was written, made or renamed in a directory.
struct Changes(AsyncFd<Watched>);

/// The descriptor in the form that tokio asks for.
struct Watched(Inotify);

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that swap descriptors; this one keeps its own"
    )]
    fn watch(dir: &Path) -> Result<Self> {
        let what = || format!("watch {}", dir.display());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).op(what)?;
        let events =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(dir, events).op(what)?;
        AsyncFd::new(Watched(inotify)).map(Self).op(what)
    }

    /// Waits for a change and takes in all that have happened.
    async fn next(&mut self) -> Result<()> {
        let mut ready = self
            .0
            .readable_mut()
            .await
            .op(|| "wait for log".to_owned())?;
        let read = ready.get_inner().0.read_events();
        match read {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
            Err(errno) => return Err(Kind::Internal.error("read log changes").because(errno)),
        }
        Ok(())
    }
}
