//! The files of a pod that all of its containers have under `/etc`.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use lite_core::{Because, Kind, Result};

use crate::config::Dns;
use crate::namespaces::Place;
use crate::record::PodRecord;

/// More than a resolver looks at is refused by none, and of no use.
const HOST_RESOLV: &str = "/etc/resolv.conf";

/// The name of the host that the pod seems to be: the real one's with the
/// host's network, else its own, or the beginning of its id.
///
/// # Errors
/// Those of `gethostname(2)`.
pub(crate) fn hostname(record: &PodRecord) -> Result<String> {
    if record.on_host_network() {
        let name = nix::unistd::gethostname().op(|| "read the host's name".to_owned())?;
        return Ok(name.to_string_lossy().into_owned());
    }
    let own = &record.config.hostname;
    Ok(if own.is_empty() {
        record.id.get(..12).unwrap_or(&record.id).to_owned()
    } else {
        own.clone()
    })
}

/// Writes `hostname`, `hosts` and `resolv.conf`.
///
/// # Errors
/// Those of writing; InvalidArgument for a DNS configuration with line breaks.
pub(crate) fn write(place: &Place, record: &PodRecord, hostname: &str) -> Result<()> {
    put(place, "hostname", &format!("{hostname}\n"))?;
    if record.on_host_network() {
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        put(place, "hosts", &hosts)?;
    } else {
        write_hosts(place, hostname, &[])?;
    }
    let resolv = match &record.config.dns {
        Some(dns) => resolv_conf(dns)?,
        // A host without one has names by other means.
        None => fs::read_to_string(HOST_RESOLV).unwrap_or_default(),
    };
    put(place, "resolv.conf", &resolv)
}

/// Writes `hosts` of a pod that has these addresses.
///
/// # Errors
/// Those of writing.
pub(crate) fn write_hosts(place: &Place, hostname: &str, ips: &[IpAddr]) -> Result<()> {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{ip}\t{hostname}");
    }
    put(place, "hosts", &text)
}

fn put(place: &Place, name: &str, text: &str) -> Result<()> {
    let path = place.file(name);
    fs::write(&path, text).op(|| format!("write {}", path.display()))
}

fn resolv_conf(dns: &Dns) -> Result<String> {
    let mut text = String::new();
    let words = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    if let Some(bad) = words.into_iter().find(|word| word.contains(['\n', '\r'])) {
        return Err(
            Kind::InvalidArgument.error(format!("DNS configuration: {bad:?}: a line break"))
        );
    }
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_says_what_was_asked_for() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect();
        let dns = Dns {
            servers: list("10.0.0.10 10.0.0.11"),
            searches: list("a.example b.example"),
            options: list("ndots:8"),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap(),
            "search a.example b.example\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:8\n"
        );
        assert_eq!(resolv_conf(&Dns::default()).unwrap(), "");
        let sly = Dns {
            options: vec!["x\nnameserver 6.6.6.6".to_owned()],
            ..Dns::default()
        };
        assert!(resolv_conf(&sly).is_err());
    }
}
