//! Hears of deleted firewall tables: `nft flush ruleset` by whoever else keeps
//! rules on this host takes ours along.
//!
//! The kernel tells of every change on a netlink socket (`NETLINK_NETFILTER`,
//! group `NFNLGRP_NFTABLES`); nothing is asked or polled.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`, as a bit.
const GROUP: u32 = 1 << (7 - 1);

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_DELTABLE`, as in a message's type.
const DELETED_TABLE: u16 = (10 << 8) | 2;

/// A message's header: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// What is told at a time.
const BUFFER: usize = 32 << 10;

/// Deletions of tables in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Deletions(AsyncFd<OwnedFd>);

impl Deletions {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that may close early; an OwnedFd stays open"
    )]
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        Ok(Self(AsyncFd::new(fd)?))
    }

    /// Waits until some table is deleted, ours or another.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub async fn next(&self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| {
                recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from)
            });
            match read {
                Ok(Ok(len)) if tells_of_one(&buffer[..len]) => return Ok(()),
                // So much was told at once that some of it was lost.
                Ok(Err(err)) if err.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(()),
                Ok(Err(err)) => return Err(err),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

/// Whether one of the messages is of a table that was deleted.
fn tells_of_one(mut messages: &[u8]) -> bool {
    while let Some(header) = messages.get(..HEADER) {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == DELETED_TABLE {
            return true;
        }
        let next = usize::try_from(len).unwrap_or(0).next_multiple_of(4);
        if next < HEADER {
            return false;
        }
        messages = messages.get(next..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: usize) -> Vec<u8> {
        let len = HEADER + body;
        let mut bytes = u32::try_from(len).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_deleted_table_is_found_among_other_messages() {
        let others = [message(10 << 8, 5), message((10 << 8) | 6, 9)].concat();
        assert!(!tells_of_one(&others));
        assert!(tells_of_one(&[others, message(DELETED_TABLE, 3)].concat()));
        // What is cut short ends the search.
        assert!(!tells_of_one(&[0; 40]));
        assert!(!tells_of_one(&[1, 2, 3]));
    }
}
