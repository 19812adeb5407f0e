//! The server: URLs for streams, and what happens when somebody opens one.
//!
//! 1. [`Server::exec`], [`Server::attach`] and [`Server::port_forward`] give out
//!    a URL with a one-time token.
//! 2. A request redeems the token; it must ask for an upgrade to SPDY/3.1 or
//!    `WebSocket`, and offer a protocol that is known.
//! 3. The connection is upgraded and handed to what the token stands for.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::forward::{self, Dial};
use crate::protocol::{self, ACCEPTED_HEADER, Forward, PORT_FORWARD, VERSION_HEADER};
use crate::remote::{self, Run, Wanted};
use crate::spdy::Connection;
use crate::tokens::{Tokens, TooMany};
use crate::websocket;

/// Connections that are served at once; others wait.
const MOST_CONNECTIONS: usize = 4096;
/// A client that takes longer to say what it wants is none.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// How long a URL is good.
    pub token_life: Duration,
    /// How long a client may take to open the streams that it wants.
    pub creation: Duration,
    /// A connection on which nothing goes either way for so long is closed.
    pub idle: Duration,
}

impl Default for Config {
    /// The kubelet's numbers, on a free port of the loopback interface.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token_life: Duration::from_secs(60),
            creation: Duration::from_secs(30),
            idle: Duration::from_secs(4 * 60 * 60),
        }
    }
}

/// A server that listens.
#[derive(Clone)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    config: Config,
    tokens: Tokens<Ticket>,
}

/// What a token stands for.
enum Ticket {
    Remote {
        path: &'static str,
        wanted: Wanted,
        run: Run,
    },
    Forward {
        ports: Vec<u16>,
        dial: Dial,
    },
}

impl Ticket {
    fn path(&self) -> &'static str {
        match self {
            Self::Remote { path, .. } => path,
            Self::Forward { .. } => "portforward",
        }
    }
}

impl Server {
    /// Listens and serves, in the background of the runtime that this is
    /// called in.
    ///
    /// # Errors
    /// Those of binding to the address.
    pub async fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let tokens = Tokens::new(config.token_life);
        let state = Arc::new(State { config, tokens });
        tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL at which a client gets the streams of a program that `run`
    /// starts.
    ///
    /// # Errors
    /// When too many wait to be opened.
    pub fn exec(&self, wanted: Wanted, run: Run) -> Result<String, TooMany> {
        self.issue(Ticket::Remote {
            path: "exec",
            wanted,
            run,
        })
    }

    /// The URL at which a client gets the streams of a program that runs
    /// already, by way of `run`.
    ///
    /// # Errors
    /// When too many wait to be opened.
    pub fn attach(&self, wanted: Wanted, run: Run) -> Result<String, TooMany> {
        self.issue(Ticket::Remote {
            path: "attach",
            wanted,
            run,
        })
    }

    /// The URL at which a client gets ports that `dial` connects to. `ports`
    /// are those of clients that name none themselves.
    ///
    /// # Errors
    /// When too many wait to be opened.
    pub fn port_forward(&self, ports: Vec<u16>, dial: Dial) -> Result<String, TooMany> {
        self.issue(Ticket::Forward { ports, dial })
    }

    fn issue(&self, ticket: Ticket) -> Result<String, TooMany> {
        let path = ticket.path();
        let token = self.state.tokens.issue(ticket)?;
        Ok(format!("http://{}/{path}/{token}", self.address))
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(err) => {
                // Out of descriptors, or a client that is gone already.
                tracing::warn!(error = %err, "accept a connection for streams");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let _slot = slot;
            serve(connection, state).await;
        });
    }
}

async fn serve(connection: TcpStream, state: Arc<State>) {
    // Keystrokes are small and cannot wait for more.
    let _ = connection.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(request, &state)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades()
        .await;
    if let Err(err) = served {
        tracing::debug!(error = %err, "serve a connection for streams");
    }
}

type Answer = Response<Full<Bytes>>;

fn answer(mut request: Request<Incoming>, state: &State) -> Answer {
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    let (Some(path), Some(token), None) = (parts.next(), parts.next(), parts.next()) else {
        return refuse(StatusCode::NOT_FOUND, "there is nothing here");
    };
    let ticket = state
        .tokens
        .redeem(token)
        .filter(|ticket| ticket.path() == path);
    let Some(ticket) = ticket else {
        return refuse(
            StatusCode::NOT_FOUND,
            "the URL has expired, or was opened before",
        );
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = request.headers();
    if !names(headers, CONNECTION.as_str()).any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return refuse(StatusCode::BAD_REQUEST, "the request asks for no upgrade");
    }
    let to = |protocol: &str| {
        names(headers, UPGRADE.as_str()).any(|name| name.eq_ignore_ascii_case(protocol))
    };
    if to("SPDY/3.1") {
        over_spdy(headers, ticket, upgrade, &state.config)
    } else if to("websocket") {
        over_websocket(headers, ticket, upgrade, &state.config)
    } else {
        refuse(
            StatusCode::BAD_REQUEST,
            "the upgrade is neither to SPDY/3.1 nor to websocket",
        )
    }
}

