//! Ends a container: asks it first, then makes it.

use std::time::Duration;

use lite_core::{Kind, Result};

use crate::hub::{Cri, absent_is_fine};
use crate::record::ContainerState;

const SIGKILL: u32 = 9;

/// How long the kernel and the shim may take to end a process that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// Stops the container `id` after at most `timeout_secs`; one that does not
/// run, or is gone, is fine.
///
/// # Errors
/// DeadlineExceeded if it cannot be killed; what the shim says.
pub async fn stop(cri: &Cri, id: &str, timeout_secs: u64) -> Result<()> {
    let record = match cri.container(id) {
        Err(err) if err.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    // One that is just being started is first.
    drop(cri.turn(&record.id).await);
    if timeout_secs > 0 {
        if !is_running(cri, &record.id) {
            return Ok(());
        }
        signal(cri, &record.id, record.stop_signal).await?;
        if has_ended(cri, &record.id, Duration::from_secs(timeout_secs)).await {
            return Ok(());
        }
    }
    if !is_running(cri, &record.id) {
        return Ok(());
    }
    signal(cri, &record.id, SIGKILL).await?;
    if has_ended(cri, &record.id, KILL_PATIENCE).await {
        return Ok(());
    }
    Err(Kind::DeadlineExceeded.error(format!("container {} was killed and goes on", record.id)))
}

fn is_running(cri: &Cri, id: &str) -> bool {
    cri.container(id)
        .is_ok_and(|record| record.state == ContainerState::Running)
}

/// Sends a signal; a process that has ended needs none.
async fn signal(cri: &Cri, id: &str, signal: u32) -> Result<()> {
    let sent = cri.core().tasks.kill(cri.ns(), id, None, signal, false);
    absent_is_fine(sent.await)
}

/// Whether its end is recorded within `patience`.
async fn has_ended(cri: &Cri, id: &str, patience: Duration) -> bool {
    let ended = cri.until(|cri| (!is_running(cri, id)).then_some(()));
    tokio::time::timeout(patience, ended).await.is_ok()
}
