//! An address with the length of its network's prefix, as in `10.1.2.3/24`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address and the network it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address, host bits included.
    pub address: IpAddr,
    /// How many leading bits name the network.
    pub prefix: u8,
}

/// Text that is not an address with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix, like 10.1.2.3/24")]
pub struct BadCidr(
    /// As it was given.
    pub String,
);

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= most).then_some(Self { address, prefix })
        };
        parsed().ok_or_else(|| BadCidr(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ok: bool) {
        let parsed = text.parse::<Cidr>();
        assert_eq!(parsed.is_ok(), ok, "{text:?}");
        if let Ok(cidr) = parsed {
            assert_eq!(cidr.to_string(), text);
        }
    }

    #[test]
    fn addresses_with_prefixes() {
        check("10.1.2.3/24", true);
        check("0.0.0.0/0", true);
        check("fd00::1/64", true);
        check("::/128", true);
        check("10.1.2.3", false);
        check("10.1.2.3/33", false);
        check("fd00::1/129", false);
        check("10.1.2/24", false);
        check("10.1.2.3/-1", false);
        check("", false);
    }
}
