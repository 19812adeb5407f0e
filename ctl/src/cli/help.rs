//! Usage texts in Docker's layout.
//!
//! clap's own layout differs in the headings, in how a value is named and in
//! listing `--rm[=<RM>]` for a switch, so the few lines are made here.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Columns a help text fills, as Docker's where it cannot ask a terminal.
const WIDTH: usize = 80;

/// Follows the words of `argv` through the subcommands of `root`, past
/// options. Returns the typed path (`ctl image ls`) and the command.
pub(crate) fn command_of<'a>(root: &'a Command, argv: &[String]) -> (String, &'a Command) {
    let mut path = root.get_name().to_owned();
    let mut at = root;
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "-H" || word == "--host" {
            words.next();
            continue;
        }
        if word.starts_with('-') || (word == "help" && at.get_name() == root.get_name()) {
            continue;
        }
        let Some(next) = at.find_subcommand(word) else {
            break;
        };
        at = next;
        let _ = write!(path, " {word}");
        if !at.has_subcommands() {
            break;
        }
    }
    (path, at)
}

/// The path as typed and the command's shape after it, which the definitions
/// keep as clap's usage: `ctl image ls [OPTIONS] [REPOSITORY[:TAG]]`.
pub(crate) fn usage(path: &str, command: &Command) -> String {
    let shape = command.clone().render_usage().to_string();
    let shape = shape.trim_start_matches("Usage:").trim();
    format!("{path} {shape}").trim_end().to_owned()
}

/// The whole help text of one command.
pub(crate) fn help(path: &str, command: &Command) -> String {
    let mut text = format!("Usage:  {}\n", usage(path, command));
    if let Some(about) = command.get_about() {
        let _ = write!(text, "\n{about}\n");
    }
    if let Some(aliases) = command.get_after_help() {
        let _ = write!(text, "\nAliases:\n  {aliases}\n");
    }
    let subcommands: Vec<(String, String)> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| {
            (
                sub.get_name().to_owned(),
                sub.get_about().map(ToString::to_string),
            )
        })
        .map(|(name, about)| (name, about.unwrap_or_default()))
        .collect();
    section(&mut text, "Commands", &subcommands);
    let mut options: Vec<(String, String)> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .map(|arg| {
            (
                flag(arg),
                arg.get_help().map(ToString::to_string).unwrap_or_default(),
            )
        })
        .collect();
    options.sort_by_key(|(flag, _)| flag.split("--").nth(1).unwrap_or_default().to_owned());
    let title = if path.contains(' ') {
        "Options"
    } else {
        "Global Options"
    };
    section(&mut text, title, &options);
    if command.has_subcommands() {
        let _ = write!(
            text,
            "\nRun '{path} COMMAND --help' for more information on a command.\n"
        );
    }
    text
}

/// `-e, --env list`, with the short form's place left blank where there is none.
fn flag(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let names = match arg.get_short() {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("    --{long}"),
    };
    let is_switch = !arg.get_action().takes_values()
        || arg
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0);
    match arg.get_value_names() {
        Some([name, ..]) if !is_switch => format!("{names} {name}"),
        _ => names,
    }
}

fn section(text: &mut String, title: &str, rows: &[(String, String)]) {
    let column = rows
        .iter()
        .map(|(left, _)| left.len())
        .max()
        .unwrap_or_default()
        + 3;
    if column > 3 {
        let _ = write!(text, "\n{title}:\n");
    }
    for (left, right) in rows {
        let lines = wrap(right, WIDTH.saturating_sub(column + 2));
        let indent = format!("\n{:1$}", "", column + 2);
        let _ = writeln!(text, "  {left:column$}{}", lines.join(&indent));
    }
}

/// Words of `text` in lines of at most `width`, or of one longer word.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
