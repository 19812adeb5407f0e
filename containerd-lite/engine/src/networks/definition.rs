//! A network as it is stored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use lite_core::{Kind, Result};
use network::Subnet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host_config::Attachment;
use crate::rfc3339;

/// Docker's options of a bridge.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

/// One range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// `172.17.0.0/16`
    pub subnet: String,
    /// The bridge's own address.
    pub gateway: String,
    /// Where addresses are given out; empty means all of the subnet.
    #[serde(default)]
    pub range: String,
    /// Addresses that are for nobody.
    #[serde(default)]
    pub reserved: BTreeMap<String, String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    #[serde(with = "rfc3339::optional")]
    pub created_at: Option<SystemTime>,
    /// Its addresses, IPv4 before IPv6.
    pub ranges: Vec<Range>,
    /// Nothing goes in or out.
    pub internal: bool,
    /// It was asked to have IPv6.
    pub ipv6: bool,
    /// Of the driver.
    pub options: BTreeMap<String, String>,
    /// The user's.
    pub labels: BTreeMap<String, String>,
    /// Docker's own, which cannot be removed.
    #[serde(default)]
    pub predefined: bool,
}

impl Definition {
    /// The default network, with this subnet.
    pub(crate) fn bridge(id: String, bridge: &str, subnet: Subnet) -> Self {
        Self {
            id,
            name: super::DEFAULT.to_owned(),
            driver: "bridge".to_owned(),
            created_at: Some(SystemTime::now()),
            ranges: vec![Range {
                gateway: subnet.nth(1).map_or_else(String::new, |ip| ip.to_string()),
                subnet: subnet.to_string(),
                range: String::new(),
                reserved: BTreeMap::new(),
            }],
            internal: false,
            ipv6: false,
            options: [(BRIDGE_NAME.to_owned(), bridge.to_owned())].into(),
            labels: BTreeMap::new(),
            predefined: true,
        }
    }

    /// `host` or `none`.
    pub(crate) fn without_addresses(id: String, name: &str, driver: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            driver: driver.to_owned(),
            created_at: Some(SystemTime::now()),
            ranges: Vec::new(),
            internal: false,
            ipv6: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            predefined: true,
        }
    }

    /// Whether it is the network of containers that name none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.predefined && self.driver == "bridge"
    }

    /// The name of its bridge.
    #[must_use]
    pub fn bridge_name(&self) -> String {
        self.options.get(BRIDGE_NAME).cloned().unwrap_or_else(|| {
            let id = self.id.get(..12).unwrap_or(&self.id);
            format!("br-{id}")
        })
    }

    /// Largest packet, where one was asked for.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.options.get(MTU).and_then(|text| text.parse().ok())
    }

    /// Whether what leaves the host gets the host's address.
    #[must_use]
    pub fn masquerades(&self) -> bool {
        self.options
            .get(MASQUERADE)
            .is_none_or(|value| value != "false")
    }

    /// Its subnets with the address of the bridge in each.
    #[must_use]
    pub fn subnets(&self) -> Vec<(Subnet, Option<IpAddr>)> {
        let read = |range: &Range| Some((range.subnet.parse().ok()?, range.gateway.parse().ok()));
        self.ranges.iter().filter_map(read).collect()
    }

    /// Checks the addresses that a container wants.
    ///
    /// # Errors
    /// InvalidArgument, in Docker's words.
    pub fn check(&self, attachment: &Attachment) -> Result<()> {
        for wanted in [&attachment.ip, &attachment.ip6] {
            if wanted.is_empty() {
                continue;
            }
            let address: IpAddr = wanted.parse().map_err(|_| {
                Kind::InvalidArgument.error(format!("invalid IP address: {wanted}"))
            })?;
            if !self
                .subnets()
                .iter()
                .any(|(subnet, _)| subnet.contains(address))
            {
                return Err(Kind::InvalidArgument.error(format!(
                    "invalid config for network {}: invalid endpoint settings: no configured subnet contains IP address {wanted}",
                    self.name
                )));
            }
        }
        if !attachment.mac.is_empty() && parse_mac(&attachment.mac).is_none() {
            return Err(
                Kind::InvalidArgument.error(format!("invalid MAC address: {}", attachment.mac))
            );
        }
        Ok(())
    }

    /// The object, as `docker network inspect` prints it, without containers.
    #[must_use]
    pub fn json(&self) -> Value {
        let ranges = self.ranges.iter().map(|range| {
            let mut object = json!({ "Subnet": range.subnet, "Gateway": range.gateway });
            if !range.range.is_empty() {
                object["IPRange"] = json!(range.range);
            }
            if !range.reserved.is_empty() {
                object["AuxiliaryAddresses"] = json!(range.reserved);
            }
            object
        });
        json!({
            "Name": self.name,
            "Id": self.id,
            "Created": self.created_at.map_or_else(|| rfc3339::NEVER.to_owned(), rfc3339::format),
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv4": true,
            "EnableIPv6": self.ipv6,
            "IPAM": {
                "Driver": "default",
                "Options": if self.predefined { Value::Null } else { json!({}) },
                "Config": if self.ranges.is_empty() { Value::Null } else { ranges.collect() },
            },
            "Internal": self.internal,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": {},
            "Options": self.options,
            "Labels": self.labels,
        })
    }
}

/// `02:42:ac:11:00:02`
pub(crate) fn parse_mac(text: &str) -> Option<network::link::Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    // A group address is nobody's own.
    (parts.next().is_none() && mac[0] & 1 == 0).then_some(mac)
}

/// The other way round.
pub(crate) fn mac_text(mac: network::link::Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        let mac = parse_mac("02:42:ac:11:00:02").unwrap();
        assert_eq!(mac_text(mac), "02:42:ac:11:00:02");
        for bad in [
            "",
            "02:42",
            "01:00:00:00:00:00",
            "02:42:ac:11:00:02:03",
            "xx:42:ac:11:00:02",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_must_be_of_the_network() {
        let network = Definition::bridge("a".repeat(64), "ctl0", "10.0.0.0/24".parse().unwrap());
        let wants = |ip: &str| {
            network.check(&Attachment {
                ip: ip.to_owned(),
                ..Attachment::default()
            })
        };
        assert!(wants("10.0.0.9").is_ok());
        assert!(
            wants("10.0.1.9")
                .unwrap_err()
                .to_string()
                .contains("no configured subnet contains")
        );
        assert!(wants("x").is_err());
        assert_eq!(network.bridge_name(), "ctl0");
    }
}
