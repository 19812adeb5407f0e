//! Exit codes that tell why a container never ran, as `docker run` has them.

use lite_core::Kind;

/// The command was found but cannot be run.
pub const NOT_RUNNABLE: i32 = 126;
/// The command was not found.
pub const NOT_FOUND: i32 = 127;
/// What a container gets whose task vanished with the machine.
pub const LOST: i32 = 255;
/// Any other failure to start, in the container's state.
pub const START_FAILED: i32 = 128;

/// The exit code in the state of a container whose start failed like this.
#[must_use]
pub fn of_failed_start(kind: Kind) -> i32 {
    match kind {
        Kind::ExecutableNotFound => NOT_FOUND,
        Kind::ExecutableNotRunnable => NOT_RUNNABLE,
        _ => START_FAILED,
    }
}
