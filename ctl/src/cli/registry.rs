//! Commands on registries.

use clap::{ArgAction, Args};

/// `ctl push`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] NAME[:TAG]",
    after_help = "ctl image push, ctl push"
)]
pub(crate) struct PushArgs {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(value_name = "NAME")]
    pub(crate) reference: String,
}

/// `ctl login`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] [SERVER]")]
pub(crate) struct LoginArgs {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    pub(crate) password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Keep the credentials readable in the configuration file where no helper does
    #[arg(long)]
    pub(crate) plain_text: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    pub(crate) username: Option<String>,
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// `ctl logout`
#[derive(Debug, Args)]
#[command(override_usage = "[SERVER]")]
pub(crate) struct LogoutArgs {
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// `ctl search`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] TERM")]
pub(crate) struct SearchArgs {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int")]
    pub(crate) limit: Option<u32>,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[arg(value_name = "TERM")]
    pub(crate) term: String,
}
