//! Networks of a container as Docker shows them: in `ps`, `port` and `inspect`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::fabric::{Attached, Endpoint, Published};
use super::{Mode, mode};
use crate::engine::Engine;
use crate::host_config::Attachment;
use crate::record::Record;

/// The host's addresses under which a port can be reached.
fn host_ips(attached: &Attached, port: &Published) -> Vec<IpAddr> {
    if let Some(ip) = port.host_ip {
        return vec![ip];
    }
    let addresses = attached
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses);
    let has_v6 = addresses.into_iter().any(|(ip, _)| ip.is_ipv6());
    let mut all: Vec<IpAddr> = vec![std::net::Ipv4Addr::UNSPECIFIED.into()];
    if has_v6 {
        all.push(std::net::Ipv6Addr::UNSPECIFIED.into());
    }
    all
}

/// `NetworkSettings.Ports` of the Engine API.
#[must_use]
pub fn ports_json(record: &Record, attached: &Attached) -> Value {
    let mut ports: BTreeMap<String, Value> = record
        .config
        .exposed_ports
        .iter()
        .map(|port| (with_protocol(port), Value::Null))
        .collect();
    for port in &attached.ports {
        let entry = ports.entry(port.port().to_string()).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!([]);
        }
        if let Some(list) = entry.as_array_mut() {
            list.extend(host_ips(attached, port).into_iter().map(
                |ip| json!({ "HostIp": ip.to_string(), "HostPort": port.host_port.to_string() }),
            ));
        }
    }
    json!(ports)
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') {
        port.to_owned()
    } else {
        format!("{port}/tcp")
    }
}

/// The PORTS column of `ps`: published ports, then those that are only exposed.
/// Neighbours with the same distance are shown as one range.
#[must_use]
pub fn ports_column(record: &Record, attached: &Attached) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut published: Vec<&Published> = attached.ports.iter().collect();
    published.sort_by_key(|port| (port.number, port.protocol, port.host_port));
    for port in &published {
        for ip in host_ips(attached, port) {
            let ip = if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            };
            shown.push(format!("{ip}:{}->{}", port.host_port, port.port()));
        }
    }
    let mut exposed: Vec<String> = record
        .config
        .exposed_ports
        .iter()
        .map(|port| with_protocol(port))
        .collect();
    exposed.sort();
    exposed.retain(|port| {
        !published
            .iter()
            .any(|other| other.port().to_string() == *port)
    });
    shown.extend(exposed);
    shown.join(", ")
}

/// `NetworkSettings.Networks` of the Engine API.
pub(crate) fn networks_json(engine: &Engine, record: &Record, attached: &Attached) -> Value {
    let mut networks = json!({});
    let wanted = match mode(&record.host) {
        Mode::Networks(wanted) => wanted,
        Mode::Container(_) => return networks,
        Mode::Host | Mode::None => vec![record.host.networks.first().cloned().unwrap_or_default()],
    };
    for attachment in &wanted {
        let network = engine.fabric().find(&attachment.network).ok();
        let id = network.as_ref().map_or("", |network| network.id.as_str());
        let name = network
            .as_ref()
            .map_or(attachment.network.as_str(), |network| network.name.as_str());
        let endpoint = attached
            .endpoints
            .iter()
            .find(|endpoint| endpoint.network == id);
        networks[name] = one(record, attachment, id, endpoint);
    }
    networks
}

fn one(record: &Record, attachment: &Attachment, id: &str, endpoint: Option<&Endpoint>) -> Value {
    let address = |v4: bool| {
        endpoint.and_then(|endpoint| endpoint.addresses.iter().find(|(ip, _)| ip.is_ipv4() == v4))
    };
    let gateway = |v4: bool| {
        let gateways = endpoint.into_iter().flat_map(|endpoint| &endpoint.gateways);
        gateways
            .into_iter()
            .find(|ip| ip.is_ipv4() == v4)
            .map_or_else(String::new, ToString::to_string)
    };
    let text = |v4: bool| address(v4).map_or_else(String::new, |(ip, _)| ip.to_string());
    let prefix = |v4: bool| address(v4).map_or(0, |(_, prefix)| *prefix);
    let names = endpoint
        .map(|endpoint| endpoint.names.clone())
        .filter(|names| !names.is_empty());
    let fixed = !attachment.ip.is_empty() || !attachment.ip6.is_empty();
    json!({
        "IPAMConfig": if fixed {
            json!({ "IPv4Address": attachment.ip, "IPv6Address": attachment.ip6 })
        } else {
            Value::Null
        },
        "Links": null,
        "Aliases": if attachment.aliases.is_empty() { Value::Null } else { json!(attachment.aliases) },
        "MacAddress": endpoint.map_or("", |endpoint| endpoint.mac.as_str()),
        "DriverOpts": null,
        "GwPriority": 0,
        // Known once it has run, as in Docker.
        "NetworkID": if record.run.started_at.is_some() { id } else { "" },
        "EndpointID": endpoint.map_or("", |endpoint| endpoint.id.as_str()),
        "Gateway": gateway(true),
        "IPAddress": text(true),
        "IPPrefixLen": prefix(true),
        "IPv6Gateway": gateway(false),
        "GlobalIPv6Address": text(false),
        "GlobalIPv6PrefixLen": prefix(false),
        "DNSNames": names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Protocol;
    use crate::record::sample;

    #[test]
    fn published_ports_are_shown_before_exposed_ones() {
        let mut record = sample();
        record.config.exposed_ports = vec!["80/tcp".to_owned(), "9000".to_owned()];
        let attached = Attached {
            ports: vec![Published {
                number: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
                host_port: 8080,
            }],
            ..Attached::default()
        };
        assert_eq!(
            ports_column(&record, &attached),
            "0.0.0.0:8080->80/tcp, 9000/tcp"
        );
        assert_eq!(
            ports_json(&record, &attached),
            json!({ "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "9000/tcp": null })
        );
    }
}
