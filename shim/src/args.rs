//! The command line, which containerd fixed: Go's flag syntax (`-flag value`,
//! `-flag=value`, one dash or two), then at most one action.

use std::fmt;
use std::path::PathBuf;

/// What the shim was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a serving shim for the bundle in the current directory.
    Start,
    /// Clean up after a shim that died.
    Delete,
    /// Be the shim.
    Serve,
    /// Print the version.
    Version,
    /// Print what the runtime can do, as protobuf.
    Info,
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    /// What to do.
    pub(crate) action: Action,
    /// containerd's tenant.
    pub(crate) namespace: String,
    /// The container, or the first one of a pod.
    pub(crate) id: String,
    /// containerd's own socket.
    pub(crate) address: String,
    /// The bundle; empty means the current directory.
    pub(crate) bundle: PathBuf,
    /// Where to listen, when it is not to be derived.
    pub(crate) socket: PathBuf,
    /// Say more.
    pub(crate) debug: bool,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadArgs {
    /// No such flag.
    UnknownFlag(String),
    /// The flag needs a value.
    NoValue(String),
    /// No such action.
    UnknownAction(String),
    /// The action needs this flag.
    Missing(&'static str),
}

impl fmt::Display for BadArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFlag(flag) => write!(f, "flag provided but not defined: {flag}"),
            Self::NoValue(flag) => write!(f, "flag needs an argument: {flag}"),
            Self::UnknownAction(action) => {
                write!(f, "unknown action {action:?}: expected start or delete")
            }
            Self::Missing("namespace") => f.write_str("shim namespace cannot be empty"),
            Self::Missing(flag) => write!(f, "flag -{flag} is required"),
        }
    }
}

impl std::error::Error for BadArgs {}

/// Parses the arguments after the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Args, BadArgs> {
    let mut args = Args {
        action: Action::Serve,
        namespace: String::new(),
        id: String::new(),
        address: String::new(),
        bundle: PathBuf::new(),
        socket: PathBuf::new(),
        debug: false,
    };
    let mut words = words.into_iter();
    let mut action = None;
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            action = Some(word);
            break;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "debug" => args.debug = inline.is_none_or(|value| value == "true" || value == "1"),
            "v" | "version" => args.action = Action::Version,
            "info" => args.action = Action::Info,
            "namespace" | "id" | "address" | "publish-binary" | "bundle" | "socket"
            | "debug-socket" => {
                let value = inline
                    .or_else(|| words.next())
                    .ok_or_else(|| BadArgs::NoValue(word.clone()))?;
                match name {
                    "namespace" => args.namespace = value,
                    "id" => args.id = value,
                    "address" => args.address = value,
                    "bundle" => args.bundle = value.into(),
                    "socket" => args.socket = value.into(),
                    // Events go over ttrpc; the binary is for shims without it.
                    _ => {}
                }
            }
            _ => return Err(BadArgs::UnknownFlag(word)),
        }
    }
    if matches!(args.action, Action::Version | Action::Info) {
        return Ok(args);
    }
    args.action = match action.as_deref() {
        Some("start") => Action::Start,
        Some("delete") => Action::Delete,
        None | Some("") => Action::Serve,
        Some(other) => return Err(BadArgs::UnknownAction(other.to_owned())),
    };
    if args.namespace.is_empty() {
        return Err(BadArgs::Missing("namespace"));
    }
    if args.id.is_empty() {
        return Err(BadArgs::Missing("id"));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, BadArgs> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_start_command_line_parses() {
        let args =
            parsed("-namespace default -address /a.sock -publish-binary /c -id web -debug start")
                .unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!(
            (
                args.namespace.as_str(),
                args.id.as_str(),
                args.address.as_str()
            ),
            ("default", "web", "/a.sock")
        );
        assert!(args.debug);
    }

    #[test]
    fn both_dashes_and_equals_signs_are_gos() {
        let args = parsed("--namespace=ns -id=x --bundle=/b delete").unwrap();
        assert_eq!(
            (args.action, args.bundle),
            (Action::Delete, PathBuf::from("/b"))
        );
        assert_eq!(parsed("-namespace n -id x").unwrap().action, Action::Serve);
        assert_eq!(parsed("-v").unwrap().action, Action::Version);
        assert_eq!(parsed("-info").unwrap().action, Action::Info);
    }

    #[test]
    fn nonsense_is_told() {
        assert_eq!(
            parsed("-nope start"),
            Err(BadArgs::UnknownFlag("-nope".into()))
        );
        assert_eq!(parsed("-id"), Err(BadArgs::NoValue("-id".into())));
        assert_eq!(
            parsed("-namespace n -id x stop"),
            Err(BadArgs::UnknownAction("stop".into()))
        );
        assert_eq!(parsed("-id x start"), Err(BadArgs::Missing("namespace")));
        assert_eq!(parsed("-namespace n start"), Err(BadArgs::Missing("id")));
    }
}
