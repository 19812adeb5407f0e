//! Commands on neither containers nor images alone.

use clap::{Args, ValueEnum};

use crate::parse::moment::Moment;

/// `ctl inspect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NAME|ID [NAME|ID...]")]
pub(crate) struct InspectArgs {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Only inspect objects of the given type ("container", "image", "network", "volume")
    #[arg(long = "type", value_name = "string")]
    pub(crate) kind: Option<String>,
    #[arg(required = true, value_name = "NAME|ID")]
    pub(crate) objects: Vec<String>,
}

/// `ctl completion`
#[derive(Debug, Args)]
#[command(override_usage = "bash|fish|zsh")]
pub(crate) struct CompletionArgs {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// The shells there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// fish
    Fish,
    /// zsh
    Zsh,
}

/// `ctl events`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "ctl system events, ctl events"
)]
pub(crate) struct EventsArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", action = clap::ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    pub(crate) since: Option<Moment>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    pub(crate) until: Option<Moment>,
}
