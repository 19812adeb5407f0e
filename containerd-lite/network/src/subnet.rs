//! Subnets: parsing, containment, and which address is free.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range: `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    first: IpAddr,
    prefix: u8,
}

/// A text that is no subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSubnet(String);

impl fmt::Display for BadSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid CIDR address: {}", self.0)
    }
}

impl std::error::Error for BadSubnet {}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Self, BadSubnet> {
        let bad = || BadSubnet(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        Self::new(address, prefix).ok_or_else(bad)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl Subnet {
    /// The subnet of `prefix` bits that `address` is in; `None` for a prefix
    /// longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let mut subnet = Self {
            first: address,
            prefix,
        };
        if prefix > subnet.width() {
            return None;
        }
        subnet.first = subnet.address(bits(address) & !subnet.host_mask());
        Some(subnet)
    }

    fn width(&self) -> u8 {
        if self.first.is_ipv4() { 32 } else { 128 }
    }

    fn host_mask(&self) -> u128 {
        match self.width() - self.prefix {
            128 => u128::MAX,
            free => (1 << free) - 1,
        }
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.first.is_ipv4() {
            // An IPv4 subnet's bits are below 2^32.
            IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)))
        } else {
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }

    /// Bits of the network part.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4()
            && bits(address) & !self.host_mask() == bits(self.first)
    }

    /// Whether they have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The `n`th address; `None` outside of the subnet.
    #[must_use]
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        (n <= self.host_mask()).then(|| self.address(bits(self.first) + n))
    }

    /// The first address for a host that is not `taken`; the network's own and
    /// an IPv4 subnet's broadcast address are for nobody.
    #[must_use]
    pub fn free(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let last = self.host_mask() - u128::from(!self.is_ipv6() && self.prefix < 31);
        (1..=last)
            .map(|n| self.address(bits(self.first) + n))
            .find(|address| !taken(*address))
    }
}

/// The subnets that networks get who ask for none, in Docker's order: 172.17
/// to 172.31, then 192.168 in parts of 4096.
pub fn pool() -> impl Iterator<Item = Subnet> {
    let large = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .filter_map(|(address, prefix)| Subnet::new(IpAddr::V4(address), prefix))
}

/// A subnet of IPv6's unique local addresses, from eight random bytes.
#[must_use]
pub fn unique_local(random: [u8; 8]) -> Option<Subnet> {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random[..7]);
    Subnet::new(IpAddr::V6(Ipv6Addr::from(octets)), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_dropped_and_bad_ones_refused() {
        assert_eq!(subnet("10.1.2.3/24").to_string(), "10.1.2.0/24");
        assert_eq!(subnet("fd00::1/64").to_string(), "fd00::/64");
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", ""] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlaps_are_seen_from_both_sides() {
        let (large, small) = (subnet("172.16.0.0/12"), subnet("172.17.0.0/16"));
        assert!(large.overlaps(&small) && small.overlaps(&large));
        assert!(!small.overlaps(&subnet("172.18.0.0/16")));
        assert!(!subnet("0.0.0.0/0").overlaps(&subnet("::/0")));
        assert!(subnet("::/0").contains("fe80::1".parse().unwrap()));
    }

    #[test]
    fn the_first_free_address_is_given() {
        let network = subnet("10.0.0.0/30");
        let taken = |texts: &'static [&str]| {
            move |address: IpAddr| texts.contains(&address.to_string().as_str())
        };
        assert_eq!(
            network.free(taken(&["10.0.0.1"])).unwrap().to_string(),
            "10.0.0.2"
        );
        // The last one is for broadcasts.
        assert_eq!(network.free(taken(&["10.0.0.1", "10.0.0.2"])), None);
        assert_eq!(
            subnet("fd00::/64").free(|_| false).unwrap().to_string(),
            "fd00::1"
        );
        assert_eq!(network.nth(4), None);
    }

    #[test]
    fn the_pool_is_dockers() {
        let all: Vec<String> = pool().map(|subnet| subnet.to_string()).collect();
        assert_eq!(
            (all.len(), all[0].as_str(), all[15].as_str()),
            (31, "172.17.0.0/16", "192.168.0.0/20")
        );
    }
}
