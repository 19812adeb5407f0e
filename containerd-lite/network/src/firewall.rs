//! What the network needs of a firewall, said without chains or rules
//! ([`Wishes`]), written as one nftables ruleset ([`ruleset`], pure), and put
//! in place in one transaction ([`apply`]).
//!
//! Everything is in a table of our own. A packet that we accept still has to
//! pass the host's own rules; one that we drop is gone.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use crate::subnet::Subnet;

/// A network whose packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its bridge.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Nothing goes in or out.
    pub internal: bool,
    /// What leaves the host has the host's address.
    pub masquerade: bool,
}

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The host's address, where it is not all of them, and port.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// Where it leads.
    pub to: SocketAddr,
}

/// Everything that is wished for at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Networks that are in use.
    pub networks: Vec<Network>,
    /// Published ports.
    pub ports: Vec<Port>,
}

/// The whole of the table `name` as `nft(8)` reads it: what was there is
/// replaced.
#[must_use]
pub fn ruleset(name: &str, wishes: &Wishes) -> String {
    // Declared first, so that the deletion of one that is not there is no error.
    let mut text = format!("table inet {name}\ndelete table inet {name}\n");
    if wishes.networks.is_empty() && wishes.ports.is_empty() {
        return text;
    }
    let _ = writeln!(text, "table inet {name} {{");
    ports(&mut text, &wishes.ports);
    guard(&mut text, wishes);
    postrouting(&mut text, &wishes.networks);
    forward(&mut text, &wishes.networks);
    text.push_str("}\n");
    text
}

/// Where published ports lead, for packets from outside and from the host.
fn ports(text: &mut String, ports: &[Port]) {
    text.push_str("  chain ports {\n");
    for port in ports {
        let family = if port.to.is_ipv4() { "ip" } else { "ip6" };
        let mut matches = match port.host_ip {
            Some(ip) => format!("{family} daddr {ip} "),
            None => format!(
                "meta nfproto {} ",
                if port.to.is_ipv4() { "ipv4" } else { "ipv6" }
            ),
        };
        let _ = write!(matches, "{} dport {}", port.protocol, port.host_port);
        let _ = writeln!(text, "    {matches} dnat {family} to {}", port.to);
    }
    text.push_str("  }\n");
    for hook in ["prerouting", "output"] {
        let _ = writeln!(
            text,
            "  chain {hook} {{\n    type nat hook {hook} priority -100; policy accept;\n    fib daddr type local jump ports\n  }}"
        );
    }
}

/// A bridge that lets the host's loopback addresses out must not let anybody
/// in to them.
fn guard(text: &mut String, wishes: &Wishes) {
    text.push_str(
        "  chain guard {\n    type filter hook prerouting priority raw; policy accept;\n",
    );
    for network in &wishes.networks {
        let _ = writeln!(
            text,
            "    iifname \"{}\" ip daddr 127.0.0.0/8 drop",
            network.bridge
        );
    }
    text.push_str("  }\n");
}

fn postrouting(text: &mut String, networks: &[Network]) {
    text.push_str(
        "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for network in networks {
        let bridge = &network.bridge;
        // The host by its loopback address: the answer must find back.
        let _ = writeln!(
            text,
            "    ip saddr 127.0.0.0/8 oifname \"{bridge}\" ct status dnat masquerade"
        );
        for subnet in &network.subnets {
            let family = if subnet.is_ipv6() { "ip6" } else { "ip" };
            // A container by a published port of its own network.
            let _ = writeln!(
                text,
                "    {family} saddr {subnet} {family} daddr {subnet} oifname \"{bridge}\" ct status dnat masquerade"
            );
            if network.masquerade && !network.internal {
                let _ = writeln!(
                    text,
                    "    {family} saddr {subnet} oifname != \"{bridge}\" masquerade"
                );
            }
        }
    }
    text.push_str("  }\n");
}

fn forward(text: &mut String, networks: &[Network]) {
    text.push_str(
        "  chain forward {\n    type filter hook forward priority filter; policy accept;\n",
    );
    for network in networks {
        let bridge = &network.bridge;
        let _ = writeln!(text, "    iifname \"{bridge}\" oifname \"{bridge}\" accept");
        if network.internal {
            let _ = writeln!(text, "    iifname \"{bridge}\" drop");
            let _ = writeln!(text, "    oifname \"{bridge}\" drop");
        } else {
            let _ = writeln!(
                text,
                "    oifname \"{bridge}\" ct state established,related accept"
            );
            let _ = writeln!(text, "    oifname \"{bridge}\" ct status dnat accept");
            // Other networks, and neighbours that send here unasked.
            let _ = writeln!(text, "    oifname \"{bridge}\" drop");
        }
    }
    text.push_str("  }\n");
}

/// Whether the table `name` is there.
///
/// # Errors
/// Those of running nft.
pub fn exists(name: &str) -> io::Result<bool> {
    let mut nft = Command::new("nft");
    nft.args(["list", "table", "inet", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(nft.status()?.success())
}

/// Puts a ruleset in place, all of it or nothing.
///
/// # Errors
/// `NotFound` without nft; else what nft says.
pub fn apply(ruleset: &str) -> io::Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::NotFound,
                "nft is not installed: install the package nftables",
            ),
            _ => err,
        })?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(ruleset.as_bytes())?;
    }
    let said = nft.wait_with_output()?;
    if said.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&said.stderr);
    let first = words.lines().next().unwrap_or_default().trim();
    Err(io::Error::other(format!("nft: {first}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wished_for_leaves_no_table() {
        assert_eq!(
            ruleset("containerd_lite", &Wishes::default()),
            "table inet containerd_lite\ndelete table inet containerd_lite\n"
        );
    }

    #[test]
    fn a_bridge_an_internal_network_and_three_ports() {
        let port = |protocol: &str, ip: Option<&str>, host_port, to: &str| Port {
            protocol: protocol.to_owned(),
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port,
            to: to.parse().unwrap(),
        };
        let wishes = Wishes {
            networks: vec![
                Network {
                    bridge: "ctl0".to_owned(),
                    subnets: vec![
                        "172.17.0.0/16".parse().unwrap(),
                        "fd00::/64".parse().unwrap(),
                    ],
                    internal: false,
                    masquerade: true,
                },
                Network {
                    bridge: "br-1".to_owned(),
                    subnets: vec!["172.18.0.0/16".parse().unwrap()],
                    internal: true,
                    masquerade: true,
                },
            ],
            ports: vec![
                port("tcp", None, 8080, "172.17.0.2:80"),
                port("udp", Some("127.0.0.1"), 53, "172.17.0.3:53"),
                port("tcp", None, 8080, "[fd00::2]:80"),
            ],
        };
        insta::assert_snapshot!(ruleset("containerd_lite", &wishes));
    }
}
