//! What the name servers of networks know: names and aliases of containers,
//! network by network. One table for all, read for each question.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use network::resolver::{self, Lookup};

use super::fabric::Endpoint;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<HashMap<String, Vec<Endpoint>>>);

impl Names {
    /// Sets what a container is called on its networks; nothing takes it out.
    pub(crate) fn set(&self, container: &str, endpoints: Vec<Endpoint>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if endpoints.is_empty() {
            table.remove(container);
        } else {
            table.insert(container.to_owned(), endpoints);
        }
    }

    /// Addresses of `name` on any network that `container` is on, too.
    fn addresses(&self, container: &str, name: &str) -> Option<Vec<IpAddr>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = table.get(container)?;
        let mut found: Vec<IpAddr> = Vec::new();
        for network in own.iter().map(|endpoint| &endpoint.network) {
            let on_it = table
                .values()
                .flatten()
                .filter(|other| other.network == *network);
            for other in
                on_it.filter(|other| other.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
            {
                found.extend(other.addresses.iter().map(|(ip, _)| *ip));
            }
        }
        (!found.is_empty()).then_some(found)
    }

    fn name(&self, container: &str, address: IpAddr) -> Option<String> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = table.get(container)?;
        let known = |other: &&Endpoint| {
            own.iter().any(|endpoint| endpoint.network == other.network)
                && other.addresses.iter().any(|(ip, _)| *ip == address)
        };
        table.values().flatten().find(known)?.names.first().cloned()
    }
}

/// One container's view of the table.
pub(crate) struct View {
    pub(crate) names: Arc<Names>,
    pub(crate) container: String,
    /// Name servers that were asked for in place of the host's.
    pub(crate) servers: Vec<IpAddr>,
    /// The container's networks let nothing out.
    pub(crate) closed: bool,
}

impl Lookup for View {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.names.addresses(&self.container, name)
    }

    fn name(&self, address: IpAddr) -> Option<String> {
        self.names.name(&self.container, address)
    }

    fn upstream(&self) -> Vec<SocketAddr> {
        if self.closed {
            return Vec::new();
        }
        let servers = if self.servers.is_empty() {
            // Read each time: the host may have moved.
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            resolver::nameservers(&text)
        } else {
            self.servers.clone()
        };
        servers
            .into_iter()
            .map(|ip| SocketAddr::new(ip, 53))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(network: &str, ip: &str, names: &[&str]) -> Endpoint {
        Endpoint {
            network: network.to_owned(),
            addresses: vec![(ip.parse().unwrap(), 24)],
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..Endpoint::default()
        }
    }

    #[test]
    fn names_are_known_on_shared_networks_only() {
        let names = Names::default();
        names.set("a", vec![endpoint("n1", "10.0.1.2", &["web"])]);
        names.set(
            "b",
            vec![
                endpoint("n1", "10.0.1.3", &["db", "alias"]),
                endpoint("n2", "10.0.2.2", &["db"]),
            ],
        );
        names.set("c", vec![endpoint("n2", "10.0.2.3", &["other", "alias"])]);
        let from = |container: &str, name: &str| {
            let found = names.addresses(container, name).unwrap_or_default();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(from("a", "DB"), ["10.0.1.3"]);
        assert_eq!(from("a", "other"), Vec::<String>::new());
        assert_eq!(from("b", "other"), ["10.0.2.3"]);
        assert_eq!(
            names.name("a", "10.0.1.3".parse().unwrap()).as_deref(),
            Some("db")
        );
        assert_eq!(names.name("a", "10.0.2.3".parse().unwrap()), None);
        names.set("b", Vec::new());
        assert_eq!(from("a", "db"), Vec::<String>::new());
    }
}
