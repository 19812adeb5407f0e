//! Links, addresses and routes: bridges on the host, and the pairs of virtual
//! Ethernet devices that tie containers to them.
//!
//! A pair's far end is made inside the container's namespace right away:
//! making it outside and moving it takes twenty times as long.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::netlink::{CREATE, EXCL, Netlink, REPLACE, Request, attributes, push, push_text};
use crate::netns;
use crate::subnet::Subnet;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;

/// `IFLA_…`
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

/// `IFF_UP`
const UP: u32 = 1;

/// A hardware address.
pub type Mac = [u8; 6];

/// `struct ifinfomsg`
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut fixed = vec![0, 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(flags.to_ne_bytes());
    // Which of the flags to change.
    fixed.extend(flags.to_ne_bytes());
    fixed
}

fn index_of(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let request = Request::new(GETLINK, 0, &link_header(0, 0)).with_text(IFNAME, name);
    let answers = netlink.ask(&request)?;
    let index = answers
        .first()
        .and_then(|link| link.get(4..8)?.first_chunk().copied());
    index
        .map(u32::from_ne_bytes)
        .ok_or_else(|| io::Error::from_raw_os_error(nix::errno::Errno::ENODEV as i32))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `AF_INET` or `AF_INET6`
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn add_address(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    // An IPv6 address that is checked for duplicates cannot be used for
    // seconds; ours are given out once (IFA_F_NODAD).
    let flags = if address.is_ipv6() { 2 } else { 0 };
    let mut fixed = vec![family(address), prefix, flags, 0];
    fixed.extend(index.to_ne_bytes());
    let octets = octets(address);
    // IFA_ADDRESS and IFA_LOCAL
    let request = Request::new(NEWADDR, CREATE | REPLACE, &fixed)
        .with(1, &octets)
        .with(2, &octets);
    netlink.call(&request)
}

/// `struct rtmsg` of a default route by way of `gateway`.
fn default_route(kind: u16, flags: u16, gateway: IpAddr, index: u32) -> Request {
    // Table main, protocol static, scope universe, unicast.
    let fixed = [family(gateway), 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    // RTA_GATEWAY and RTA_OIF
    Request::new(kind, flags, &fixed)
        .with(5, &octets(gateway))
        .with(4, &index.to_ne_bytes())
}

/// A bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its own addresses, with the prefix of their subnets.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Largest packet; `None` means the kernel's.
    pub mtu: Option<u32>,
}

/// Makes the bridge and brings it up; one that is there is brought in line.
///
/// # Errors
/// What the kernel says.
pub fn make_bridge(bridge: &Bridge) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let mut info = Vec::new();
    push_text(&mut info, INFO_KIND, "bridge");
    let request = Request::new(NEWLINK, CREATE | EXCL, &link_header(0, 0))
        .with_text(IFNAME, &bridge.name)
        .with(LINKINFO, &info);
    match netlink.call(&request) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let index = index_of(&mut netlink, &bridge.name)?;
    for (address, prefix) in &bridge.addresses {
        add_address(&mut netlink, index, *address, *prefix)?;
    }
    let mut up = Request::new(NEWLINK, 0, &link_header(index, UP));
    if let Some(mtu) = bridge.mtu {
        up = up.with(MTU, &mtu.to_ne_bytes());
    }
    netlink.call(&up)
}

/// Removes a link; one that is not there is fine.
///
/// # Errors
/// What the kernel says.
pub fn remove(name: &str) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let request = Request::new(DELLINK, 0, &link_header(0, 0)).with_text(IFNAME, name);
    match netlink.call(&request) {
        Err(err) if err.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => Ok(()),
        removed => removed,
    }
}

/// One end on a bridge, the other in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Name of the host's end, at most 15 bytes.
    pub host: String,
    /// Name of the container's.
    pub container: String,
    /// The bridge.
    pub bridge: String,
    /// The container's hardware address.
    pub mac: Mac,
    /// The container's addresses, with the prefix of their subnets.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached; none means nowhere.
    pub gateways: Vec<IpAddr>,
    /// Largest packet; `None` means the kernel's.
    pub mtu: Option<u32>,
}