fn over_spdy(headers: &HeaderMap, ticket: Ticket, upgrade: OnUpgrade, config: &Config) -> Answer {
    let offered = names(headers, VERSION_HEADER);
    let (creation, idle) = (config.creation, config.idle);
    let start = move |io| Connection::start(TokioIo::new(io), idle);
    let chosen = match ticket {
        Ticket::Remote { wanted, run, .. } => match protocol::remote_over_spdy(offered) {
            Err(known) => return unknown(ACCEPTED_HEADER, &known),
            Ok((name, protocol)) => {
                after(upgrade, async move |io| {
                    let connection = start(io)?;
                    remote::serve(connection, protocol.version, wanted, run, creation).await;
                    Ok(())
                });
                name
            }
        },
        Ticket::Forward { dial, .. } => {
            let offered: Vec<_> = offered.collect();
            if !offered.is_empty() && !offered.contains(&PORT_FORWARD) {
                return unknown(ACCEPTED_HEADER, &[PORT_FORWARD]);
            }
            after(upgrade, async move |io| {
                forward::serve(start(io)?, dial, creation).await;
                Ok(())
            });
            (!offered.is_empty()).then_some(PORT_FORWARD)
        }
    };
    switch("SPDY/3.1", VERSION_HEADER, chosen)
}

fn over_websocket(
    headers: &HeaderMap,
    ticket: Ticket,
    upgrade: OnUpgrade,
    config: &Config,
) -> Answer {
    const PROTOCOL: &str = "sec-websocket-protocol";
    let Some(key) = headers.get("sec-websocket-key") else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing");
    };
    if headers
        .get("sec-websocket-version")
        .is_none_or(|version| version != "13")
    {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Version is not 13");
    }
    let offered = names(headers, PROTOCOL);
    let (creation, idle) = (config.creation, config.idle);
    let chosen = match ticket {
        Ticket::Remote { wanted, run, .. } => match protocol::remote_over_websocket(offered) {
            Err(known) => return unknown(PROTOCOL, &known),
            Ok((name, protocol)) => {
                after(upgrade, async move |io| {
                    let socket = websocket::start(TokioIo::new(io)).await;
                    websocket::serve(socket, protocol, wanted, run, idle).await;
                    Ok(())
                });
                name
            }
        },
        Ticket::Forward { ports, dial } => match protocol::forward_over_websocket(offered) {
            Err(known) => return unknown(PROTOCOL, &known),
            Ok((name, way)) => {
                after(upgrade, async move |io| {
                    let socket = websocket::start(TokioIo::new(io)).await;
                    match way {
                        Forward::Tunnel => {
                            let connection =
                                Connection::start(websocket::tunnel(socket, idle), idle)?;
                            forward::serve(connection, dial, creation).await;
                        }
                        Forward::Channels { base64 } => {
                            websocket::forward_channels(socket, base64, ports, dial, idle).await;
                        }
                    }
                    Ok(())
                });
                name
            }
        },
    };
    let mut answer = switch("websocket", PROTOCOL, chosen);
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.headers_mut().insert("sec-websocket-accept", accept);
    }
    answer
}

/// Serves the connection once it is upgraded.
fn after<F>(upgrade: OnUpgrade, serve: impl FnOnce(Upgraded) -> F + Send + 'static)
where
    F: Future<Output = io::Result<()>> + Send,
{
    tokio::spawn(async move {
        let served = match upgrade.await {
            Ok(io) => serve(io).await,
            Err(err) => Err(io::Error::other(err)),
        };
        if let Err(err) = served {
            tracing::debug!(error = %err, "serve streams");
        }
    });
}

/// The comma-separated words of all headers of this name.
fn names<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn switch(to: &'static str, header: &'static str, chosen: Option<&'static str>) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(to));
    if let Some(chosen) = chosen {
        headers.insert(header, HeaderValue::from_static(chosen));
    }
    answer
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer
}

fn unknown(header: &'static str, known: &[&'static str]) -> Answer {
    let text = format!(
        "no protocol that was offered is known; known are {}",
        known.join(", ")
    );
    let mut answer = refuse(StatusCode::FORBIDDEN, &text);
    for name in known {
        answer
            .headers_mut()
            .append(header, HeaderValue::from_static(name));
    }
    answer
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
