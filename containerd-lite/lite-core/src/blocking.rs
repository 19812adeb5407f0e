//! From async callers into the synchronous stores.

use crate::error::{Kind, Result};

/// Runs `work` on a thread that may block and waits for it.
///
/// # Errors
/// What `work` returns; Internal if it panicked; Cancelled when the runtime is
/// shutting down.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) if join.is_cancelled() => {
            Err(Kind::Cancelled.error("storage work").because(join))
        }
        Err(join) => Err(Kind::Internal.error("storage work").because(join)),
    }
}
