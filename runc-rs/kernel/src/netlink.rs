//! Network devices by `rtnetlink(7)`: just enough to find one, take its addresses along, and move it to another namespace.
//!
//! A [`Routes`] belongs for good to the network namespace it was opened in.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// A route socket of one network namespace.
#[derive(Debug)]
pub struct Routes(OwnedFd);

/// An address of a device, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Length of the network's part.
    pub prefix: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_BROADCAST`, those that it has, in network byte order.
    pub parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Set by somebody for good, and valid everywhere (`IFA_F_PERMANENT`, `RT_SCOPE_UNIVERSE`).
    #[must_use]
    pub fn is_permanent_and_global(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0 && self.scope == libc::RT_SCOPE_UNIVERSE
    }
}

const ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
const CREATE: u16 = ACK | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// Lengths of `struct nlmsghdr`, `struct ifinfomsg` and `struct ifaddrmsg`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// The kernel never sends more at once to a buffer of this size.
const BUFFER: usize = 32 << 10;

impl Routes {
    /// Opens one in the caller's network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self(socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?))
    }

    /// The number of the device called `name`.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn index(&self, name: &str) -> io::Result<i32> {
        let mut body = link(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        let answers = self.ask(libc::RTM_GETLINK, libc::NLM_F_REQUEST as u16, &body)?;
        let index = answers.first().and_then(|answer| number(answer, 4));
        index.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sets device `index` up or down.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` in the namespace.
    pub fn set_up(&self, index: i32, up: bool) -> io::Result<()> {
        let flag = libc::IFF_UP as u32;
        let body = link(index, if up { flag } else { 0 }, flag);
        self.ask(libc::RTM_NEWLINK, ACK, &body).map(drop)
    }

    /// Moves device `index` to the network namespace `to` under the name `name`, in one step, so that no other takes that name
    /// in between. The kernel takes its addresses away.
    ///
    /// # Errors
    /// `EEXIST` if the namespace has a device of that name, `EINVAL` for one that cannot move.
    pub fn move_to(&self, index: i32, to: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut body = link(index, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &terminated(name));
        let fd = to.as_raw_fd().to_ne_bytes();
        attribute(&mut body, libc::IFLA_NET_NS_FD, &fd);
        self.ask(libc::RTM_NEWLINK, ACK, &body).map(drop)
    }

    /// The addresses of device `index`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&self, index: i32) -> io::Result<Vec<Address>> {
        let answers = self.ask(libc::RTM_GETADDR, DUMP, &[0; ADDRESS])?;
        Ok(answers
            .iter()
            .filter(|answer| number(answer, 4) == Some(index))
            .filter_map(|answer| parse_address(answer))
            .collect())
    }

    /// Gives device `index` an address.
    ///
    /// # Errors
    /// `EEXIST` if it has it already.
    pub fn add_address(&self, index: i32, address: &Address) -> io::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(index.to_ne_bytes());
        for (kind, bytes) in &address.parts {
            attribute(&mut body, *kind, bytes);
        }
        self.ask(libc::RTM_NEWADDR, CREATE, &body).map(drop)
    }

    /// Sends one request and collects the bodies of the answers.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let length = (HEADER + body.len()) as u32;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            if gather(&buffer[..len], &mut answers)? || (flags == libc::NLM_F_REQUEST as u16) {
                return Ok(answers);
            }
        }
    }
}

/// Collects the bodies of the messages in `bytes`; says whether the last one was among them.
fn gather(mut bytes: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = number(bytes, 0).and_then(|n| usize::try_from(n).ok());
        let Some(message) = length
            .and_then(|n| bytes.get(..n))
            .filter(|m| m.len() >= HEADER)
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let body = &message[HEADER..];
        match u16::from_ne_bytes([message[4], message[5]]) {
            DONE => return Ok(true),
            ERROR => {
                return match number(body, 0) {
                    Some(0) => Ok(true),
                    Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
                    None => Err(io::ErrorKind::InvalidData.into()),
                };
            }
            _ => answers.push(body.to_vec()),
        }
        bytes = bytes.get(aligned(message.len())..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct ifinfomsg`
fn link(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    debug_assert_eq!(body.len(), LINK);
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    let length = (bytes.len() + 4) as u16;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(bytes);
    body.resize(aligned(body.len()), 0);
}

fn parse_address(answer: &[u8]) -> Option<Address> {
    let (head, mut rest) = answer.split_at_checked(ADDRESS)?;
    let mut address = Address {
        family: head[0],
        prefix: head[1],
        flags: u32::from(head[2]),
        scope: head[3],
        parts: Vec::new(),
    };
    while let Some((head, _)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let bytes = rest.get(4..length)?;
        match kind {
            libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST => {
                address.parts.push((kind, bytes.to_vec()));
            }
            // The header has room for eight flags only.
            libc::IFA_FLAGS => address.flags = number(bytes, 0)?.cast_unsigned(),
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Some(address)
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_ne_bytes(bytes.try_into().ok()?))
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_its_address_and_there_is_no_other() {
        let routes = Routes::open().unwrap();
        let index = routes.index("lo").unwrap();
        let loopback = routes.addresses(index).unwrap();
        let local = (libc::IFA_LOCAL, vec![127, 0, 0, 1]);
        let found = loopback.iter().find(|a| a.parts.contains(&local)).unwrap();
        assert_eq!(found.prefix, 8);
        assert!(!found.is_permanent_and_global(), "of the host only");
        let error = routes.index("no such device").unwrap_err();
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::ENODEV | libc::ERANGE | libc::EINVAL)
        ));
    }

    #[test]
    fn no_answer_makes_it_panic() {
        let answers = [&[][..], &[1, 0, 0, 0], &[255; 40], &[0; 16], &[20; 21]];
        for bytes in answers {
            drop(gather(bytes, &mut Vec::new()));
            drop(parse_address(bytes));
        }
    }
}
