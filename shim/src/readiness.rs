//! Waiting for a descriptor on the event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers `fd`, which must not block.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors that may close early; an OwnedFd stays open"
)]
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
