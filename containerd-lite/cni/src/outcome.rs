//! What ADD comes to: interfaces, addresses, routes, name servers. One type,
//! read from and written in the form of every version of the specification.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cidr::Cidr;
use crate::version::{UnknownVersion, Version};

/// What a namespace has of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Interfaces that were made, in the namespace and outside.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes inside the namespace.
    pub routes: Vec<Route>,
    /// Name servers of the network.
    pub dns: Dns,
}

/// An interface that a plugin made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace it is in; none for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// A socket that leads to it, for user space networks. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The PCI device it is on. Since 1.1.0.
    #[serde(rename = "pciID", default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The address in its network.
    pub address: Cidr,
    /// The way out of it.
    pub gateway: Option<IpAddr>,
    /// The interface that has it, by its place in the list.
    pub interface: Option<usize>,
}

/// A route inside the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: Cidr,
    /// By way of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Since 1.1.0, as is all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size to announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Smaller ones are taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The table it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its scope, as in `ip-route(8)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

/// Name servers of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses, best first.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options of resolv.conf.
    pub options: Vec<String>,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadOutcome {
    /// Not what the specification has plugins write.
    #[error("result is not a CNI result")]
    Json(#[source] serde_json::Error),
    /// In a version that is not known.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
}

/// Every version's form at once. Go programs write `null` for empty lists.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    cni_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interfaces: Option<Vec<Interface>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ips: Option<Vec<WireIp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<Route>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<WireDns>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireIp {
    /// `4` or `6`, before 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    address: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// 0.1.0 and 0.2.0.
#[derive(Debug, Serialize, Deserialize)]
struct OldIp {
    ip: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<Route>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct WireDns {
    #[serde(skip_serializing_if = "Option::is_none")]
    nameservers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Vec<String>>,
}

impl Outcome {
    /// Reads a plugin's answer. One that names no version is in the form that
    /// it uses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, BadOutcome> {
        let wire: Wire = serde_json::from_slice(text).map_err(BadOutcome::Json)?;
        if let Some(version) = wire.cni_version.as_deref().filter(|text| !text.is_empty()) {
            version.parse::<Version>()?;
        }
        let dns = wire.dns.unwrap_or_default();
        let mut outcome = Self {
            interfaces: wire.interfaces.unwrap_or_default(),
            ips: Vec::new(),
            routes: wire.routes.unwrap_or_default(),
            dns: Dns {
                nameservers: dns.nameservers.unwrap_or_default(),
                domain: dns.domain,
                search: dns.search.unwrap_or_default(),
                options: dns.options.unwrap_or_default(),
            },
        };
        for ip in wire.ips.unwrap_or_default() {
            outcome.ips.push(Ip {
                address: ip.address,
                gateway: ip.gateway,
                interface: ip.interface.and_then(|at| usize::try_from(at).ok()),
            });
        }
        for ip in [wire.ip4, wire.ip6].into_iter().flatten() {
            outcome.ips.push(Ip {
                address: ip.ip,
                gateway: ip.gateway,
                interface: None,
            });
            outcome.routes.extend(ip.routes.unwrap_or_default());
        }
        Ok(outcome)
    }

    /// The addresses that the interface called `name` has inside a namespace,
    /// in the order of the answer. Where plugins name no interfaces, as the
    /// oldest ones do, all addresses are its own.
    pub fn addresses_of(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        self.ips
            .iter()
            .filter(move |ip| {
                let Some(interface) = ip.interface.and_then(|at| self.interfaces.get(at)) else {
                    return true;
                };
                let inside = interface.sandbox.as_deref().is_some_and(|s| !s.is_empty());
                inside && interface.name == name
            })
            .map(|ip| ip.address.address)
    }

    /// The answer in the form of `version`. What that version has no place for
    /// is left out.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        let wire = if version < Version::V0_3_0 {
            self.old_form()
        } else {
            self.list_form(version)
        };
        let wire = Wire {
            cni_version: Some(version.as_str().to_owned()),
            dns: Some(WireDns {
                nameservers: some(&self.dns.nameservers),
                domain: self.dns.domain.clone(),
                search: some(&self.dns.search),
                options: some(&self.dns.options),
            }),
            ..wire
        };
        // Strings, numbers and lists: there is nothing that JSON cannot hold.
        serde_json::to_value(wire).unwrap_or_else(|_| Value::Object(Map::new()))
    }

    fn list_form(&self, version: Version) -> Wire {
        let newest = version >= Version::V1_1_0;
        let interfaces = self.interfaces.iter().map(|interface| Interface {
            mtu: interface.mtu.filter(|_| newest),
            socket_path: interface.socket_path.clone().filter(|_| newest),
            pci_id: interface.pci_id.clone().filter(|_| newest),
            ..interface.clone()
        });
        let ips = self.ips.iter().map(|ip| WireIp {
            version: (version < Version::V1_0_0).then(|| family(ip.address).to_owned()),
            interface: ip.interface.and_then(|at| i64::try_from(at).ok()),
            address: ip.address,
            gateway: ip.gateway,
        });
        let routes = self
            .routes
            .iter()
            .map(|route| if newest { route.clone() } else { plain(route) });
        Wire {
            interfaces: some(&interfaces.collect::<Vec<_>>()),
            ips: Some(ips.collect()),
            routes: some(&routes.collect::<Vec<_>>()),
            ..Wire::default()
        }
    }

    /// One address of each family, with the routes of that family.
    fn old_form(&self) -> Wire {
        let first = |wanted: &str| {
            let ip = self.ips.iter().find(|ip| family(ip.address) == wanted)?;
            let routes = self.routes.iter().filter(|r| family(r.dst) == wanted);
            Some(OldIp {
                ip: ip.address,
                gateway: ip.gateway,
                routes: some(&routes.map(plain).collect::<Vec<_>>()),
            })
        };
        Wire {
            ip4: first("4"),
            ip6: first("6"),
            ..Wire::default()
        }
    }
}

fn family(cidr: Cidr) -> &'static str {
    if cidr.address.is_ipv4() { "4" } else { "6" }
}

/// A route without what came with 1.1.0.
fn plain(route: &Route) -> Route {
    Route {
        dst: route.dst,
        gw: route.gw,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
