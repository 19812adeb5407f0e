//! Ports of a pod, for a client: for each connection that the client takes, it
//! opens two streams, one for data and one for the word of what went wrong.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::spdy::{Connection, Input, Output, Stream};

/// Opens a connection to a port.
pub type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// How much is read from a port at once.
pub(crate) const PIECE: usize = 32 << 10;

/// Half of a pair that waits for the other.
struct Half {
    data: bool,
    stream: Stream,
    since: Instant,
}

/// Forwards ports for a SPDY client until it goes.
pub(crate) async fn serve(mut connection: Connection, dial: Dial, creation: Duration) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut forwards = JoinSet::new();
    let mut sweep = tokio::time::interval(creation.max(Duration::from_millis(1)));
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            Some(_) = forwards.join_next() => continue,
            _ = sweep.tick() => {
                // Whoever opens one stream and not the other is not waited for.
                halves.retain(|_, half| half.since.elapsed() < creation);
                continue;
            }
        };
        let Some(stream) = stream else { break };
        let Some((request, data)) = purpose(&stream) else {
            stream.output.refuse().await;
            continue;
        };
        let Some(other) = halves.remove(&request) else {
            halves.insert(
                request,
                Half {
                    data,
                    stream,
                    since: Instant::now(),
                },
            );
            continue;
        };
        if other.data == data {
            stream.output.refuse().await;
            other.stream.output.refuse().await;
            continue;
        }
        let (data, errors) = if data {
            (stream, other.stream)
        } else {
            (other.stream, stream)
        };
        forwards.spawn(forward(data, errors, dial.clone()));
    }
    // The client is gone: what it was connected to is let go with it.
    forwards.shutdown().await;
    connection.close().await;
}

/// Which request a stream belongs to, and whether it is the one for data.
/// Clients that name no request open the error stream first.
fn purpose(stream: &Stream) -> Option<(String, bool)> {
    let data = match stream.headers.get("streamtype").map(String::as_str) {
        Some("data") => true,
        Some("error") => false,
        _ => return None,
    };
    let request = match stream.headers.get("requestid") {
        Some(request) => request.clone(),
        None if data => format!("stream {}", stream.id.checked_sub(2)?),
        None => format!("stream {}", stream.id),
    };
    Some((request, data))
}

async fn forward(data: Stream, errors: Stream, dial: Dial) {
    let done = match port(&data) {
        Some(port) => match dial(port).await {
            Ok(connection) => {
                copy(connection, data.input, data.output).await;
                Ok(())
            }
            Err(err) => {
                let _ = data.output.finish().await;
                Err(format!("forward port {port}: {err}"))
            }
        },
        None => {
            let _ = data.output.finish().await;
            Err("the stream names no port between 1 and 65535".to_owned())
        }
    };
    if let Err(text) = done {
        let _ = errors.output.send(text.into()).await;
    }
    let _ = errors.output.finish().await;
}

fn port(stream: &Stream) -> Option<u16> {
    let port = stream.headers.get("port")?.parse().ok()?;
    (port != 0).then_some(port)
}

/// Copies both ways until both are done. The end of one way is passed on, and
/// the other goes on.
async fn copy(connection: TcpStream, mut input: Input, output: Output) {
    let (mut from, mut to) = connection.into_split();
    let there = async {
        while let Some(bytes) = input.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    let back = async {
        while let Some(bytes) = read(&mut from).await {
            if output.send(bytes).await.is_err() {
                return;
            }
        }
        let _ = output.finish().await;
    };
    tokio::join!(there, back);
}

/// The next bytes; `None` at the end, and when the connection breaks.
pub(crate) async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(PIECE);
    match from.read_buf(&mut bytes).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(bytes.freeze()),
    }
}
