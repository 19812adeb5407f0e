//! Ports of the host that are published belong to nobody else: a socket that
//! is bound and never used keeps them, as the kernel takes the packets before
//! any socket sees them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
    bind, getsockname, setsockopt, socket, sockopt,
};

/// A port that is kept until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    /// Which it is.
    pub port: u16,
    _socket: OwnedFd,
}

/// Keeps the port `port` of `ip`, or any that is free where it is zero.
///
/// # Errors
/// `AddrInUse`; `AddrNotAvailable` for an address that is not the host's.
pub fn reserve(protocol: &str, ip: IpAddr, port: u16) -> io::Result<Reserved> {
    let (kind, number) = match protocol {
        "udp" => (SockType::Datagram, None),
        "sctp" => (SockType::Stream, Some(SockProtocol::Sctp)),
        _ => (SockType::Stream, None),
    };
    let family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    match SocketAddr::new(ip, port) {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
            bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?;
        }
    }
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = match (bound.as_sockaddr_in(), bound.as_sockaddr_in6()) {
        (Some(v4), _) => v4.port(),
        (None, Some(v6)) => v6.port(),
        (None, None) => port,
    };
    Ok(Reserved {
        port,
        _socket: socket,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_dropped() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let first = reserve("tcp", ip, 0).unwrap();
        assert_ne!(first.port, 0);
        let again = reserve("tcp", ip, first.port).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        reserve("udp", ip, first.port).unwrap();
        let port = first.port;
        drop(first);
        // Whoever forks in another test has a copy of the socket for a moment.
        let patience = Instant::now() + Duration::from_secs(30);
        while let Err(err) = reserve("tcp", ip, port) {
            assert!(Instant::now() < patience, "{err}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
