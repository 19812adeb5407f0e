//! Help in runc's shape, under the name that the program was called by: installed as `runc` it says so.

use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// The last part of the name we were called by.
pub(super) fn own_name() -> String {
    std::env::args_os()
        .next()
        .and_then(|path| {
            let name = std::path::Path::new(&path).file_name()?;
            Some(name.to_string_lossy().into_owned())
        })
        .unwrap_or_else(|| "runc-rs".to_owned())
}

/// The command line with its help in runc's shape.
pub(super) fn command() -> Command {
    shaped(&own_name())
}

fn shaped(name: &str) -> Command {
    Cli::command()
        .bin_name(name)
        .help_template(format!(
            "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {{usage}}\n\n{{all-args}}"
        ))
        .mut_subcommands(|sub| {
            let heading = format!("{name} {}", sub.get_name());
            sub.help_template(format!(
                "NAME:\n   {heading} - {{about}}\n\nUSAGE:\n   {{usage}}\n\n{{all-args}}"
            ))
        })
}

/// Says what clap has to say: help, or what is wrong with the command line.
pub(super) fn tell(error: &clap::Error) -> std::io::Result<()> {
    match error.kind() {
        ErrorKind::DisplayHelp => match command().try_get_matches_from(std::env::args_os()) {
            Err(shaped) => shaped.print(),
            Ok(_) => error.print(),
        },
        ErrorKind::InvalidSubcommand => match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(word)) => {
                writeln!(std::io::stderr(), "No help topic for '{word}'")
            }
            _ => error.print(),
        },
        _ => error.print(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_the_command_in_runcs_shape() {
        let help = |line: &str| {
            let error = shaped("runc")
                .try_get_matches_from(line.split(' '))
                .unwrap_err();
            error.to_string()
        };
        assert!(
            help("runc -h").starts_with("NAME:\n   runc - Open Container Initiative runtime\n")
        );
        let create = help("runc create --help");
        assert!(create.starts_with("NAME:\n   runc create - "), "{create}");
        assert!(create.contains("--pid-file"));
    }
}
