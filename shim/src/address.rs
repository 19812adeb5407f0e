//! Where a shim listens.
//!
//! containerd's shims listen on `/run/containerd/s/<hash>`; ours sit beside
//! the daemon they belong to, in `<directory of its socket>/s`, so that a
//! daemon with a state directory of its own leaves nothing elsewhere. The hash
//! is of what names the shim, so containers of one pod find the same one.

use std::fmt::Write as _;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};

/// A socket's address may have 107 bytes; leave room for a console's.
const MAX_PATH_BYTES: usize = 104;

const DEFAULT_DIR: &str = "/run/containerd/s";

/// The socket of the shim that `daemon` (its socket) has for `group` in
/// `namespace`, in the directory `asked` if there is one.
pub(crate) fn socket_path(
    asked: Option<&Path>,
    daemon: &str,
    namespace: &str,
    group: &str,
) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [daemon, namespace, group] {
        hash.update(part);
        hash.update([0]);
    }
    let mut name = String::new();
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    let beside = Path::new(daemon).parent().map(|dir| dir.join("s"));
    [asked.map(Path::to_owned), beside]
        .into_iter()
        .flatten()
        .filter(|dir| dir.is_absolute())
        .find(|dir| dir.as_os_str().len() + 1 + name.len() <= MAX_PATH_BYTES)
        .unwrap_or_else(|| DEFAULT_DIR.into())
        .join(name)
}

/// What [`listen`] found at a path.
pub(crate) enum Listening {
    /// A new socket, owned by the caller.
    New(UnixListener),
    /// A shim that answers.
    Taken,
}

/// Listens at `path` with mode 0600; a dead shim's socket is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<Listening> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    match bind(path) {
        Ok(listener) => return Ok(Listening::New(listener)),
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => {}
        Err(err) => return Err(err),
    }
    if UnixStream::connect(path).is_ok() {
        return Ok(Listening::Taken);
    }
    remove(path)?;
    bind(path).map(Listening::New)
}

/// Binds a socket that nobody else could have connected to meanwhile.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes a socket; that it is gone already is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// The path in an address as written to the bundle, `unix:///path`.
pub(crate) fn path_of(address: &str) -> Option<PathBuf> {
    address.trim().strip_prefix("unix://").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_lies_beside_the_daemons() {
        let path = socket_path(None, "/run/containerd/containerd.sock", "default", "web");
        assert_eq!(path.parent().unwrap(), Path::new("/run/containerd/s"));
        assert_eq!(path.file_name().unwrap().len(), 64);
        let own = socket_path(
            None,
            "/run/containerd-lite/containerd-lite.sock",
            "default",
            "web",
        );
        assert_eq!(own.parent().unwrap(), Path::new("/run/containerd-lite/s"));
    }

    #[test]
    fn too_long_or_relative_a_directory_falls_back() {
        let long = format!("/{}/c.sock", "d".repeat(60));
        assert_eq!(
            socket_path(None, &long, "n", "i").parent().unwrap(),
            Path::new(DEFAULT_DIR)
        );
        assert_eq!(
            socket_path(None, "", "n", "i").parent().unwrap(),
            Path::new(DEFAULT_DIR)
        );
    }

    #[test]
    fn a_daemon_may_name_the_directory() {
        let asked = |dir: &str| socket_path(Some(Path::new(dir)), "/d/c.sock", "n", "i");
        assert_eq!(
            asked("/run/sockets").parent().unwrap(),
            Path::new("/run/sockets")
        );
        let long = format!("/{}", "d".repeat(60));
        assert_eq!(asked(&long).parent().unwrap(), Path::new("/d/s"));
    }

    #[test]
    fn no_two_names_share_a_socket() {
        assert_ne!(
            socket_path(None, "/d/s", "a", "bc"),
            socket_path(None, "/d/s", "ab", "c")
        );
    }
}
