//! Network namespaces: made ahead of time, pinned to a file, entered by a
//! thread of their own.
//!
//! Making one takes the kernel longer than anything else in a start, so a
//! [`Pool`] keeps some ready. They are held by descriptors alone: when the
//! daemon ends, those that nobody has used end too. One that a container uses
//! is pinned with [`pin`], and then outlives the daemon.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kernel::mount::{Tree, attach, cwd, open_tree};

/// `CLONE_NEWNET` of `unshare(2)`.
const NEWNET: u64 = 0x4000_0000;

/// A new namespace whose loopback interface is up.
///
/// # Errors
/// Those of `unshare(2)`.
pub fn create() -> io::Result<OwnedFd> {
    on_a_thread(|| {
        kernel::process::unshare(NEWNET)?;
        kernel::netdev::loopback_up()?;
        current()
    })
}

/// The calling thread's namespace.
///
/// # Errors
/// Those of `open(2)`.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Runs `work` inside the namespace, on a thread of its own. Sockets that it
/// makes stay there, wherever they are used.
///
/// # Errors
/// Those of `setns(2)` and of `work`.
pub fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    on_a_thread(|| {
        kernel::process::setns(namespace, NEWNET)?;
        work()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in a namespace panicked")))
    })
}

/// Binds the namespace to the file `path`, which is made, so that it lives on
/// without a process.
///
/// # Errors
/// Those of making the file and of mounting.
pub fn pin(namespace: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create(path)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let tree = open_tree(cwd(), Path::new(&source), Tree::Clone { recursive: false })?;
    let place = open_tree(cwd(), path, Tree::Place)?;
    attach(tree.as_fd(), place.as_fd())
}

/// Undoes [`pin`]; with its last process the namespace ends. What is not there
/// is fine.
///
/// # Errors
/// Those of removing the file.
pub fn unpin(path: &Path) -> io::Result<()> {
    // Nothing is mounted where a pin was cut short.
    let _ = kernel::mount::detach(path);
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Opens a pinned namespace.
///
/// # Errors
/// Those of `open(2)`.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    File::open(path).map(OwnedFd::from)
}

/// Namespaces that are ready for use. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<OwnedFd>>>);

/// So many are kept ready; a burst of starts makes the rest itself.
const READY: usize = 4;

impl Pool {
    /// A ready namespace, or a new one. What was taken is made again in the
    /// background.
    ///
    /// # Errors
    /// Those of [`create`].
    pub fn take(&self) -> io::Result<OwnedFd> {
        let ready = self.lock().pop();
        self.fill();
        ready.map_or_else(create, Ok)
    }

    /// Makes namespaces in the background until enough are ready.
    pub fn fill(&self) {
        let pool = self.clone();
        let filler = move || {
            while pool.lock().len() < READY {
                match create() {
                    Ok(namespace) => pool.lock().push(namespace),
                    Err(err) => {
                        tracing::warn!(error = %err, "make a network namespace ahead of time");
                        return;
                    }
                }
            }
        };
        // A thread that cannot be had makes starts slower and nothing else.
        if let Err(err) = thread::Builder::new()
            .name("netns-pool".to_owned())
            .spawn(filler)
        {
            tracing::warn!(error = %err, "start a thread");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
