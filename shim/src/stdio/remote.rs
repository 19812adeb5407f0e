//! Sends lines to a log that somebody else keeps: the journal or a syslog daemon.
//!
//! A receiver that is slow holds up the container, as a full pipe does. One
//! that is away is tried again with the next line, and what cannot be sent is
//! dropped: said once for each row of losses, with their number at its end.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::sync::Mutex;

use super::lines::{Lines, Output};
use super::uri::{JournaldUri, SyslogAddress, SyslogUri};
use super::{journald, syslog};
use crate::failure::warn;

/// How long a receiver elsewhere may take to be reached, or to take a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failure, lines are dropped untried for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose log it is.
pub(super) enum Kind {
    /// systemd's journal.
    Journald(JournaldUri),
    /// A syslog daemon.
    Syslog(SyslogUri),
}

/// A log that somebody else keeps.
pub(super) struct Remote {
    kind: Kind,
    lines: RefCell<Lines>,
    wire: Mutex<Option<Wire>>,
    lost: Cell<u64>,
    failed_at: Cell<Option<tokio::time::Instant>>,
}

enum Wire {
    Datagram(UnixDatagram),
    Udp(UdpSocket),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Remote {
    /// A log of `kind`. It is reached with the first line.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            lines: RefCell::default(),
            wire: Mutex::new(None),
            lost: Cell::new(0),
            failed_at: Cell::new(None),
        }
    }

    /// Takes in `bytes` of `output`, and sends the lines that are complete.
    pub(super) async fn append(&self, output: Output, bytes: &[u8]) {
        let mut ready = Vec::new();
        self.lines
            .borrow_mut()
            .take_in(output, bytes, |line| ready.push(self.encode(output, line)));
        for message in ready {
            self.send(&message).await;
        }
    }

    /// Sends what is left of `output` after its end.
    pub(super) async fn finish(&self, output: Output) {
        let rest = self.lines.borrow_mut().rest(output);
        if !rest.is_empty() {
            self.send(&self.encode(output, &rest)).await;
        }
    }

    fn encode(&self, output: Output, line: &[u8]) -> Vec<u8> {
        match &self.kind {
            Kind::Journald(uri) => journald::entry(uri, output, line),
            Kind::Syslog(uri) => syslog::message(uri, output, line, SystemTime::now()),
        }
    }

    async fn send(&self, message: &[u8]) {
        let mut wire = self.wire.lock().await;
        if let Some(at) = self.failed_at.get()
            && at.elapsed() < PAUSE
        {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        let again = wire.is_some();
        let mut sent = self.try_send(&mut wire, message).await;
        if sent.is_err() && again {
            // What was open may have been restarted since.
            *wire = None;
            sent = self.try_send(&mut wire, message).await;
        }
        match sent {
            Ok(()) => {
                self.failed_at.set(None);
                let lost = self.lost.take();
                if lost > 0 {
                    let what = io::Error::other(format!("{lost} lines"));
                    warn("the log is back; lost meanwhile", &what);
                }
            }
            Err(err) => {
                *wire = None;
                self.failed_at.set(Some(tokio::time::Instant::now()));
                self.lost.set(self.lost.get() + 1);
                if self.lost.get() == 1 {
                    warn("send to the container's log", &err);
                }
            }
        }
    }

    async fn try_send(&self, wire: &mut Option<Wire>, message: &[u8]) -> io::Result<()> {
        let open = match wire {
            Some(open) => open,
            None => wire.insert(self.connect().await?),
        };
        match open {
            Wire::Datagram(socket) => socket.send(message).await.map(drop),
            Wire::Udp(socket) => socket.send(message).await.map(drop),
            Wire::Unix(stream) => in_time(stream.write_all(&self.framed(message))).await,
            Wire::Tcp(stream) => in_time(stream.write_all(&self.framed(message))).await,
        }
    }

    fn framed(&self, message: &[u8]) -> Vec<u8> {
        match &self.kind {
            Kind::Journald(_) => message.to_vec(),
            Kind::Syslog(uri) => syslog::framed(uri, message),
        }
    }

    async fn connect(&self) -> io::Result<Wire> {
        match &self.kind {
            Kind::Journald(uri) => datagram(&uri.socket).map(Wire::Datagram),
            Kind::Syslog(uri) => match &uri.address {
                SyslogAddress::Unix(path) => match datagram(path) {
                    Ok(socket) => Ok(Wire::Datagram(socket)),
                    // EPROTOTYPE: it listens for streams.
                    Err(err) if err.raw_os_error() == Some(nix::libc::EPROTOTYPE) => {
                        UnixStream::connect(path).await.map(Wire::Unix)
                    }
                    Err(err) => Err(err),
                },
                SyslogAddress::Udp(address) => {
                    let own = if address.is_ipv6() {
                        "[::]:0"
                    } else {
                        "0.0.0.0:0"
                    };
                    let socket = UdpSocket::bind(own).await?;
                    socket.connect(address).await?;
                    Ok(Wire::Udp(socket))
                }
                SyslogAddress::Tcp(address) => {
                    in_time(TcpStream::connect(address)).await.map(Wire::Tcp)
                }
            },
        }
    }
}

fn datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
