//! Files and archives: diff, export, cp, import.

use std::io;

use bytes::Bytes;
use engine::Engine;
use engine::copy::PathStat;
use engine::import::Import;
use engine::pipe::Pieces;
use futures_util::{StreamExt, stream};
use lite_core::diff::ChangeKind;
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;
use proto::engine::v1::diff_container_response::Change;
use proto::engine::v1::{copy_from_response, copy_to_request, import_image_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Messages;
use super::images::signed;
use crate::api::status::to_status;

/// Chunks of a client that may wait.
const WAITING: usize = 4;

pub(super) fn chunks(pieces: mpsc::Receiver<Result<Bytes>>) -> Messages<wire::Chunk> {
    let chunks = ReceiverStream::new(pieces).map(|piece| match piece {
        Ok(data) => Ok(wire::Chunk { data }),
        Err(err) => Err(to_status(err)),
    });
    Box::pin(chunks)
}

pub(super) async fn diff(engine: &Engine, container: &str) -> Result<wire::DiffContainerResponse> {
    let changes = engine::diff::diff(engine, container).await?.into_iter();
    let changes = changes.map(|change| Change {
        kind: match change.kind {
            ChangeKind::Added => "A",
            ChangeKind::Changed => "C",
            ChangeKind::Deleted => "D",
        }
        .to_owned(),
        path: change.path,
    });
    Ok(wire::DiffContainerResponse {
        changes: changes.collect(),
    })
}

pub(super) async fn stat(
    engine: &Engine,
    request: wire::StatPathRequest,
) -> Result<wire::PathStat> {
    let found = engine::copy::stat(engine, &request.container, &request.path).await?;
    Ok(about(found))
}

fn about(stat: PathStat) -> wire::PathStat {
    wire::PathStat {
        name: stat.name,
        mode: stat.mode,
        size_bytes: signed(stat.size),
        modified: Some(stat.modified.into()),
        link_target: stat.link_target,
    }
}

pub(super) async fn copy_from(
    engine: &Engine,
    request: wire::CopyFromRequest,
) -> Result<Messages<wire::CopyFromResponse>> {
    use copy_from_response::Message;
    let wire::CopyFromRequest {
        container,
        path,
        follow,
    } = request;
    let (found, pieces) = engine::copy::copy_from(engine, &container, &path, follow).await?;
    let message = |message| wire::CopyFromResponse {
        message: Some(message),
    };
    let first = message(Message::About(about(found)));
    let rest = ReceiverStream::new(pieces).map(move |piece| match piece {
        Ok(data) => Ok(message(Message::Chunk(data))),
        Err(err) => Err(to_status(err)),
    });
    Ok(Box::pin(stream::iter([Ok(first)]).chain(rest)))
}

pub(super) async fn copy_to(
    engine: &Engine,
    mut messages: Streaming<wire::CopyToRequest>,
) -> Result<()> {
    use copy_to_request::Message;
    let Some(Message::Target(target)) = first(&mut messages).await?.and_then(|m| m.message) else {
        return Err(no_beginning("target"));
    };
    let pieces = pieces(messages, |request| match request.message {
        Some(Message::Chunk(bytes)) => bytes,
        _ => Bytes::new(),
    });
    engine::copy::copy_to(engine, &target.container, &target.path, pieces).await
}

pub(super) async fn import(
    engine: &Engine,
    mut messages: Streaming<wire::ImportImageRequest>,
) -> Result<wire::CommitContainerResponse> {
    use import_image_request::Message;
    let Some(Message::About(about)) = first(&mut messages).await?.and_then(|m| m.message) else {
        return Err(no_beginning("about"));
    };
    let pieces = pieces(messages, |request| match request.message {
        Some(Message::Chunk(bytes)) => bytes,
        _ => Bytes::new(),
    });
    let request = Import {
        reference: about.reference,
        message: about.message,
        changes: about.changes,
        platform: about.platform,
        source: about.source,
    };
    let id = engine::import::import(engine, request, pieces).await?;
    Ok(wire::CommitContainerResponse { id })
}

fn no_beginning(what: &str) -> lite_core::Error {
    Kind::InvalidArgument.error(format!("the first message is not `{what}`"))
}

async fn first<T>(messages: &mut Streaming<T>) -> Result<Option<T>> {
    let message = messages.message().await;
    message.map_err(|status| Kind::Cancelled.error("read the request").because(status))
}

/// The bytes of the messages to come. A client that breaks off is an error, not
/// an end.
fn pieces<T: Send + 'static>(
    mut messages: Streaming<T>,
    bytes: impl Fn(T) -> Bytes + Send + 'static,
) -> Pieces {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let piece = match messages.message().await {
                Ok(None) => return,
                Ok(Some(message)) => Ok(bytes(message)),
                Err(status) => Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    status.message().to_owned(),
                )),
            };
            let last = piece.is_err();
            if sender.send(piece).await.is_err() || last {
                return;
            }
        }
    });
    receiver
}
