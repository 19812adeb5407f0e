//! Takes possession of the daemon's directories and sockets.
//!
//! 1. [`lock`] keeps a second daemon out of a directory for as long as the
//!    returned guard lives; the kernel gives the lock up when we die, however
//!    we die.
//! 2. [`listen`] makes a listening unix socket, and removes what a dead daemon
//!    left there only after a connection attempt has shown that nobody answers.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Holds a directory against other daemons until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: Flock<File>,
}

/// Locks `dir` by `flock(2)` on its file `lock`, which is left behind on
/// purpose: removing it would let two daemons lock two different files.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if another process holds the lock, else what
/// opening the file says.
pub fn lock(dir: &Path) -> io::Result<DirLock> {
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(DirLock { _file: file }),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Listens on a unix socket at `path` with file mode `mode`.
///
/// The socket is made under a neighbouring name and renamed into place once its
/// mode is right, so that nobody connects before and a stale one is replaced in
/// the same step.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if something answers at `path`,
/// [`io::ErrorKind::AlreadyExists`] if what is there is no socket.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    prove_free(path)?;
    let fresh = fresh_name(path);
    // A leftover of our own from a crash between bind and rename; the caller
    // holds the directory's lock, so nobody else is at this point now.
    match fs::remove_file(&fresh) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    let placed = fs::set_permissions(&fresh, Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(err) = placed {
        // The first error is the one to report.
        let _ = fs::remove_file(&fresh);
        return Err(err);
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    PathBuf::from(name)
}

/// Succeeds if `path` does not exist or is a socket that refuses connections.
fn prove_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "file is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(err) if err.raw_os_error() == Some(Errno::ECONNREFUSED as i32) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_on_a_directory_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert_eq!(
            lock(dir.path()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let live = listen(&path, 0o660).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert_eq!(
            listen(&path, 0o660).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        UnixStream::connect(&path).unwrap();
        drop(live);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert_eq!(
            listen(&path, 0o660).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
