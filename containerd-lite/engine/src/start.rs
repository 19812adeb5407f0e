//! Starts a container without attaching to it.

use lite_core::Result;

use crate::engine::Engine;

/// Starts the main process; a container that runs already is fine.
///
/// # Errors
/// NotFound; ExecutableNotFound and ExecutableNotRunnable for the program's
/// faults; FailedPrecondition while it is being removed.
pub async fn start(engine: &Engine, container: &str) -> Result<()> {
    engine.find(container)?.start(false, None).await.map(drop)
}
