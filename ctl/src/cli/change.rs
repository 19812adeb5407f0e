//! Commands that change containers or watch them at work.

use clap::{ArgAction, Args};

use super::host::LimitFlags;
use crate::parse::SignedSeconds;

/// `ctl pause`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER [CONTAINER...]",
    after_help = "ctl container pause, ctl pause"
)]
pub(crate) struct PauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl unpause`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER [CONTAINER...]",
    after_help = "ctl container unpause, ctl unpause"
)]
pub(crate) struct UnpauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl restart`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container restart, ctl restart"
)]
pub(crate) struct RestartArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    pub(crate) signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(
        short = 't',
        long,
        alias = "time",
        value_name = "int",
        allow_negative_numbers = true
    )]
    pub(crate) timeout: Option<SignedSeconds>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl rename`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER NEW_NAME",
    after_help = "ctl container rename, ctl rename"
)]
pub(crate) struct RenameArgs {
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    #[arg(value_name = "NEW_NAME")]
    pub(crate) name: String,
}

/// `ctl update`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container update, ctl update"
)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl top`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER [ps OPTIONS]",
    after_help = "ctl container top, ctl top"
)]
pub(crate) struct TopArgs {
    /// The container, then arguments of ps.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, num_args = 1.., value_name = "CONTAINER")]
    pub(crate) container_and_options: Vec<String>,
}

/// `ctl stats`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] [CONTAINER...]",
    after_help = "ctl container stats, ctl stats"
)]
pub(crate) struct StatsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl container prune`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]")]
pub(crate) struct PruneContainersArgs {
    /// Provide filter values (e.g. "until=TIMESTAMP")
    #[arg(long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `ctl commit`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    after_help = "ctl container commit, ctl commit"
)]
pub(crate) struct CommitArgs {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    pub(crate) author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    pub(crate) message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short, long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::parse::switch)]
    pub(crate) pause: Option<bool>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    #[arg(value_name = "REPOSITORY")]
    pub(crate) reference: Option<String>,
}

/// `ctl port`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER [PRIVATE_PORT[/PROTO]]",
    after_help = "ctl container port, ctl port"
)]
pub(crate) struct PortArgs {
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    #[arg(value_name = "PRIVATE_PORT")]
    pub(crate) port: Option<String>,
}
