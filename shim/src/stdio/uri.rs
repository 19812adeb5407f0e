//! Where a process's input and output go, as the daemon names it.

use std::path::{Path, PathBuf};

use ttrpc_wire::Code;

use crate::failure::{Failure, Result};

/// The stdio of one process, as requested and as `State` repeats it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StdioUris {
    /// Where input comes from.
    pub(crate) stdin: String,
    /// Where output goes.
    pub(crate) stdout: String,
    /// Where errors go.
    pub(crate) stderr: String,
    /// Whether all three are one terminal.
    pub(crate) terminal: bool,
}

/// One end of a process's stdio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/dev/null`.
    Null,
    /// A named pipe, or a file that exists.
    Path(PathBuf),
    /// A file to append to, created if need be.
    File(PathBuf),
    /// A log and clients that attach.
    Session(SessionUri),
}

/// The parts of a `session://` URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionUri {
    /// Where clients attach.
    pub(crate) socket: PathBuf,
    /// The json-file log, if there is to be one.
    pub(crate) log: Option<PathBuf>,
    /// Rotate when the log would grow past this.
    pub(crate) max_size: Option<u64>,
    /// How many logs to keep, the current one included.
    pub(crate) max_file: u32,
    /// Whether input ends with the first client that leaves.
    pub(crate) stdin_once: bool,
}

/// Parses one URI.
pub(crate) fn parse(uri: &str) -> Result<Target> {
    if uri.is_empty() {
        return Ok(Target::Null);
    }
    if uri.starts_with('/') {
        return Ok(Target::Path(uri.into()));
    }
    match uri.split_once("://") {
        Some(("fifo", path)) => Ok(Target::Path(absolute(uri, path)?)),
        Some(("file", path)) => Ok(Target::File(absolute(uri, path)?)),
        Some(("session", rest)) => session(uri, rest).map(Target::Session),
        Some(("binary" | "binary-v2", _)) => Err(Failure::new(
            Code::Unimplemented,
            format!("logging binary {uri}"),
        )),
        Some((scheme, _)) => Err(Failure::invalid(format!("unknown STDIO scheme {scheme}"))),
        None => Err(Failure::invalid(format!(
            "stdio {uri:?} is neither an absolute path nor a URI"
        ))),
    }
}

fn absolute(uri: &str, path: &str) -> Result<PathBuf> {
    let path = decode(path.split('?').next().unwrap_or_default())?;
    if Path::new(&path).is_absolute() {
        Ok(path.into())
    } else {
        Err(Failure::invalid(format!("path of {uri:?} is not absolute")))
    }
}

fn session(uri: &str, rest: &str) -> Result<SessionUri> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut session = SessionUri {
        socket: absolute(uri, path)?,
        log: None,
        max_size: None,
        max_file: 1,
        stdin_once: false,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value)?;
        let number = || {
            value.parse::<u64>().map_err(|_| {
                Failure::invalid(format!("{key}={value:?} in {uri:?} is not a number"))
            })
        };
        match key {
            "log" => session.log = Some(absolute(uri, &value)?),
            "max-size" => session.max_size = Some(number()?).filter(|&size| size > 0),
            "max-file" => session.max_file = u32::try_from(number()?).unwrap_or(u32::MAX).max(1),
            "stdin" if value == "once" => session.stdin_once = true,
            "stdin" if value == "keep" => session.stdin_once = false,
            _ => {
                return Err(Failure::invalid(format!(
                    "unknown parameter {pair:?} in {uri:?}"
                )));
            }
        }
    }
    Ok(session)
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: Vec<u8> = rest.by_ref().take(2).collect();
            let decoded = std::str::from_utf8(&digits)
                .ok()
                .filter(|d| d.len() == 2)
                .and_then(|d| u8::from_str_radix(d, 16).ok());
            bytes
                .push(decoded.ok_or_else(|| {
                    Failure::invalid(format!("bad percent encoding in {text:?}"))
                })?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid(format!("stdio {text:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_has_its_target() {
        assert_eq!(parse("").unwrap(), Target::Null);
        assert_eq!(
            parse("/run/x-stdout").unwrap(),
            Target::Path("/run/x-stdout".into())
        );
        assert_eq!(
            parse("file:///var/log/x").unwrap(),
            Target::File("/var/log/x".into())
        );
        let uri = "session:///s/a.sock?log=/l/x%20y.log&max-size=10&max-file=3&stdin=once";
        let expected = SessionUri {
            socket: "/s/a.sock".into(),
            log: Some("/l/x y.log".into()),
            max_size: Some(10),
            max_file: 3,
            stdin_once: true,
        };
        assert_eq!(parse(uri).unwrap(), Target::Session(expected));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = [
            "x",
            "file://x",
            "ftp:///x",
            "session://x",
            "session:///s?max-size=big",
            "session:///s?what=1",
            "session:///s?log=%zz",
            "session:///s?stdin=x",
        ];
        for uri in bad {
            assert!(parse(uri).is_err(), "{uri}");
        }
        let status: ttrpc_wire::Status = parse("binary:///bin/logger").unwrap_err().into();
        assert_eq!(status.code, Code::Unimplemented);
    }
}
