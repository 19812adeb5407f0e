//! The name server that containers on a network of their own are pointed to:
//! sockets in each container's namespace, served from the daemon's.
//!
//! Names of containers are looked up in a [`Lookup`]; everything else is
//! passed on to the host's name servers, from the host's namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::dns::{self, Answer, Kind, Question};
use crate::netns;

/// Where containers find it, as in Docker.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

const PORT: u16 = 53;

/// How long a name server of the host may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Longest message over UDP that is passed on.
const LARGEST: usize = 4096;

/// Questions of one container that are answered at the same time; further ones
/// wait in its socket.
const AT_ONCE: usize = 64;

/// What is known of one container's surroundings, asked for each question.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of a name; `None` for one that is no container's.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;
    /// The name of an address.
    fn name(&self, address: IpAddr) -> Option<String>;
    /// The name servers for everything else; none means that there is nothing
    /// else.
    fn upstream(&self) -> Vec<SocketAddr>;
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Serves the namespace.
///
/// # Errors
/// Those of making the sockets.
pub fn serve(namespace: BorrowedFd<'_>, lookup: Arc<dyn Lookup>) -> io::Result<Server> {
    let address = SocketAddr::new(ADDRESS, PORT);
    let (udp, tcp) = netns::inside(namespace, || {
        let udp = std::net::UdpSocket::bind(address)?;
        let tcp = std::net::TcpListener::bind(address)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp, tcp))
    })?;
    let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
    Ok(Server(vec![
        tokio::spawn(serve_udp(Arc::new(udp), Arc::clone(&lookup))),
        tokio::spawn(serve_tcp(tcp, lookup)),
    ]))
}

async fn serve_udp(socket: Arc<UdpSocket>, lookup: Arc<dyn Lookup>) {
    let slots = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that nobody took (ECONNREFUSED) is told here.
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(err) => {
                tracing::warn!(error = %err, "receive a DNS query");
                return;
            }
        };
        let query = buffer.get(..length).unwrap_or_default().to_vec();
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (socket, lookup) = (Arc::clone(&socket), Arc::clone(&lookup));
        tokio::spawn(async move {
            if let Some(answer) = answer(&query, lookup.as_ref(), false).await {
                // Who has gone needs no answer.
                let _ = socket.send_to(&answer, from).await;
            }
            drop(slot);
        });
    }
}

async fn serve_tcp(listener: TcpListener, lookup: Arc<dyn Lookup>) {
    let slots = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(error = %err, "accept a DNS query");
                return;
            }
        };
        let lookup = Arc::clone(&lookup);
        tokio::spawn(async move {
            let served = tokio::time::timeout(PATIENCE * 2, conversation(stream, lookup.as_ref()));
            // A client that hangs or breaks off is its own affair.
            let _ = served.await;
            drop(slot);
        });
    }
}

async fn conversation(mut stream: TcpStream, lookup: &dyn Lookup) -> io::Result<()> {
    loop {
        let query = read_framed(&mut stream).await?;
        let Some(answer) = answer(&query, lookup, true).await else {
            return Ok(());
        };
        write_framed(&mut stream, &answer).await?;
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_u16(length).await?;
    stream.write_all(message).await
}

/// The whole response to a query; `None` for what is no query.
async fn answer(query: &[u8], lookup: &dyn Lookup, tcp: bool) -> Option<Vec<u8>> {
    let question = dns::question(query)?;
    if let Some(own) = own_answer(&question, lookup) {
        return Some(dns::response(query, &question, &own));
    }
    let servers = lookup.upstream();
    for server in &servers {
        let passed_on = async {
            if tcp {
                by_tcp(query, *server).await
            } else {
                by_udp(query, *server).await
            }
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, passed_on).await {
            return Some(answer);
        }
    }
    let said = if servers.is_empty() {
        Answer::NoSuchName
    } else {
        Answer::Failure
    };
    Some(dns::response(query, &question, &said))
}

/// What needs nobody else.
fn own_answer(question: &Question, lookup: &dyn Lookup) -> Option<Answer> {
    match question.kind {
        Kind::A | Kind::Aaaa => lookup.addresses(&question.name).map(Answer::Addresses),
        Kind::Ptr => lookup
            .name(dns::reversed(&question.name)?)
            .map(Answer::Name),
        Kind::Other => lookup
            .addresses(&question.name)
            .map(|_| Answer::Addresses(Vec::new())),
    }
}

async fn by_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Only the answer to this query: its first two bytes are the query's.
        if length >= 2 && buffer.get(..2) == query.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, query).await?;
    read_framed(&mut stream).await
}

/// The name servers of a `resolv.conf(5)`; lines that are none are passed over.
#[must_use]
pub fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    let lines = resolv_conf.lines().map(str::trim);
    lines
        .filter_map(|line| {
            line.strip_prefix("nameserver")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_off_resolv_conf() {
        let text =
            "# x\nnameserver 10.0.0.1\n nameserver ::1\nsearch a\nnameserver\nnameserver x\n";
        let servers = nameservers(text);
        assert_eq!(
            servers,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
    }
}
