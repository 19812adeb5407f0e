//! Removes a container.

use lite_core::Result;

use crate::engine::Engine;

/// Removes the container with everything it has; with `force` it is killed
/// first if it runs, and with `volumes` its anonymous volumes go too.
///
/// # Errors
/// NotFound; FailedPrecondition while it runs, without `force`; what storage
/// says, and then the container is dead.
pub async fn remove(engine: &Engine, container: &str, force: bool, volumes: bool) -> Result<()> {
    engine.find(container)?.remove(force, volumes).await
}
