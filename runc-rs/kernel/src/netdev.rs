//! The loopback device of a fresh network namespace.

use std::io;
use std::os::fd::AsRawFd;

use crate::raw::{check, own_fd};

/// Sets the loopback device of the caller's network namespace up. See `netdevice(7)`, `SIOCSIFFLAGS`.
///
/// # Errors
/// What the kernel says.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    let socket = own_fd(libc::c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    /// `struct ifreq` with its flags: 16 bytes of name, then a union of 24.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request {
        name: [0; 16],
        flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the request has the size and layout of `struct ifreq`, and outlives the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
    }))?;
    Ok(())
}
