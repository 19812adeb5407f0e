//! `ctl network …` and `ctl port`.

use proto::engine::v1::{
    Attachment, ConnectNetworkRequest, CreateNetworkRequest, InspectContainerRequest, IpamConfig,
    ListNetworksRequest, NetworkRequest, PruneRequest,
};
use serde_json::{Value, json};

use super::{DONE, each, inspect, prune};
use crate::cli::change::PortArgs;
use crate::cli::network::{
    ConnectArgs, CreateNetworkArgs, DisconnectArgs, InspectNetworkArgs, NetworkAction,
    NetworksArgs, PruneNetworksArgs, RmNetworkArgs,
};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};
use crate::render::names::short_id;

const COLUMNS: Columns = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, action: &NetworkAction) -> Result<u8, Failure> {
    match action {
        NetworkAction::Connect(args) => connect(client, args).await,
        NetworkAction::Create(args) => create(client, args).await,
        NetworkAction::Disconnect(args) => disconnect(client, args).await,
        NetworkAction::Inspect(args) => inspect_all(client, args).await,
        NetworkAction::Ls(args) => list(client, args).await,
        NetworkAction::Prune(args) => prune_all(client, args).await,
        NetworkAction::Rm(args) => remove(client, args).await,
    }
}

/// Prints the network's id.
async fn create(client: &mut Engine, args: &CreateNetworkArgs) -> Result<u8, Failure> {
    let request = CreateNetworkRequest {
        name: args.network.clone(),
        driver: args.driver.clone().unwrap_or_default(),
        ipam: ipam(args)?,
        internal: args.internal,
        ipv6: args.ipv6,
        options: args.opt.iter().cloned().collect(),
        labels: args.label.iter().cloned().collect(),
    };
    let made = client.create_network(request).await?.into_inner();
    let network = inspect::read(&made.json)?;
    out::line(network["Id"].as_str().unwrap_or_default())?;
    Ok(DONE)
}

/// Gateways and ranges belong to the subnets in the order they were typed, by
/// family.
fn ipam(args: &CreateNetworkArgs) -> Result<Vec<IpamConfig>, Failure> {
    if args.subnet.is_empty() && !(args.gateway.is_empty() && args.ip_range.is_empty()) {
        return Err(Failure::Client(
            "every ip-range or gateway must have a corresponding subnet".to_owned(),
        ));
    }
    let mut configs: Vec<IpamConfig> = args
        .subnet
        .iter()
        .map(|subnet| IpamConfig {
            subnet: subnet.clone(),
            ..IpamConfig::default()
        })
        .collect();
    let is_v6 = |text: &str| text.contains(':');
    for gateway in &args.gateway {
        let fits = |config: &&mut IpamConfig| {
            is_v6(&config.subnet) == is_v6(gateway) && config.gateway.is_empty()
        };
        match configs.iter_mut().find(fits) {
            Some(config) => config.gateway.clone_from(gateway),
            None => {
                return Err(Failure::Client(format!(
                    "no matching subnet for gateway {gateway}"
                )));
            }
        }
    }
    for range in &args.ip_range {
        let fits = |config: &&mut IpamConfig| {
            is_v6(&config.subnet) == is_v6(range) && config.ip_range.is_empty()
        };
        match configs.iter_mut().find(fits) {
            Some(config) => config.ip_range.clone_from(range),
            None => {
                return Err(Failure::Client(format!(
                    "no matching subnet for range {range}"
                )));
            }
        }
    }
    for (name, address) in &args.aux_address {
        let config = configs
            .iter_mut()
            .find(|config| is_v6(&config.subnet) == is_v6(address));
        match config {
            Some(config) => {
                config.aux_addresses.insert(name.clone(), address.clone());
            }
            None => {
                return Err(Failure::Client(format!(
                    "no matching subnet for aux-address {address}"
                )));
            }
        }
    }
    Ok(configs)
}

async fn inspect_all(client: &mut Engine, args: &InspectNetworkArgs) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &args.networks {
        let request = NetworkRequest {
            network: name.clone(),
        };
        match client.inspect_network(request).await {
            Ok(answer) => found.push(answer.into_inner().json),
            Err(status) => failures.push(Failure::from(status)),
        }
    }
    inspect::print(args.format.as_deref(), &found, &failures)
}

async fn list(client: &mut Engine, args: &NetworksArgs) -> Result<u8, Failure> {
    let request = ListNetworksRequest {
        filters: args.filter.clone(),
    };
    let found = client.list_networks(request).await?.into_inner().json;
    let mut rows = Vec::new();
    for network in &found {
        rows.push(row(&inspect::read(network)?, args.no_trunc));
    }
    if args.quiet {
        for row in &rows {
            out::line(row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(DONE);
    }
    let shown = ["ID", "Name", "Driver", "Scope"];
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        &shown,
        &rows,
    )?)?;
    Ok(DONE)
}

