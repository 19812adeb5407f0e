//! Where a process's input and output go, as the daemon names it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

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
    /// A logging program of somebody else's.
    Logger(LoggerUri),
    /// A log and clients that attach.
    Session(SessionUri),
}

/// The parts of a `binary://` or `binary-v2://` URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggerUri {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments: each key of the query, followed by its value.
    pub(crate) args: Vec<String>,
    /// Whether it has to say that it is ready by a byte (`binary-v2`).
    pub(crate) strict: bool,
}

/// The parts of a `session://` URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionUri {
    /// Where clients attach.
    pub(crate) socket: PathBuf,
    /// Where the output is kept.
    pub(crate) log: LogUri,
    /// Whether input ends with the first client that leaves.
    pub(crate) stdin_once: bool,
}

/// Where a session's output is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogUri {
    /// Nowhere.
    None,
    /// In a file of JSON lines.
    Json(JsonLogUri),
    /// In a file of Kubernetes' lines.
    Cri(PathBuf),
    /// In systemd's journal.
    Journald(JournaldUri),
    /// With a syslog daemon, here or elsewhere.
    Syslog(SyslogUri),
}

/// A file of JSON lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonLogUri {
    /// The file.
    pub(crate) path: PathBuf,
    /// Rotate when the log would grow past this.
    pub(crate) max_size: Option<u64>,
    /// How many logs to keep, the current one included.
    pub(crate) max_file: u32,
}

/// A journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournaldUri {
    /// The journal's socket: each of its namespaces has one of its own.
    pub(crate) socket: PathBuf,
    /// Fields of every entry, such as `CONTAINER_NAME`.
    pub(crate) fields: Vec<(String, String)>,
}

/// A syslog daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyslogUri {
    /// Where it listens.
    pub(crate) address: SyslogAddress,
    /// What its messages are called.
    pub(crate) tag: String,
    /// The facility's number.
    pub(crate) facility: u8,
    /// How messages begin.
    pub(crate) format: SyslogFormat,
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SyslogAddress {
    /// A unix socket, of datagrams or, where those are refused, a stream.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
    /// TCP.
    Tcp(SocketAddr),
}

/// How a syslog message begins; the names are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyslogFormat {
    /// As programs of the same machine write it: no host name.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, in seconds or in microseconds.
    Rfc5424 {
        /// Whether times have microseconds.
        micro: bool,
    },
}

/// A log of JSON lines grows to this unless told otherwise.
const MAX_LOG_BYTES: u64 = 10 << 20;

/// And that many of them are kept.
const MAX_LOG_FILES: u32 = 3;

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Syslog's facilities, by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

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
        Some(("binary", rest)) => logger(uri, rest, false).map(Target::Logger),
        Some(("binary-v2", rest)) => logger(uri, rest, true).map(Target::Logger),
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

/// The query of a URI, decoded, in its order.
fn pairs(query: &str) -> Result<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

fn logger(uri: &str, rest: &str, strict: bool) -> Result<LoggerUri> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A blank may be written as a plus in a query.
    let mut given: Vec<(String, String)> = Vec::new();
    for (key, value) in pairs(&query.replace('+', " "))? {
        // As for containerd, of equal keys the first counts.
        if !given.iter().any(|(other, _)| *other == key) {
            given.push((key, value));
        }
    }
    Ok(LoggerUri {
        program: absolute(uri, path)?,
        args: given.into_iter().flat_map(|(k, v)| [k, v]).collect(),
        strict,
    })
}

/// The parameters of a session, as they are found.
#[derive(Default)]
struct Parameters {
    driver: Option<String>,
    log: Option<PathBuf>,
    max_size: Option<u64>,
    max_file: Option<u32>,
    stdin_once: bool,
    socket: Option<PathBuf>,
    fields: Vec<(String, String)>,
    address: Option<SyslogAddress>,
    tag: String,
    facility: Option<u8>,
    format: Option<SyslogFormat>,
}

