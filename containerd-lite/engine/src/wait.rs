//! Waits for the end of a container.

use lite_core::Result;

use crate::engine::Engine;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// Docker's exit code.
    pub exit_code: i32,
    /// Why it could not run, when that is so.
    pub error: String,
}

/// Waits until the container does not run; one that does not is answered at
/// once with its last exit code.
///
/// # Errors
/// NotFound.
pub async fn wait(engine: &Engine, container: &str) -> Result<Waited> {
    let record = engine.find(container)?.not_running().await;
    Ok(Waited {
        exit_code: record.run.exit_code,
        error: record.run.error.clone(),
    })
}
