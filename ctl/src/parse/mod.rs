//! What was typed, as values. Pure functions: the environment and files are
//! handed in, and what was not typed stays absent.

pub(crate) mod detach_keys;
pub(crate) mod environment;
pub(crate) mod host;
pub(crate) mod size;

pub(crate) mod moment;
pub(crate) mod mount;
pub(crate) mod network;

use std::str::FromStr;

/// A switch's value, by the rules of Go's `strconv.ParseBool`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("parsing {text:?}: invalid syntax")),
    }
}

/// `KEY=VALUE`, or `KEY` with an empty value, as labels are written.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// When `run` and `create` pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Before every create.
    Always,
    /// When the daemon has no such image.
    Missing,
    /// Not at all.
    Never,
}

impl FromStr for Pull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "missing" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            _ => Err("must be one of \"always\", \"missing\" or \"never\"".to_owned()),
        }
    }
}

/// A stream that `--attach` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    Stdin,
    Stdout,
    Stderr,
}

impl FromStr for Attach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => Ok(Self::Stdin),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
        }
    }
}

/// Seconds of a stop timeout; a negative number means to wait for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignedSeconds(pub(crate) i32);

impl FromStr for SignedSeconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("parsing {text:?}: invalid syntax"))
    }
}

/// `--tail`: a number of lines, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// `all`, and as in Docker any negative number.
    All,
    /// Only so many.
    Lines(i64),
}

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<i64>()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(lines)) if lines >= 0 => Ok(Self::Lines(lines)),
            (_, Ok(_)) => Ok(Self::All),
            (_, Err(_)) => Err("expected a number of lines or \"all\"".to_owned()),
        }
    }
}

/// Whether a reference names neither a tag nor a digest, so that the daemon
/// will take its default tag. A colon before the last slash is a port.
pub(crate) fn has_default_tag(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or_default();
    !last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_gos() {
        assert_eq!(switch("T"), Ok(true));
        assert_eq!(switch("0"), Ok(false));
        assert!(switch("yes").is_err());
    }

    #[test]
    fn labels_split_at_the_first_equals_sign() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a"), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
    }

    #[test]
    fn tail_takes_all_and_numbers() {
        assert_eq!("all".parse(), Ok(Tail::All));
        assert_eq!("7".parse(), Ok(Tail::Lines(7)));
        assert_eq!("-1".parse(), Ok(Tail::All));
        assert!("x".parse::<Tail>().is_err());
    }

    #[test]
    fn default_tags() {
        assert!(has_default_tag("busybox"));
        assert!(has_default_tag("localhost:5000/busybox"));
        assert!(!has_default_tag("busybox:1"));
        assert!(!has_default_tag("a/b@sha256:00"));
    }
}
