//! Commands on neither containers nor images alone.

use clap::{Args, ValueEnum};

/// `ctl inspect`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS] NAME|ID [NAME|ID...]")]
pub(crate) struct InspectArgs {
    /// Only inspect objects of the given type ("container", "image")
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
