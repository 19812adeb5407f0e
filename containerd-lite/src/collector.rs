//! When garbage is collected: at once where a client asks to wait for it, else
//! shortly after something was removed.

use std::sync::Arc;
use std::time::Duration;

use lite_core::{Core, blocking, gc};
use tokio::sync::Notify;

/// Removals within this time share one collection.
const DELAY: Duration = Duration::from_millis(200);

/// Starts collections. Clones share the schedule.
#[derive(Clone)]
pub struct Collector {
    core: Core,
    wanted: Arc<Notify>,
}

impl Collector {
    /// Starts the background task with a first collection, of what an earlier
    /// process left; it ends when the last clone is dropped or
    /// the runtime ends.
    #[must_use]
    pub fn start(core: Core) -> Self {
        let wanted = Arc::new(Notify::new());
        let (weak, task_core) = (Arc::downgrade(&wanted), core.clone());
        tokio::spawn(async move {
            while let Some(wanted) = weak.upgrade() {
                if tokio::time::timeout(Duration::from_secs(60), wanted.notified())
                    .await
                    .is_err()
                {
                    continue;
                }
                tokio::time::sleep(DELAY).await;
                let core = task_core.clone();
                match blocking(move || gc::collect(&core)).await {
                    Ok(done) => {
                        tracing::debug!(
                            blobs = done.blobs,
                            snapshots = done.snapshots,
                            bytes = done.bytes,
                            "collected"
                        );
                    }
                    Err(err) => {
                        tracing::warn!(error = %lite_core::chain(&err), "garbage collection")
                    }
                }
            }
        });
        wanted.notify_one();
        Self { core, wanted }
    }

    /// Something was removed: collect soon.
    pub fn soon(&self) {
        self.wanted.notify_one();
    }

    /// Collects now and waits for it.
    ///
    /// # Errors
    /// Those of the collection.
    pub async fn now(&self) -> lite_core::Result<gc::Collected> {
        let core = self.core.clone();
        blocking(move || gc::collect(&core)).await
    }
}
