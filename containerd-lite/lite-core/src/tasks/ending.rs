//! How tasks end: deleted through their shim, or cleaned up after a dead one.
//! Run beside the supervisor, which must not wait.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::bundle::Bundle;
use super::slots::{Key, Shared};
use crate::blocking;
use crate::error::{Kind, Result};
use crate::shim::launch::Whose;
use crate::shim::{Deleted, Exit, Shim};

/// What a process gets whose shim died under it, and with it the knowledge of
/// its end: killed.
pub(super) const LOST: u32 = 137;

/// How long a shim may take to agree to end, and then to be gone.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Deletes a task in its shim, ends the shim and removes the bundle. The
/// second value says whether the task is gone.
pub(super) async fn delete(
    shim: &Shim,
    bundle: Bundle,
    shared_shim: bool,
) -> (Result<Deleted>, bool) {
    let result = shim.delete(None).await;
    match &result {
        Ok(_) => {}
        // A shim that does not know its container has nothing to keep.
        Err(err) if err.kind() == Kind::NotFound => {}
        Err(_) => return (result, false),
    }
    shut_down(shim, shared_shim).await;
    let path = bundle.path.clone();
    if let Err(err) = blocking(move || bundle.remove()).await {
        tracing::error!(bundle = %path.display(), error = crate::error::chain(&err), "remove bundle");
    }
    (result, true)
}

/// Asks a shim to end and waits until it has, unless other containers keep it.
pub(super) async fn shut_down(shim: &Shim, shared_shim: bool) {
    let ended = async {
        match shim.shutdown(SHUTDOWN_TIMEOUT).await {
            Err(err) if err.kind() != Kind::Unavailable => {
                tracing::warn!(error = crate::error::chain(&err), "shut down shim");
            }
            _ if shared_shim => {}
            _ => shim.closed().await,
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
        tracing::warn!(socket = %shim.socket().display(), "shim did not end");
    }
}

/// Runs the binary of a dead shim to clean up, and removes the bundle.
pub(super) async fn clean_up(
    shared: &Shared,
    key: &Key,
    binary: &Path,
    bundle: Bundle,
) -> Result<Deleted> {
    let whose = Whose {
        namespace: &key.namespace,
        id: &key.id,
        bundle: &bundle.path,
    };
    let result = shared.launcher.delete(binary, whose).await;
    blocking(move || bundle.remove()).await.and(result)
}

/// The exit of a container whose shim is gone, from what its binary found. It
/// killed what was left, so "0" only means that it does not know.
pub(super) fn lost_exit(reported: Option<Deleted>) -> Exit {
    let code = reported
        .map(|deleted| deleted.exit.code)
        .filter(|&code| code != 0)
        .unwrap_or(LOST);
    Exit {
        code,
        at: reported.map_or_else(SystemTime::now, |deleted| deleted.exit.at),
    }
}