fn session(uri: &str, rest: &str) -> Result<SessionUri> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut found = Parameters::default();
    for (key, value) in pairs(query)? {
        if !found.take(uri, &key, value)? {
            return Err(Failure::invalid(format!(
                "unknown parameter {key:?} in {uri:?}"
            )));
        }
    }
    Ok(SessionUri {
        socket: absolute(uri, path)?,
        stdin_once: found.stdin_once,
        log: found.log(uri)?,
    })
}

impl Parameters {
    /// Takes in one parameter; false if it is none.
    fn take(&mut self, uri: &str, key: &str, value: String) -> Result<bool> {
        let bad = |expected: &str| {
            Failure::invalid(format!("{key}={value:?} in {uri:?}: expected {expected}"))
        };
        match key {
            "driver" => self.driver = Some(value),
            "log" => self.log = Some(absolute(uri, &value)?),
            "max-size" => self.max_size = Some(value.parse().map_err(|_| bad("a number"))?),
            "max-file" => self.max_file = Some(value.parse().map_err(|_| bad("a number"))?),
            "stdin" if value == "once" => self.stdin_once = true,
            "stdin" if value == "keep" => self.stdin_once = false,
            "stdin" => return Err(bad("once or keep")),
            "journal" => self.socket = Some(absolute(uri, &value)?),
            "field" => {
                let field = value.split_once('=').filter(|(name, _)| is_field(name));
                let (name, text) = field.ok_or_else(|| bad("NAME=value, as the journal has it"))?;
                self.fields.push((name.to_owned(), text.to_owned()));
            }
            "tag" => self.tag = value,
            "syslog-address" => {
                let address = syslog_address(&value);
                let expected = "unix, unixgram, udp or tcp, and a path or an IP address with port";
                self.address = Some(address.ok_or_else(|| bad(expected))?);
            }
            "syslog-facility" => {
                let number = FACILITIES.iter().position(|name| *name == value);
                let number = number.or_else(|| value.parse().ok().filter(|n| *n < 24));
                let number = number.and_then(|number| u8::try_from(number).ok());
                self.facility = Some(number.ok_or_else(|| bad("a facility of syslog"))?);
            }
            "syslog-format" => {
                self.format = Some(match value.as_str() {
                    "" => SyslogFormat::Local,
                    "rfc3164" => SyslogFormat::Rfc3164,
                    "rfc5424" => SyslogFormat::Rfc5424 { micro: false },
                    "rfc5424micro" => SyslogFormat::Rfc5424 { micro: true },
                    _ => return Err(bad("rfc3164, rfc5424 or rfc5424micro")),
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn log(self, uri: &str) -> Result<LogUri> {
        Ok(match self.driver.as_deref() {
            None | Some("json-file") => match self.log {
                None => LogUri::None,
                Some(path) => LogUri::Json(JsonLogUri {
                    path,
                    max_size: Some(self.max_size.unwrap_or(MAX_LOG_BYTES)).filter(|&size| size > 0),
                    max_file: self.max_file.unwrap_or(MAX_LOG_FILES).max(1),
                }),
            },
            Some("cri") => match self.log {
                None => {
                    return Err(Failure::invalid(format!(
                        "driver cri in {uri:?} needs a log"
                    )));
                }
                Some(path) => LogUri::Cri(path),
            },
            Some("none") => LogUri::None,
            Some("journald") => LogUri::Journald(JournaldUri {
                socket: self.socket.unwrap_or_else(|| JOURNAL_SOCKET.into()),
                fields: self.fields,
            }),
            Some("syslog") => LogUri::Syslog(SyslogUri {
                address: self
                    .address
                    .unwrap_or_else(|| SyslogAddress::Unix("/dev/log".into())),
                tag: self.tag,
                // "daemon", as Docker has it.
                facility: self.facility.unwrap_or(3),
                format: self.format.unwrap_or(SyslogFormat::Local),
            }),
            Some(other) => {
                return Err(Failure::invalid(format!(
                    "driver {other:?} in {uri:?}: expected json-file, cri, journald, syslog or none"
                )));
            }
        })
    }
}

/// Whether the journal takes `name` from a client.
fn is_field(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(allowed)
}

/// An address as Docker's `syslog-address` has it. Names of hosts are not
/// resolved here: nothing may hold up a shim.
fn syslog_address(text: &str) -> Option<SyslogAddress> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        "unix" | "unixgram" => Path::new(rest)
            .is_absolute()
            .then(|| SyslogAddress::Unix(rest.into())),
        "udp" => with_port(rest).map(SyslogAddress::Udp),
        "tcp" => with_port(rest).map(SyslogAddress::Tcp),
        _ => None,
    }
}

fn with_port(text: &str) -> Option<SocketAddr> {
    const SYSLOG: u16 = 514;
    let alone = || text.parse::<IpAddr>().ok().map(|ip| (ip, SYSLOG).into());
    text.parse().ok().or_else(alone)
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
            log: LogUri::Json(JsonLogUri {
                path: "/l/x y.log".into(),
                max_size: Some(10),
                max_file: 3,
            }),
            stdin_once: true,
        };
        assert_eq!(parse(uri).unwrap(), Target::Session(expected));
    }

    fn log(query: &str) -> LogUri {
        match parse(&format!("session:///s?{query}")) {
            Ok(Target::Session(session)) => session.log,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn logs_are_bounded_unless_told_otherwise() {
        let json = |max_size, max_file| {
            LogUri::Json(JsonLogUri {
                path: "/l".into(),
                max_size,
                max_file,
            })
        };
        assert_eq!(log("log=/l"), json(Some(10 << 20), 3));
        assert_eq!(log("log=/l&max-size=0&max-file=0"), json(None, 1));
        assert_eq!(
            log("driver=json-file&log=/l&max-file=7"),
            json(Some(10 << 20), 7)
        );
        assert_eq!(log(""), LogUri::None);
        assert_eq!(log("driver=none&log=/l"), LogUri::None);
    }

    #[test]
    fn other_drivers_have_their_parameters() {
        let journald = JournaldUri {
            socket: "/j".into(),
            fields: vec![("CONTAINER_NAME".into(), "a=b".into())],
        };
        assert_eq!(
            log("driver=journald&journal=/j&field=CONTAINER_NAME%3Da%3Db"),
            LogUri::Journald(journald)
        );
        let syslog = SyslogUri {
            address: SyslogAddress::Tcp("[::1]:601".parse().unwrap()),
            tag: "web".into(),
            facility: 17,
            format: SyslogFormat::Rfc5424 { micro: true },
        };
        assert_eq!(
            log(
                "driver=syslog&tag=web&syslog-address=tcp://[::1]:601&syslog-facility=local1\
                 &syslog-format=rfc5424micro"
            ),
            LogUri::Syslog(syslog)
        );
        let LogUri::Syslog(usual) = log("driver=syslog") else {
            panic!("no syslog")
        };
        assert_eq!(
            (usual.address, usual.facility),
            (SyslogAddress::Unix("/dev/log".into()), 3)
        );
        let LogUri::Syslog(udp) = log("driver=syslog&syslog-address=udp://10.0.0.1") else {
            panic!("no syslog")
        };
        assert_eq!(
            udp.address,
            SyslogAddress::Udp("10.0.0.1:514".parse().unwrap())
        );
    }

    #[test]
    fn a_loggers_arguments_are_the_query_in_its_order() {
        let logger = |uri: &str| match parse(uri) {
            Ok(Target::Logger(logger)) => logger,
            other => panic!("{other:?}"),
        };
        let v1 = logger("binary:///bin/logger?-z=1+2&-a&-z=3&file=/x%26y");
        assert_eq!(v1.program, Path::new("/bin/logger"));
        assert_eq!(v1.args, ["-z", "1 2", "-a", "", "file", "/x&y"]);
        assert!(!v1.strict && logger("binary-v2:///bin/logger").strict);
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
            "session:///s?driver=gelf",
            "session:///s?field=lower%3Dx",
            "session:///s?field=NOVALUE",
            "session:///s?syslog-address=udp://host.name:514",
            "session:///s?syslog-facility=news9",
            "session:///s?syslog-format=rfc1",
            "binary://logger",
        ];
        for uri in bad {
            assert!(parse(uri).is_err(), "{uri}");
        }
    }
}
