//! Networks: which there are, who is on them with which address, and what of
//! them exists in the kernel.
//!
//! Definitions are documents in the database, but for the three that always
//! are ([`Definition::bridge`], `host`, `none`). What a running container has
//! is in its record ([`Attached`]); from both the [`Fabric`] is put together
//! again when the daemon starts. A network's bridge is made with its first
//! container and removed with its last, and so is the firewall's table.
//!
//! 1. [`definition`] is a network as it is stored and shown.
//! 2. [`fabric`] is the one owner of what is in use; kernel work happens under
//!    its lock, so that two starts cannot get the same address.
//! 3. [`attach`] puts a container on its networks and takes it off again.
//! 4. [`files`] writes the container's hosts and resolv.conf.
//! 5. [`names`] is what the name server of a network knows.
//! 6. [`steps`] puts steps of builds on the default network.
//! 7. [`cases`] are the use cases.

mod attach;
mod cases;
mod definition;
mod fabric;
mod files;
mod guard;
mod names;
mod show;
mod steps;

pub use cases::{CreateNetwork, Ipam, connect, create, disconnect, inspect, list, prune, remove};
pub use definition::Definition;
pub use fabric::{Attached, Endpoint, Published};
pub use show::{ports_column, ports_json};
pub use steps::hosts_of_steps;

pub(crate) use attach::{detach, has_names, launch, restore};
pub(crate) use fabric::Fabric;
pub(crate) use files::{Surroundings, write as write_files};
pub(crate) use guard::guard;
pub(crate) use show::networks_json;
pub(crate) use steps::join;

use lite_core::{Kind, Result};

use crate::host_config::{Attachment, HostConfig};

/// The documents' kind in the database.
const KIND: &str = "network";

/// Reads which networks there are.
///
/// # Errors
/// Those of the database.
pub(crate) fn load(
    engine: &crate::Engine,
) -> Result<std::collections::BTreeMap<String, Definition>> {
    cases::load(engine)
}

/// The network of containers that name none, by Docker's name.
pub const DEFAULT: &str = "bridge";

/// Where a container's network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The host's.
    Host,
    /// A loopback interface and nothing else.
    None,
    /// Another container's.
    Container(String),
    /// On these networks, by name or id.
    Networks(Vec<Attachment>),
}

/// What a container's configuration says of its network.
pub(crate) fn mode(host: &HostConfig) -> Mode {
    let mut networks = host.networks.clone();
    for attachment in &mut networks {
        if matches!(attachment.network.as_str(), "" | "default") {
            DEFAULT.clone_into(&mut attachment.network);
        }
    }
    match networks.first() {
        None => Mode::Networks(vec![Attachment {
            network: DEFAULT.to_owned(),
            ..Attachment::default()
        }]),
        Some(first) if first.network == "host" => Mode::Host,
        Some(first) if first.network == "none" => Mode::None,
        Some(first) => match first.network.strip_prefix("container:") {
            Some(other) => Mode::Container(other.to_owned()),
            None => Mode::Networks(networks),
        },
    }
}

/// `HostConfig.NetworkMode` of the Engine API.
pub(crate) fn mode_word(host: &HostConfig) -> String {
    match mode(host) {
        Mode::Host => "host".to_owned(),
        Mode::None => "none".to_owned(),
        Mode::Container(other) => format!("container:{other}"),
        Mode::Networks(networks) => networks
            .first()
            .map_or_else(String::new, |first| first.network.clone()),
    }
}

/// Checks what is asked of the network before a container is made.
///
/// # Errors
/// InvalidArgument, in Docker's words; NotFound for a network.
pub(crate) fn check(engine: &crate::Engine, host: &HostConfig) -> Result<()> {
    let invalid = |text: String| Err(Kind::InvalidArgument.error(text));
    for text in &host.publish {
        crate::ports::publish(text)?;
    }
    for text in &host.extra_hosts {
        files::extra_host(text)?;
    }
    for text in &host.dns {
        if text.parse::<std::net::IpAddr>().is_err() {
            return invalid(format!("invalid IP address: {text}"));
        }
    }
    let networks = match mode(host) {
        Mode::Networks(networks) => networks,
        Mode::Container(other) => {
            engine.find(&other)?;
            if !host.publish.is_empty() {
                return invalid(
                    "conflicting options: port publishing and the container type network mode"
                        .to_owned(),
                );
            }
            return Ok(());
        }
        Mode::Host | Mode::None => {
            return match host.networks.len() {
                0 | 1 => Ok(()),
                _ => invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                        .to_owned(),
                ),
            };
        }
    };
    for attachment in &networks {
        let network = engine.fabric().find(&attachment.network)?;
        let fixed = !attachment.ip.is_empty() || !attachment.ip6.is_empty();
        if network.is_default() && (fixed || !attachment.aliases.is_empty()) {
            return invalid(if fixed {
                "invalid config for network bridge: invalid endpoint settings: user specified IP address is supported on user defined networks only".to_owned()
            } else {
                "invalid config for network bridge: invalid endpoint settings: network-scoped alias is supported only for containers in user defined networks".to_owned()
            });
        }
        network.check(attachment)?;
    }
    Ok(())
}
