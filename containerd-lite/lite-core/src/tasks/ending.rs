//! How tasks end: deleted through their shim, or cleaned up after a dead one.
//! Run beside the supervisor, which must not wait.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::bundle::Bundle;
use super::slots::{Key, Shared};
use crate::blocking;
use crate::error::{Because, Kind, Result};
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

/// Runs the binary of a dead shim to clean up, and removes the bundle and the
/// socket that the shim could no longer remove.
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
    let removed = blocking(move || {
        // A record that does not read costs the socket, not the clean-up.
        let endpoint = bundle
            .load()
            .ok()
            .flatten()
            .and_then(|record| record.endpoint);
        let endpoint = endpoint.or_else(|| bundle.address());
        bundle.remove()?;
        endpoint.map_or(Ok(()), |endpoint| remove_stale(&endpoint.socket))
    });
    removed.await.and(result)
}

/// Removes a socket that nobody answers. One that somebody does is left, as
/// its shim may live on for other containers.
fn remove_stale(socket: &Path) -> Result<()> {
    // connect(2) refuses a file that is no socket in the same way.
    let is_socket = fs::symlink_metadata(socket).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = match UnixStream::connect(socket) {
        Ok(_) => false,
        Err(err) => err.kind() == io::ErrorKind::ConnectionRefused,
    };
    if is_socket && refused {
        fs::remove_file(socket).op(|| format!("remove socket {}", socket.display()))?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_answers_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (stale, live, file) = (
            dir.path().join("stale"),
            dir.path().join("live"),
            dir.path().join("file"),
        );
        drop(UnixListener::bind(&stale).unwrap());
        let _listener = UnixListener::bind(&live).unwrap();
        for path in [&stale, &live, &dir.path().join("absent")] {
            remove_stale(path).unwrap();
        }
        assert!(!stale.exists());
        assert!(live.exists());
        fs::write(&file, "data").unwrap();
        remove_stale(&file).unwrap();
        assert!(file.exists());
    }
}
