//! File descriptors over unix sockets (`SCM_RIGHTS`, `unix(7)`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr};

/// At most this many descriptors are taken from one message; the kernel's own limit.
pub const MAX_FDS: usize = 253;

/// Sends `bytes`, and `fds` with them, in one message. Returns how many bytes were taken.
///
/// # Errors
/// `EPIPE` if the peer is gone (no signal is raised).
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    Ok(socket::sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?)
}

/// Receives one message into `buffer`, with up to `max_fds` descriptors (close-on-exec). No bytes and no descriptors: the peer
/// has closed.
///
/// # Errors
/// What the kernel says. `EMSGSIZE` if descriptors had to be dropped.
pub fn recv(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_fds: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space =
        vec![0_u8; nix::sys::socket::cmsg_space::<[RawFd; 1]>() + 4 * max_fds.min(MAX_FDS)];
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match socket::recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor for us, so nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send(a.as_fd(), b"name", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (len, mut fds) = recv(b.as_fd(), &mut buffer, 1).unwrap();
        assert_eq!(&buffer[..len], b"name");
        let mut writer = std::fs::File::from(fds.pop().unwrap());
        std::io::Write::write_all(&mut writer, b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        { reader }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(a);
        assert_eq!(recv(b.as_fd(), &mut buffer, 1).unwrap().0, 0);
    }
}
