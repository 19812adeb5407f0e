//! `ctl logs`: what a container printed, each line on the stream it came on.

use std::io::Write;

use proto::engine::v1::{LogEntry, ReadLogsRequest, Stream};

use super::DONE;
use crate::cli::container::LogsArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::parse::Tail;
use crate::render::time::rfc3339;

/// Runs the command. What a container prints is its own: nothing is escaped.
pub(crate) async fn run(client: &mut Engine, args: &LogsArgs) -> Result<u8, Failure> {
    let request = ReadLogsRequest {
        container: args.container.clone(),
        follow: args.follow,
        tail: match args.tail {
            Some(Tail::Lines(lines)) => Some(lines),
            Some(Tail::All) | None => None,
        },
        since: args.since.map(|moment| moment.0),
        until: args.until.map(|moment| moment.0),
    };
    let mut entries = client.read_logs(request).await?.into_inner();
    while let Some(entry) = entries.message().await? {
        write(&entry, args.timestamps).map_err(|err| Failure::output(&err))?;
    }
    Ok(DONE)
}

fn write(entry: &LogEntry, timestamps: bool) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(entry.data.len() + 32);
    if let (true, Some(time)) = (timestamps, &entry.time) {
        bytes.extend_from_slice(rfc3339(time).as_bytes());
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&entry.data);
    if entry.stream() == Stream::Stderr {
        return std::io::stderr().write_all(&bytes);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&bytes).and_then(|()| stdout.flush())
}