/// Ties the namespace to the bridge.
///
/// # Errors
/// What the kernel says; then nothing is left.
pub fn connect(pair: &Pair, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let bridge = index_of(&mut netlink, &pair.bridge)?;
    // Not up yet: the kernel would bring it up before its other end is there.
    let mut peer = link_header(0, 0);
    push_text(&mut peer, IFNAME, &pair.container);
    push(&mut peer, ADDRESS, &pair.mac);
    push(&mut peer, NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    if let Some(mtu) = pair.mtu {
        push(&mut peer, MTU, &mtu.to_ne_bytes());
    }
    let mut data = Vec::new();
    push(&mut data, VETH_PEER, &peer);
    let mut info = Vec::new();
    push_text(&mut info, INFO_KIND, "veth");
    push(&mut info, INFO_DATA, &data);
    let mut request = Request::new(NEWLINK, CREATE | EXCL, &link_header(0, UP))
        .with_text(IFNAME, &pair.host)
        .with(MASTER, &bridge.to_ne_bytes())
        .with(LINKINFO, &info);
    if let Some(mtu) = pair.mtu {
        request = request.with(MTU, &mtu.to_ne_bytes());
    }
    netlink.call(&request)?;
    let configured = netns::inside(namespace, || configure(pair));
    if configured.is_err() {
        // The first error is the one to tell.
        let _ = remove(&pair.host);
    }
    configured
}

/// Inside the container's namespace: addresses and routes.
fn configure(pair: &Pair) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let index = index_of(&mut netlink, &pair.container)?;
    for (address, prefix) in &pair.addresses {
        add_address(&mut netlink, index, *address, *prefix)?;
    }
    netlink.call(&Request::new(NEWLINK, 0, &link_header(index, UP)))?;
    for gateway in &pair.gateways {
        netlink.call(&default_route(NEWROUTE, CREATE | REPLACE, *gateway, index))?;
    }
    Ok(())
}

/// Makes `gateway` the way out of the namespace by the link `name`, or with
/// `on` false no longer.
///
/// # Errors
/// What the kernel says.
pub fn set_gateway(
    namespace: BorrowedFd<'_>,
    name: &str,
    gateway: IpAddr,
    on: bool,
) -> io::Result<()> {
    netns::inside(namespace, || {
        let mut netlink = Netlink::open()?;
        let index = index_of(&mut netlink, name)?;
        let (kind, flags) = if on {
            (NEWROUTE, CREATE | REPLACE)
        } else {
            (DELROUTE, 0)
        };
        netlink.call(&default_route(kind, flags, gateway, index))
    })
}

/// The subnets that the host reaches otherwise than by its default route, and
/// that a new network must keep clear of.
///
/// # Errors
/// What the kernel says.
pub fn routed() -> io::Result<Vec<Subnet>> {
    let mut netlink = Netlink::open()?;
    let mut found = Vec::new();
    for answer in netlink.dump(&Request::new(
        GETROUTE,
        0,
        &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ))? {
        let (Some(prefix), Some(rest)) = (answer.get(1).copied(), answer.get(12..)) else {
            continue;
        };
        // RTA_DST
        let destination = attributes(rest).into_iter().find(|(kind, _)| *kind == 1);
        let octets = destination.and_then(|(_, value)| value.first_chunk::<4>().copied());
        let subnet = octets.and_then(|octets| Subnet::new(IpAddr::from(octets), prefix));
        if let Some(subnet) = subnet.filter(|_| prefix > 0) {
            found.push(subnet);
        }
    }
    Ok(found)
}

/// Names of the links of the calling thread's namespace that begin with
/// `prefix`.
///
/// # Errors
/// What the kernel says.
pub fn named(prefix: &str) -> io::Result<Vec<String>> {
    let mut netlink = Netlink::open()?;
    let mut found = Vec::new();
    for answer in netlink.dump(&Request::new(GETLINK, 0, &link_header(0, 0)))? {
        let rest = answer.get(16..).unwrap_or_default();
        let name = attributes(rest)
            .into_iter()
            .find(|(kind, _)| *kind == IFNAME);
        let text = name.map(|(_, value)| {
            String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned()
        });
        found.extend(text.filter(|name| name.starts_with(prefix)));
    }
    Ok(found)
}

/// Sets the switch `path` below `/proc/sys/net`, where it is off.
///
/// # Errors
/// Those of reading and writing.
pub fn turn_on(path: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{path}");
    let value = std::fs::read_to_string(&path)?;
    if value.trim() == "0" {
        std::fs::write(&path, "1")?;
    }
    Ok(())
}
