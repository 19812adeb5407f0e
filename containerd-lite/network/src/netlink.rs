//! rtnetlink: requests to the kernel about links, addresses and routes, as
//! `rtnetlink(7)` and `netlink(7)` describe them.
//!
//! A socket speaks to the namespace in which it was made and is used for one
//! batch of requests, each waiting for its answer: no connection task, and no
//! state between batches.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Flags of a request.
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const REPLACE: u16 = 0x100;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request being written: a fixed part and attributes after it.
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// Attributes are padded to four bytes.
fn padded(length: usize) -> usize {
    length.div_ceil(4) * 4
}

impl Request {
    /// A request of this type (`RTM_…`) whose fixed part is `fixed`.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self {
            kind,
            flags,
            body: fixed.to_vec(),
        }
    }

    /// The same with one more attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        push(&mut self.body, kind, value);
        self
    }

    /// The same with an attribute that holds a text and its final zero.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }

    fn bytes(&self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags | REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// Appends an attribute to the contents of another.
pub(crate) fn push(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(padded(to.len()), 0);
}

/// Appends one that holds a text and its final zero.
pub(crate) fn push_text(to: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    push(to, kind, &value);
}

/// The attributes after the fixed part of an answer.
pub(crate) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & 0x3fff;
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        found.push((kind, value));
        bytes = bytes.get(padded(length)..).unwrap_or_default();
    }
    found
}

/// A socket of the namespace in which it was opened.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// Those of `socket(2)`.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and waits until the kernel has done it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn call(&mut self, request: &Request) -> io::Result<()> {
        self.exchange(request, ACK).map(drop)
    }

    /// Sends a request and returns the answers without their headers.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn ask(&mut self, request: &Request) -> io::Result<Vec<Vec<u8>>> {
        self.exchange(request, ACK)
    }

    /// The same for all there are.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn dump(&mut self, request: &Request) -> io::Result<Vec<Vec<u8>>> {
        self.exchange(request, DUMP)
    }

    fn exchange(&mut self, request: &Request, flags: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let fd = self.socket.as_raw_fd();
        send(fd, &request.bytes(self.sequence, flags), MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = recv(fd, &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((header, body, after)) = split(rest) {
                rest = after;
                if header.sequence != self.sequence {
                    continue;
                }
                match header.kind {
                    DONE => return Ok(answers),
                    ERROR => {
                        let code = body
                            .first_chunk()
                            .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return match code {
                            0 => Ok(answers),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    sequence: u32,
}

/// The first message of `bytes`: its header, its body, and what follows it.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = usize::try_from(word(0)?).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let header = Header {
        kind,
        sequence: word(8)?,
    };
    let body = bytes.get(HEADER..length)?;
    Some((
        header,
        body,
        bytes.get(padded(length)..).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let mut bytes = Vec::new();
        push_text(&mut bytes, 3, "lo");
        push(&mut bytes, 1, &[7; 6]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(attributes(&bytes), [(3, &b"lo\0"[..]), (1, &[7; 6][..])]);
        // What is cut off is not read.
        assert_eq!(attributes(&bytes[..9]).len(), 1);
        assert!(attributes(&[255, 255, 0, 0]).is_empty());
    }

    #[test]
    fn a_message_is_split_off() {
        let request = Request::new(16, 0, &[1, 2, 3, 4]);
        let bytes = request.bytes(9, ACK);
        let (header, body, rest) = split(&bytes).unwrap();
        assert_eq!(
            (header.kind, header.sequence, body, rest.len()),
            (16, 9, &[1, 2, 3, 4][..], 0)
        );
        assert!(split(&bytes[..10]).is_none());
    }
}
