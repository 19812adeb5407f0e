//! Holds all processes of a container where they are, and lets them go on.

use lite_core::Result;

use crate::engine::Engine;

/// Freezes the container, or with `on` false thaws it.
///
/// # Errors
/// NotFound; FailedPrecondition when it does not run or is so already.
pub async fn pause(engine: &Engine, container: &str, on: bool) -> Result<()> {
    engine.find(container)?.pause(on).await
}
