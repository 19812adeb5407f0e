//! Commands on neither containers nor images alone.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Name of the hidden command behind [`LaunchArgs`].
pub(crate) const LAUNCH: &str = "launch-daemon";

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

/// What starting the daemon runs in between: a new process can make itself
/// the leader of a new session and then become the daemon, where doing so
/// between fork and exec would need unsafe code.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The daemon's executable
    pub(crate) program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true)]
    pub(crate) args: Vec<std::ffi::OsString>,
}
