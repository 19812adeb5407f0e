//! The standard streams of a program, between whoever runs it and a client.
//!
//! The one who runs it gives a [`Run`]: a function that gets the [`Streams`]
//! as channels and ends with the program. Channels are bounded, so a client
//! that does not read holds up its program, and a program that does not read
//! its client.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::protocol::Version;
use crate::spdy::{Connection, Input, Output};
use crate::status::Ended;

/// Pieces of a stream that wait in a channel.
const WAITING: usize = 8;

/// Which streams there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal.
    pub stderr: bool,
    /// Whether there is a terminal, which has a size.
    pub terminal: bool,
}

/// The program's ends of its streams.
#[derive(Debug)]
pub struct Streams {
    /// What the client sends; its end is the end of input.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// To the client; dropped at the end of output.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// To the client; dropped at the end of output.
    pub stderr: Option<mpsc::Sender<Bytes>>,
    /// Sizes of the client's terminal as they change.
    pub sizes: Option<mpsc::Receiver<Size>>,
    /// When the client leaves.
    pub left: Left,
}

/// Tells when the client has left.
#[derive(Debug, Clone)]
pub struct Left(watch::Receiver<bool>);

impl Left {
    /// Waits until the client has left.
    pub async fn wait(&mut self) {
        // A sender that is gone has nothing more to do with the client.
        let _ = self.0.wait_for(|left| *left).await;
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Size {
    /// Columns.
    #[serde(rename = "Width", alias = "width")]
    pub columns: u16,
    /// Rows.
    #[serde(rename = "Height", alias = "height")]
    pub rows: u16,
}

/// Runs a program on these streams.
pub type Run = Box<dyn FnOnce(Streams) -> BoxFuture<'static, Ended> + Send>;

/// Our ends of a program's streams.
pub(crate) struct Ends {
    pub stdin: Option<mpsc::Sender<Bytes>>,
    pub stdout: Option<mpsc::Receiver<Bytes>>,
    pub stderr: Option<mpsc::Receiver<Bytes>>,
    pub sizes: Option<mpsc::Sender<Size>>,
    pub left: watch::Sender<bool>,
}

/// Both ends of the streams that are wanted.
pub(crate) fn pair(wanted: Wanted) -> (Streams, Ends) {
    let channel = |wanted: bool| {
        let (to, from) = mpsc::channel(WAITING);
        if wanted {
            (Some(to), Some(from))
        } else {
            (None, None)
        }
    };
    let (stdin_to, stdin) = channel(wanted.stdin);
    let (stdout, stdout_from) = channel(wanted.stdout);
    let (stderr, stderr_from) = channel(wanted.stderr && !wanted.terminal);
    let (sizes_to, sizes) = mpsc::channel(WAITING);
    let (left, left_from) = watch::channel(false);
    let streams = Streams {
        stdin,
        stdout,
        stderr,
        sizes: wanted.terminal.then_some(sizes),
        left: Left(left_from),
    };
    let ends = Ends {
        stdin: stdin_to,
        stdout: stdout_from,
        stderr: stderr_from,
        sizes: wanted.terminal.then_some(sizes_to),
        left,
    };
    (streams, ends)
}

/// The streams of a SPDY connection by their types.
struct Named(HashMap<&'static str, (Input, Output)>);

impl Named {
    fn take(&mut self, kind: &str) -> Option<(Input, Output)> {
        self.0.remove(kind)
    }
}

/// Runs a program for a SPDY client.
pub(crate) async fn serve(
    mut connection: Connection,
    version: Version,
    wanted: Wanted,
    run: Run,
    creation: Duration,
) {
    let opened = tokio::time::timeout(creation, open(&mut connection, version, wanted)).await;
    let Ok(Some(mut named)) = opened else {
        tracing::debug!("a client did not open the streams that it wanted");
        connection.close().await;
        return;
    };
    let Some((_, errors)) = named.take("error") else {
        return;
    };
    let (streams, ends) = pair(wanted);
    let mut gone = connection.gone();
    // A stream that is opened too late, or twice, is refused.
    let late = async {
        while let Some(stream) = connection.accept().await {
            stream.output.refuse().await;
        }
        std::future::pending::<()>().await;
    };
    let Ends {
        stdin,
        stdout,
        stderr,
        sizes,
        left,
    } = ends;
    let mut inputs = JoinSet::new();
    // Our halves of these two end with the connection.
    let mut held = Vec::new();
    if let (Some((input, output)), Some(stdin)) = (named.take("stdin"), stdin) {
        held.push(output);
        inputs.spawn(copy_in(input, stdin));
    }
    if let (Some((input, output)), Some(sizes)) = (named.take("resize"), sizes) {
        held.push(output);
        inputs.spawn(copy_sizes(input, sizes));
    }
    let outputs = async {
        tokio::join!(
            copy_out(stdout, named.take("stdout")),
            copy_out(stderr, named.take("stderr"))
        );
    };
    let leave = async {
        let _ = gone.wait_for(|gone| *gone).await;
        left.send_replace(true);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        (ended, ()) = async { tokio::join!(run(streams), outputs) } => ended,
        () = late => return,
        () = leave => return,
    };
    let text = if version >= Version::V4 {
        Some(ended.to_json())
    } else {
        ended.to_text()
    };
    if let Some(text) = text {
        let _ = errors.send(text.into()).await;
    }
    let _ = errors.finish().await;
    connection.close().await;
}

/// Waits for the streams that are wanted.
async fn open(connection: &mut Connection, version: Version, wanted: Wanted) -> Option<Named> {
    let mut missing = vec!["error"];
    let mut want = |wanted: bool, kind| {
        if wanted {
            missing.push(kind);
        }
    };
    want(wanted.stdin, "stdin");
    want(wanted.stdout, "stdout");
    want(wanted.stderr && !wanted.terminal, "stderr");
    want(wanted.terminal && version >= Version::V3, "resize");
    let mut named = HashMap::new();
    while !missing.is_empty() {
        let stream = connection.accept().await?;
        let kind = stream.headers.get("streamtype").map_or("", String::as_str);
        match missing.iter().position(|wanted| *wanted == kind) {
            Some(at) => {
                named.insert(missing.swap_remove(at), (stream.input, stream.output));
            }
            None => stream.output.refuse().await,
        }
    }
    Some(Named(named))
}

/// What the client sends, to the program. Once the program takes no more, the
/// rest is dropped.
async fn copy_in(mut input: Input, to: mpsc::Sender<Bytes>) {
    while let Some(bytes) = input.recv().await {
        if to.send(bytes).await.is_err() {
            break;
        }
    }
}

async fn copy_sizes(mut input: Input, to: mpsc::Sender<Size>) {
    let mut text = Vec::new();
    while let Some(bytes) = input.recv().await {
        text.extend_from_slice(&bytes);
        let Ok(sizes) = sizes_in(&mut text) else {
            return;
        };
        for size in sizes {
            if to.send(size).await.is_err() {
                return;
            }
        }
    }
}

/// Takes the sizes that stand whole in `text`.
pub(crate) fn sizes_in(text: &mut Vec<u8>) -> io::Result<Vec<Size>> {
    /// No size is longer.
    const LONGEST: usize = 4096;
    let mut sizes = Vec::new();
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    let mut taken = 0;
    for size in values.by_ref() {
        match size {
            Ok(size) => sizes.push(size),
            Err(err) if err.is_eof() => break,
            Err(err) => return Err(err.into()),
        }
    }
    taken += values.byte_offset();
    text.drain(..taken);
    if text.len() > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(sizes)
}

async fn copy_out(from: Option<mpsc::Receiver<Bytes>>, to: Option<(Input, Output)>) {
    let (Some(mut from), Some((_input, to))) = (from, to) else {
        return;
    };
    while let Some(bytes) = from.recv().await {
        if to.send(bytes).await.is_err() {
            return;
        }
    }
    let _ = to.finish().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_taken_as_they_come_whole() {
        let mut text = br#"{"Width":80,"Height":24}
            {"Width":81,"Hei"#
            .to_vec();
        let first = sizes_in(&mut text).expect("it is good");
        assert_eq!(
            first,
            [Size {
                columns: 80,
                rows: 24
            }]
        );
        text.extend_from_slice(br#"ght":25}"#);
        let second = sizes_in(&mut text).expect("it is good");
        assert_eq!(
            second,
            [Size {
                columns: 81,
                rows: 25
            }]
        );
        assert!(sizes_in(&mut b"{\"Width\":-1}".to_vec()).is_err());
        assert!(sizes_in(&mut b"nonsense".to_vec()).is_err());
    }
}