fn row(network: &Value, whole: bool) -> Value {
    let id = network["Id"].as_str().unwrap_or_default();
    json!({
        "ID": if whole { id } else { short_id(id) },
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv4": network["EnableIPv4"].to_string(),
        "IPv6": network["EnableIPv6"].to_string(),
        "Internal": network["Internal"].to_string(),
        "Labels": format::labels(&network["Labels"]),
        "LabelMap": network["Labels"],
        "CreatedAt": network["Created"],
    })
}

/// Prints each name as typed.
async fn remove(client: &mut Engine, args: &RmNetworkArgs) -> Result<u8, Failure> {
    each::run(&args.networks, async |network| {
        let request = NetworkRequest {
            network: network.to_owned(),
        };
        match client.remove_network(request).await.map_err(Failure::from) {
            Err(failure) if args.force && failure.is_not_found() => Ok(None),
            answer => answer.map(|_| Some(network.to_owned())),
        }
    })
    .await
}

async fn prune_all(client: &mut Engine, args: &PruneNetworksArgs) -> Result<u8, Failure> {
    let warning =
        "WARNING! This will remove all custom networks not used by at least one container.";
    if !args.force && !prune::confirmed(warning)? {
        return Ok(DONE);
    }
    let request = PruneRequest {
        all: false,
        filters: args.filter.clone(),
    };
    let pruned = client.prune_networks(request).await?.into_inner();
    prune::listed("Deleted Networks", &pruned)?;
    Ok(DONE)
}

async fn connect(client: &mut Engine, args: &ConnectArgs) -> Result<u8, Failure> {
    let request = ConnectNetworkRequest {
        container: args.container.clone(),
        attachment: Some(Attachment {
            network: args.network.clone(),
            aliases: args.alias.clone(),
            ip: args.ip.clone().unwrap_or_default(),
            ip6: args.ip6.clone().unwrap_or_default(),
            mac: String::new(),
        }),
        force: false,
    };
    client.connect_network(request).await?;
    Ok(DONE)
}

async fn disconnect(client: &mut Engine, args: &DisconnectArgs) -> Result<u8, Failure> {
    let request = ConnectNetworkRequest {
        container: args.container.clone(),
        attachment: Some(Attachment {
            network: args.network.clone(),
            ..Attachment::default()
        }),
        force: args.force,
    };
    client.disconnect_network(request).await?;
    Ok(DONE)
}

/// `ctl port`: where published ports lead, or those of one port.
pub(crate) async fn port(client: &mut Engine, args: &PortArgs) -> Result<u8, Failure> {
    let request = InspectContainerRequest {
        container: args.container.clone(),
        size: false,
    };
    let answer = client.inspect_container(request).await?.into_inner();
    let container = inspect::read(&answer.json)?;
    let ports = container["NetworkSettings"]["Ports"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let shown = |binding: &Value| {
        let ip = binding["HostIp"].as_str().unwrap_or_default();
        let port = binding["HostPort"].as_str().unwrap_or_default();
        if ip.contains(':') {
            format!("[{ip}]:{port}")
        } else {
            format!("{ip}:{port}")
        }
    };
    let Some(wanted) = &args.port else {
        for (port, bindings) in &ports {
            for binding in bindings.as_array().into_iter().flatten() {
                out::line(&format!("{port} -> {}", shown(binding)))?;
            }
        }
        return Ok(DONE);
    };
    let key = if wanted.contains('/') {
        wanted.clone()
    } else {
        format!("{wanted}/tcp")
    };
    match ports.get(&key).and_then(Value::as_array) {
        Some(bindings) => {
            for binding in bindings {
                out::line(&shown(binding))?;
            }
            Ok(DONE)
        }
        None => Err(Failure::Client(format!(
            "no public port '{key}' published for {}",
            args.container
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateNetworkArgs,
    }

    fn configs(line: &str) -> Result<Vec<IpamConfig>, Failure> {
        ipam(&Line::parse_from(line.split(' ')).args)
    }

    #[test]
    fn gateways_belong_to_subnets_of_their_family() {
        let got =
            configs("x --subnet fd00::/64 --subnet 10.0.0.0/24 --gateway 10.0.0.9 net").unwrap();
        assert_eq!(
            (got[0].gateway.as_str(), got[1].gateway.as_str()),
            ("", "10.0.0.9")
        );
        assert!(configs("x --gateway 10.0.0.9 net").is_err());
        assert!(configs("x --subnet fd00::/64 --gateway 10.0.0.9 net").is_err());
    }
}
