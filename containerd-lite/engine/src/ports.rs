//! Published and exposed ports as typed: `[[ip:]host:]container[/protocol]`,
//! each port a number or a range.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use lite_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its transport.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// One port to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// In the container.
    pub port: Port,
    /// The host's address; `None` means all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's ports to choose from, first and last; `None` means any.
    pub host: Option<(u16, u16)>,
}

fn invalid(text: String) -> Error {
    Kind::InvalidArgument.error(text)
}

/// The bindings that one `-p` means.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn publish(text: &str) -> Result<Vec<Binding>> {
    let (rest, protocol) = protocol(text)?;
    let (before, container) = match rest.rsplit_once(':') {
        Some((before, container)) => (Some(before), container),
        None => (None, rest),
    };
    if container.is_empty() {
        return Err(invalid(format!("no port specified: {text}<empty>")));
    }
    let ports =
        range(container).ok_or_else(|| invalid(format!("invalid containerPort: {container}")))?;
    let (ip, host) =
        match before.map(|before| before.rsplit_once(':').map_or(("", before), |split| split)) {
            None => ("", ""),
            Some((ip, host)) => (ip, host),
        };
    let host_ip = address(ip)?;
    let host = match host {
        "" => None,
        typed => Some(range(typed).ok_or_else(|| invalid(format!("invalid hostPort: {typed}")))?),
    };
    let length = |(first, last): (u16, u16)| last - first;
    if let Some(host) = host
        && length(host) != length(ports)
        && length(ports) != 0
    {
        return Err(invalid(format!(
            "invalid ranges specified for container and host Ports: {container} and {}-{}",
            host.0, host.1
        )));
    }
    let bindings = (ports.0..=ports.1).map(|number| Binding {
        port: Port { number, protocol },
        host_ip,
        host: host.map(|host| {
            if length(ports) == 0 {
                host
            } else {
                let at = host.0 + (number - ports.0);
                (at, at)
            }
        }),
    });
    Ok(bindings.collect())
}

/// The ports that one `--expose` means.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn expose(text: &str) -> Result<Vec<Port>> {
    let (rest, protocol) = protocol(text)?;
    let bad = || invalid(format!("invalid range format for --expose: {text}"));
    let (first, last) = range(rest).ok_or_else(bad)?;
    Ok((first..=last)
        .map(|number| Port { number, protocol })
        .collect())
}

fn protocol(text: &str) -> Result<(&str, Protocol)> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, name)) => match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok((rest, Protocol::Tcp)),
            "udp" => Ok((rest, Protocol::Udp)),
            "sctp" => Ok((rest, Protocol::Sctp)),
            _ => Err(invalid(format!("invalid proto: {name}"))),
        },
    }
}

/// `80` or `80-90`, not zero, in order.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

fn address(text: &str) -> Result<Option<IpAddr>> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if bare.is_empty() {
        return Ok(None);
    }
    bare.parse()
        .map(Some)
        .map_err(|_| invalid(format!("invalid IP address: {text}")))
}

/// `PortBindings` of the Engine API.
#[must_use]
pub fn bindings_json(typed: &[String]) -> Value {
    let mut by_port: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for binding in typed.iter().filter_map(|text| publish(text).ok()).flatten() {
        let host = match binding.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        by_port
            .entry(binding.port.to_string())
            .or_default()
            .push(json!({
                "HostIp": binding.host_ip.map_or_else(String::new, |ip| ip.to_string()),
                "HostPort": host,
            }));
    }
    json!(by_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let got: Vec<String> = publish(text)
            .unwrap()
            .iter()
            .map(|b| {
                let ip = b
                    .host_ip
                    .map_or_else(|| "*".to_owned(), |ip| ip.to_string());
                let host = b.host.map_or_else(
                    || "?".to_owned(),
                    |(a, b)| {
                        if a == b {
                            a.to_string()
                        } else {
                            format!("{a}-{b}")
                        }
                    },
                );
                format!("{ip} {host} {}", b.port)
            })
            .collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn what_is_typed_is_what_is_published() {
        check("80", &["* ? 80/tcp"]);
        check("8080:80", &["* 8080 80/tcp"]);
        check("8080:80/udp", &["* 8080 80/udp"]);
        check("127.0.0.1:8080:80", &["127.0.0.1 8080 80/tcp"]);
        check("127.0.0.1::80", &["127.0.0.1 ? 80/tcp"]);
        check("[::1]:8080:80", &["::1 8080 80/tcp"]);
        check("8000-8001:80-81", &["* 8000 80/tcp", "* 8001 81/tcp"]);
        check("8000-8010:80", &["* 8000-8010 80/tcp"]);
        check("80-81", &["* ? 80/tcp", "* ? 81/tcp"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, words) in [
            ("80:", "no port specified"),
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("0:0", "invalid containerPort"),
            ("80/icmp", "invalid proto: icmp"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("8000-8002:80-81", "invalid ranges"),
            ("70000:80", "invalid hostPort"),
        ] {
            let said = publish(text).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn ranges_are_exposed_one_by_one() {
        let ports = expose("8000-8002/udp").unwrap();
        assert_eq!(
            ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["8000/udp", "8001/udp", "8002/udp"]
        );
        assert!(expose("9-8").is_err());
    }
}
