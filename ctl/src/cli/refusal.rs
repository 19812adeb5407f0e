//! What is wrong with a command line, in Docker's words.
//!
//! Docker tells three things apart: a flag it cannot take (exit code 125), a
//! wrong number of arguments and an unknown command (both 1).

use clap::builder::ValueRange;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};

use super::help;

/// What to print instead of running a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The whole text, with its line breaks.
    pub(crate) text: String,
    /// Help that was asked for goes to stdout, everything else to stderr.
    pub(crate) asked_for: bool,
    /// Exit code.
    pub(crate) code: u8,
}

/// Puts clap's error about `argv` into Docker's words.
pub(crate) fn refuse(root: &Command, argv: &[String], error: &Error) -> Refusal {
    let (path, command) = help::command_of(root, argv);
    match error.kind() {
        ErrorKind::DisplayVersion => {
            let version = root.get_version().unwrap_or_default();
            asked_for(format!("ctl version {version}\n"))
        }
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            asked_for(help::help(&path, command))
        }
        ErrorKind::InvalidSubcommand => {
            let typed = context(error, ContextKind::InvalidSubcommand);
            let text = format!(
                "ctl: unknown command: {path} {typed}\n\nRun '{path} --help' for more information\n"
            );
            Refusal {
                text,
                asked_for: false,
                code: 1,
            }
        }
        _ => match flag_fault(error, command) {
            Some(fault) => with_usage(&fault, &path, command, 125),
            None => {
                let fault = format!("ctl: '{path}' {}", argument_count(command));
                with_usage(&fault, &path, command, 1)
            }
        },
    }
}

fn asked_for(text: String) -> Refusal {
    Refusal {
        text,
        asked_for: true,
        code: 0,
    }
}

fn with_usage(fault: &str, path: &str, command: &Command, code: u8) -> Refusal {
    let usage = help::usage(path, command);
    let text = format!("{fault}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information\n");
    Refusal {
        text,
        asked_for: false,
        code,
    }
}

/// What is wrong with a flag, or `None` when it is the arguments.
fn flag_fault(error: &Error, command: &Command) -> Option<String> {
    let subject = context(error, ContextKind::InvalidArg);
    let subject = subject.split([' ', '=', '[']).next().unwrap_or_default();
    if !subject.starts_with('-') {
        return bad_argument(error);
    }
    let names = command
        .get_arguments()
        .find(|arg| is_named(arg, subject))
        .map_or_else(
            || subject.to_owned(),
            |arg| match (arg.get_short(), arg.get_long()) {
                (Some(short), Some(long)) => format!("-{short}, --{long}"),
                _ => subject.to_owned(),
            },
        );
    let value = context(error, ContextKind::InvalidValue);
    Some(match error.kind() {
        ErrorKind::UnknownArgument => match subject.strip_prefix("--") {
            Some(_) => format!("unknown flag: {subject}"),
            None => {
                let letter = subject.trim_start_matches('-');
                format!("unknown shorthand flag: '{letter}' in {subject}")
            }
        },
        _ if value.is_empty() && error.kind() != ErrorKind::ValueValidation => {
            format!("flag needs an argument: {subject}")
        }
        _ => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let why = why.unwrap_or_else(|| "invalid value".to_owned());
            format!("invalid argument {value:?} for \"{names}\" flag: {why}")
        }
    })
}

/// A value of a positional argument that its parser refused.
fn bad_argument(error: &Error) -> Option<String> {
    let value = context(error, ContextKind::InvalidValue);
    let refused = matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
    );
    (refused && !value.is_empty()).then(|| format!("invalid argument {value:?}"))
}

fn is_named(arg: &Arg, subject: &str) -> bool {
    let long = subject.strip_prefix("--");
    let short = subject
        .strip_prefix('-')
        .and_then(|name| name.chars().next());
    match long {
        Some(name) => arg.get_long() == Some(name),
        None => arg.get_short() == short,
    }
}

/// `requires at least 1 argument` and its kin, from the definitions.
fn argument_count(command: &Command) -> String {
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    let least: usize = positionals
        .iter()
        .filter(|arg| arg.is_required_set())
        .map(|arg| {
            arg.get_num_args()
                .map_or(1, |range| range.min_values().max(1))
        })
        .sum();
    let open = positionals.iter().any(|arg| takes_many(arg));
    let plural = if least == 1 { "" } else { "s" };
    match (positionals.len(), least, open) {
        (0, ..) => "accepts no arguments".to_owned(),
        (most, 0, false) => format!("requires at most {most} argument"),
        (_, least, false) => format!("requires {least} argument{plural}"),
        (_, least, true) => format!("requires at least {least} argument{plural}"),
    }
}

fn takes_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
        || arg
            .get_num_args()
            .is_some_and(|range: ValueRange| range.max_values() > 1)
}

fn context(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    }
}
