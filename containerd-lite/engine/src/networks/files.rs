//! A container's `hosts`, `hostname` and `resolv.conf`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;

use lite_core::{Because, Kind, Result};
use network::resolver;

use super::fabric::Endpoint;
use crate::engine::Engine;
use crate::record::Record;

/// Name servers where the host has none that a container can reach.
const LAST_RESORT: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

const LOCALHOST: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// What the files depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The container's networks.
    pub(crate) endpoints: &'a [Endpoint],
    /// It asks the name server of its networks.
    pub(crate) own_server: bool,
    /// It has the host's network.
    pub(crate) on_host: bool,
}

/// Name and address of one `--add-host`.
pub(super) fn extra_host(text: &str) -> Result<(&str, &str)> {
    let bad = || Kind::InvalidArgument.error(format!("bad format for add-host: {text:?}"));
    let (name, address) = text.split_once([':', '=']).ok_or_else(bad)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || (bare != "host-gateway" && bare.parse::<IpAddr>().is_err()) {
        return Err(
            Kind::InvalidArgument.error(format!("invalid IP address in add-host: {address:?}"))
        );
    }
    Ok((name, bare))
}

/// Writes the files. Done at every start, so they need not survive a power cut
/// and nothing is synced.
///
/// # Errors
/// Those of reading the host's files and writing these.
pub(crate) fn write(engine: &Engine, record: &Record, around: &Surroundings<'_>) -> Result<()> {
    let dir = engine.dir(&record.id);
    let what = || format!("write files of container {}", record.id);
    let texts = texts(engine, record, around)?;
    let files = [
        ("hosts", texts.hosts),
        ("hostname", format!("{}\n", record.config.hostname)),
        ("resolv.conf", texts.resolv_conf),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).op(what)?;
    }
    Ok(())
}

/// What the files say of the network.
pub(super) struct Texts {
    pub(super) hosts: String,
    pub(super) resolv_conf: String,
}

/// What the files say.
///
/// # Errors
/// Those of reading the host's; it may well have no `resolv.conf`.
pub(super) fn texts(engine: &Engine, record: &Record, around: &Surroundings<'_>) -> Result<Texts> {
    let host_resolv = match fs::read_to_string("/etc/resolv.conf") {
        Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.op(|| "read /etc/resolv.conf".to_owned())?,
    };
    let gateway = host_gateway(engine, around);
    Ok(Texts {
        hosts: hosts(record, around, gateway),
        resolv_conf: resolv_conf(record, around, &host_resolv),
    })
}

/// The host's address as the container sees it.
fn host_gateway(engine: &Engine, around: &Surroundings<'_>) -> Option<IpAddr> {
    let own = around
        .endpoints
        .iter()
        .find_map(|endpoint| endpoint.gateways.first().copied());
    own.or_else(|| {
        let default = engine.fabric().find(super::DEFAULT).ok()?;
        default
            .subnets()
            .into_iter()
            .find_map(|(_, gateway)| gateway)
    })
}

fn hosts(record: &Record, around: &Surroundings<'_>, gateway: Option<IpAddr>) -> String {
    let mut text = LOCALHOST.to_owned();
    for extra in &record.host.extra_hosts {
        let Ok((name, address)) = extra_host(extra) else {
            continue;
        };
        let address = match (address, gateway) {
            ("host-gateway", Some(gateway)) => gateway.to_string(),
            ("host-gateway", None) => continue,
            (address, _) => address.to_owned(),
        };
        let _ = writeln!(text, "{address}\t{name}");
    }
    let config = &record.config;
    let own = match config.domainname.as_str() {
        "" => config.hostname.clone(),
        domain => format!("{0}.{domain} {0}", config.hostname),
    };
    for (address, _) in around
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
    {
        let _ = writeln!(text, "{address}\t{own}");
    }
    text
}

/// The host's, with what was asked for in place of it.
fn resolv_conf(record: &Record, around: &Surroundings<'_>, host: &str) -> String {
    let asked = &record.host;
    let servers: Vec<String> = if around.own_server {
        vec![resolver::ADDRESS.to_string()]
    } else if !asked.dns.is_empty() {
        asked.dns.clone()
    } else {
        let reachable = |ip: &IpAddr| around.on_host || !ip.is_loopback();
        let hosts: Vec<String> = resolver::nameservers(host)
            .into_iter()
            .filter(reachable)
            .map(|ip| ip.to_string())
            .collect();
        if hosts.is_empty() && !around.endpoints.is_empty() {
            LAST_RESORT.map(str::to_owned).to_vec()
        } else {
            hosts
        }
    };
    let words = |key: &str| -> Vec<String> {
        let mut lines = host
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        lines.next_back().map_or_else(Vec::new, |rest| {
            rest.split_whitespace().map(str::to_owned).collect()
        })
    };
    let or_hosts = |own: &Vec<String>, key: &str| {
        if own.is_empty() {
            words(key)
        } else {
            own.clone()
        }
    };
    let search = or_hosts(&asked.dns_search, "search ");
    let mut options = or_hosts(&asked.dns_options, "options ");
    if around.own_server && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let mut text = String::new();
    // A dot alone means none.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn around(endpoints: &[Endpoint], own_server: bool) -> Surroundings<'_> {
        Surroundings {
            endpoints,
            own_server,
            on_host: false,
        }
    }

    #[test]
    fn resolv_conf_is_the_hosts_without_what_cannot_be_reached() {
        let host = "nameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch a.b\noptions edns0\n";
        let record = sample();
        let plain = resolv_conf(&record, &around(&[], false), host);
        assert_eq!(plain, "search a.b\nnameserver 10.1.1.1\noptions edns0\n");
        let own = resolv_conf(&record, &around(&[], true), host);
        assert_eq!(
            own,
            "search a.b\nnameserver 127.0.0.11\noptions edns0 ndots:0\n"
        );
        let on_bridge = [Endpoint::default()];
        let lonely = resolv_conf(&record, &around(&on_bridge, false), "nameserver ::1\n");
        assert_eq!(lonely, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn what_was_asked_for_goes_over_the_hosts() {
        let mut record = sample();
        record.host.dns = vec!["1.1.1.1".to_owned()];
        record.host.dns_search = vec![".".to_owned()];
        record.host.dns_options = vec!["timeout:1".to_owned()];
        let text = resolv_conf(
            &record,
            &around(&[], false),
            "nameserver 9.9.9.9\nsearch x\n",
        );
        assert_eq!(text, "nameserver 1.1.1.1\noptions timeout:1\n");
    }

    #[test]
    fn hosts_has_the_containers_own_name_and_those_that_were_added() {
        let mut record = sample();
        record.host.extra_hosts = vec!["db:10.0.0.9".to_owned(), "up:host-gateway".to_owned()];
        let endpoints = [Endpoint {
            addresses: vec![("172.17.0.2".parse().unwrap(), 16)],
            ..Endpoint::default()
        }];
        let text = hosts(
            &record,
            &around(&endpoints, false),
            Some("172.17.0.1".parse().unwrap()),
        );
        let tail = text.strip_prefix(LOCALHOST).unwrap();
        assert_eq!(
            tail,
            "10.0.0.9\tdb\n172.17.0.1\tup\n172.17.0.2\t0123456789ab\n"
        );
        assert!(extra_host("x").is_err() && extra_host("x:y").is_err());
        assert_eq!(extra_host("x:[::1]").unwrap(), ("x", "::1"));
    }
}
