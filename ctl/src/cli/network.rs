//! Commands on networks.

use clap::{ArgAction, Args, Subcommand};

use crate::parse::key_value;

/// `ctl network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkAction {
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Create a network
    Create(CreateNetworkArgs),
    /// Disconnect a container from a network
    Disconnect(DisconnectArgs),
    /// Display detailed information on one or more networks
    Inspect(InspectNetworkArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(NetworksArgs),
    /// Remove all unused networks
    Prune(PruneNetworksArgs),
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm(RmNetworkArgs),
}

/// `ctl network create`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NETWORK")]
pub(crate) struct CreateNetworkArgs {
    /// Enable manual container attachment
    #[arg(long)]
    pub(crate) attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) aux_address: Vec<(String, String)>,
    /// Driver to manage the Network (default "bridge")
    #[arg(short, long, value_name = "string")]
    pub(crate) driver: Option<String>,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    pub(crate) internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) ip_range: Vec<String>,
    /// Enable or disable IPv6 address assignment
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "list", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) label: Vec<(String, String)>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) opt: Vec<(String, String)>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) subnet: Vec<String>,
    #[arg(value_name = "NETWORK")]
    pub(crate) network: String,
}

/// `ctl network inspect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NETWORK [NETWORK...]")]
pub(crate) struct InspectNetworkArgs {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub(crate) format: Option<String>,
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `ctl network ls`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "ctl network ls, ctl network list"
)]
pub(crate) struct NetworksArgs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `ctl network rm`
#[derive(Debug, Args)]
#[command(
    override_usage = "NETWORK [NETWORK...]",
    after_help = "ctl network rm, ctl network remove"
)]
pub(crate) struct RmNetworkArgs {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// `ctl network prune`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]")]
pub(crate) struct PruneNetworksArgs {
    /// Provide filter values (e.g. "until=TIMESTAMP")
    #[arg(long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `ctl network connect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NETWORK CONTAINER")]
pub(crate) struct ConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    pub(crate) ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    pub(crate) ip6: Option<String>,
    #[arg(value_name = "NETWORK")]
    pub(crate) network: String,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `ctl network disconnect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NETWORK CONTAINER")]
pub(crate) struct DisconnectArgs {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(value_name = "NETWORK")]
    pub(crate) network: String,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}
