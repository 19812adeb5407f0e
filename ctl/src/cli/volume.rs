//! Commands on volumes.

use clap::{ArgAction, Args, Subcommand};

use crate::parse::key_value;

/// `ctl volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeAction {
    /// Create a volume
    Create(CreateVolumeArgs),
    /// Display detailed information on one or more volumes
    Inspect(InspectVolumeArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(VolumesArgs),
    /// Remove unused local volumes
    Prune(PruneVolumesArgs),
    /// Remove one or more volumes
    #[command(visible_alias = "remove")]
    Rm(RmVolumeArgs),
}

/// `ctl volume create`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] [VOLUME]")]
pub(crate) struct CreateVolumeArgs {
    /// Specify volume driver name (default "local")
    #[arg(short, long, value_name = "string")]
    pub(crate) driver: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) label: Vec<(String, String)>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    pub(crate) name: Option<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) opt: Vec<(String, String)>,
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: Option<String>,
}

/// `ctl volume inspect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] VOLUME [VOLUME...]")]
pub(crate) struct InspectVolumeArgs {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub(crate) format: Option<String>,
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
}

/// `ctl volume ls`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "ctl volume ls, ctl volume list"
)]
pub(crate) struct VolumesArgs {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `ctl volume rm`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] VOLUME [VOLUME...]",
    after_help = "ctl volume rm, ctl volume remove"
)]
pub(crate) struct RmVolumeArgs {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
}

/// `ctl volume prune`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]")]
pub(crate) struct PruneVolumesArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Provide filter values (e.g. "label=LABEL")
    #[arg(long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}
