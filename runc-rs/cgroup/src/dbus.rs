//! A small D-Bus client: enough to ask systemd for something and to hear when it is done (D-Bus specification 0.43).
//!
//! 1. [`Connection::system`] or [`Connection::user`] finds the bus's socket and connects.
//! 2. The bus learns who we are from the socket itself (`EXTERNAL`).
//! 3. [`Connection::call`] sends a method call and waits for its answer; signals that come meanwhile are kept for
//!    [`Connection::signal`].
//!
//! One thread, one call at a time, a deadline for each. What a peer sends is bounded in size and depth before it is looked at.
//! The zbus crate is not used: it brings an async runtime and a hundred other crates for these few messages.

mod message;
mod wire;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use crate::{Error, Result};

pub(crate) use message::{Kind, Message};
pub(crate) use wire::Value;

/// How long the bus, or systemd behind it, may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// As many signals as are kept unread; none that we ask for comes so often.
const MAX_SIGNALS: usize = 1024;

const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// A connection to a message bus.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
}

impl Connection {
    /// The system's bus.
    pub(crate) fn system() -> Result<Self> {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        let address = address.as_deref().filter(|a| !a.is_empty());
        Self::open(address.unwrap_or(SYSTEM_BUS))
    }

    /// The bus of the user's session.
    pub(crate) fn user() -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        match (set("DBUS_SESSION_BUS_ADDRESS"), set("XDG_RUNTIME_DIR")) {
            (Some(address), _) => Self::open(&address),
            (None, Some(dir)) => Self::open(&format!("unix:path={dir}/bus")),
            (None, None) => Err(Error::refused(
                "find the user's message bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set; log in again, or \
                 install dbus-user-session",
            )),
        }
    }

    fn open(address: &str) -> Result<Self> {
        let about = |e: io::Error| Error::new(format!("connect to message bus {address}"), e);
        let socket = parse_address(address).ok_or_else(|| {
            Error::refused(format!(
                "message bus address {address:?}: expected unix:path=… or unix:abstract=…"
            ))
        })?;
        let stream = UnixStream::connect_addr(&socket).map_err(about)?;
        let mut connection = Self {
            stream,
            serial: 0,
            signals: VecDeque::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        connection.authenticate(deadline).map_err(about)?;
        connection.call(&Message::call(BUS, "Hello", Vec::new()))?;
        Ok(connection)
    }

    /// SASL with `EXTERNAL` and no name: the bus takes the user from the socket, which holds in a user namespace as well.
    fn authenticate(&mut self, deadline: Instant) -> io::Result<()> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        let mut answer = self.line(deadline)?;
        if answer.trim_end() == "DATA" {
            self.stream.write_all(b"DATA\r\n")?;
            answer = self.line(deadline)?;
        }
        if !answer.starts_with("OK") {
            let refused = format!("authentication is answered with {answer:?}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
        }
        self.stream.write_all(b"BEGIN\r\n")
    }

    /// One line of the authentication.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte, deadline)?;
            line.push(byte[0]);
            if line.len() > 4096 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends a method call and returns what is answered. An error that is answered keeps its
    /// name ([`Error::answer`]).
    pub(crate) fn call(&mut self, call: &Message) -> Result<Vec<Value>> {
        self.serial += 1;
        let serial = self.serial;
        let op = || format!("call {} over D-Bus", call.member);
        let bytes = call
            .encode(serial)
            .ok_or_else(|| Error::refused(format!("{}: the message is too long", op())))?;
        let deadline = Instant::now() + PATIENCE;
        self.stream
            .write_all(&bytes)
            .map_err(|e| Error::new(op(), e))?;
        loop {
            let message = self.receive(deadline).map_err(|e| Error::new(op(), e))?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message.body),
                Kind::Error if message.reply_to == serial => {
                    let words = message.body.first().and_then(Value::as_str);
                    return Err(Error::answered(
                        format!("{}: {}", call.member, words.unwrap_or("no reason is given")),
                        message.error,
                    ));
                }
                Kind::Signal if self.signals.len() < MAX_SIGNALS => {
                    self.signals.push_back(message);
                }
                _ => {}
            }
        }
    }

    /// Waits for a signal of which `wanted` says that it is the one; others are dropped.
    pub(crate) fn signal<T>(&mut self, mut wanted: impl FnMut(&Message) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self
                    .receive(deadline)
                    .map_err(|e| Error::new("wait for systemd over D-Bus", e))?,
            };
            if message.kind == Kind::Signal
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Message> {
        let mut start = [0; message::FIXED];
        self.fill(&mut start, deadline)?;
        let rest = message::length_of_rest(&start).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = start.to_vec();
        bytes.resize(message::FIXED + rest, 0);
        self.fill(&mut bytes[message::FIXED..], deadline)?;
        Message::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => buffer = &mut buffer[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The bus itself, as the receiver of a call.
pub(crate) const BUS: message::Target = message::Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

pub(crate) use message::Target;

/// The first unix socket of a list of addresses.
fn parse_address(addresses: &str) -> Option<SocketAddr> {
    addresses.split(';').find_map(|address| {
        let keys = address.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = unescape(value)?;
            match key {
                "path" => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(&value)).ok(),
                "abstract" => SocketAddr::from_abstract_name(&value).ok(),
                _ => None,
            }
        })
    })
}

/// `%2d` is a byte in hexadecimal.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn addresses_name_a_socket() {
        let path = |text: &str| {
            parse_address(text).and_then(|a| a.as_pathname().map(std::path::Path::to_path_buf))
        };
        assert_eq!(
            path("unix:path=/run/user/1000/bus,guid=12"),
            Some("/run/user/1000/bus".into())
        );
        assert_eq!(path("tcp:host=x;unix:path=/a%20b"), Some("/a b".into()));
        assert!(parse_address("unix:abstract=/tmp/x").is_some());
        assert!(parse_address("unix:path=/a%2").is_none());
        assert!(parse_address("tcp:host=x").is_none());
    }

    /// What a client says of a bus that answers with these bytes and is gone.
    fn against(answers: &'static [u8]) -> Result<Connection> {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("bus");
        let listener = UnixListener::bind(&place).unwrap();
        let bus = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut asked = [0; 64];
            let _seen = peer.read(&mut asked).unwrap();
            peer.write_all(answers).unwrap();
        });
        let result = Connection::open(&format!("unix:path={}", place.display()));
        bus.join().unwrap();
        result
    }

    #[test]
    fn a_bus_that_refuses_or_talks_nonsense_is_an_error() {
        assert!(against(b"REJECTED\r\n").unwrap_err().is_permission());
        assert!(against(b"OK 12\r\n").is_err());
        assert!(
            against(b"OK 12\r\nl\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff")
                .is_err()
        );
        assert!(against(b"OK 12\r\nnonsense nonsense nonsense nonsense").is_err());
    }
}
