//! `ctl completion`: a script for the shell to read.

use super::DONE;
use crate::cli::system::{CompletionArgs, Shell};
use crate::cli::{self};
use crate::failure::Failure;
use crate::out;

/// Runs the command.
pub(crate) fn run(args: &CompletionArgs) -> Result<u8, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "ctl", &mut script);
    out::text(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
