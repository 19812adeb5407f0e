//! What the shim does when there is nothing to do: it gives memory back.
//!
//! Containers run for weeks and their shims wait. Two seconds after the last
//! request or exit, the shim drops the pages of its program, its free heap
//! and its stack; the next request brings back what it needs in some tens of
//! microseconds. While requests keep coming nothing is done.
//!
//! [`Rest::run`] says when; the event loop calls [`Due::before_sleep`] as the last
//! thing before it sleeps, so that nothing but the sleep itself is in
//! memory afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long nothing has happened when it is time to rest.
const QUIET: Duration = Duration::from_secs(2);

/// Whether memory is to be given back before the next sleep.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due(Arc<AtomicBool>);

impl Due {
    /// Gives memory back if that is due.
    pub(crate) fn before_sleep(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            // Without it the shim is larger, and works as well.
            let _ = kernel::memory::release_unused();
        }
    }
}

/// Notices work.
pub(crate) struct Rest {
    worked: Notify,
    due: Due,
}

impl Rest {
    /// Sets `due` when there is nothing to do.
    pub(crate) fn new(due: Due) -> Self {
        Self {
            worked: Notify::new(),
            due,
        }
    }

    /// Something was done.
    pub(crate) fn put_off(&self) {
        self.worked.notify_one();
    }

    /// Rests whenever there was work and is none any more.
    pub(crate) async fn run(&self) {
        loop {
            let worked = self.worked.notified();
            if tokio::time::timeout(QUIET, worked).await.is_ok() {
                continue;
            }
            self.due.0.store(true, Ordering::Relaxed);
            self.worked.notified().await;
        }
    }
}
