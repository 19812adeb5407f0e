//! Images: pull, load, list, remove, inspect.

use engine::Engine;
use engine::images::ImageRow;
use engine::pull::PullNews;
use futures_util::StreamExt;
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;
use proto::engine::v1::pull_image_response::{Done, Message, Progress};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Messages;
use super::registries::credentials;
use crate::api::status::to_status;

/// Bytes of an archive between the client and the import; then the client waits.
const ARCHIVE_BUFFER: usize = 1 << 20;

pub(super) async fn pull(
    engine: &Engine,
    request: wire::PullImageRequest,
) -> Result<Messages<wire::PullImageResponse>> {
    let credentials = request.auth.and_then(credentials);
    let news = engine::pull::pull(engine, &request.reference, &request.platform, credentials)?;
    Ok(Box::pin(
        ReceiverStream::new(news).map(|news| news.map(told).map_err(to_status)),
    ))
}

fn told(news: PullNews) -> wire::PullImageResponse {
    let message = match news {
        PullNews::Progress {
            id,
            status,
            current,
            total,
        } => Message::Progress(Progress {
            id,
            status: status.to_owned(),
            current_bytes: signed(current),
            total_bytes: signed(total),
        }),
        PullNews::Done {
            reference,
            digest,
            downloaded,
        } => Message::Done(Done {
            reference,
            digest,
            downloaded,
        }),
    };
    wire::PullImageResponse {
        message: Some(message),
    }
}

/// Sizes travel as signed numbers, as in Docker's API.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) async fn load(
    engine: &Engine,
    chunks: Streaming<wire::LoadImagesRequest>,
) -> Result<wire::LoadImagesResponse> {
    let (reader, writer) = tokio::io::duplex(ARCHIVE_BUFFER);
    let (loaded, sent) = tokio::join!(
        Box::pin(engine::load::load(engine, reader)),
        receive(chunks, writer)
    );
    // A client that broke off is the better reason than a short archive.
    sent?;
    Ok(wire::LoadImagesResponse { loaded: loaded? })
}

async fn receive(
    mut chunks: Streaming<wire::LoadImagesRequest>,
    mut writer: DuplexStream,
) -> Result<()> {
    loop {
        let message = chunks.message().await;
        let message =
            message.map_err(|status| Kind::Cancelled.error("read archive").because(status))?;
        let Some(wire::LoadImagesRequest { chunk }) = message else {
            return Ok(());
        };
        // An import that ended early says why itself.
        if writer.write_all(&chunk).await.is_err() {
            return Ok(());
        }
    }
}

pub(super) async fn list(
    engine: &Engine,
    request: wire::ListImagesRequest,
) -> Result<wire::ListImagesResponse> {
    let rows = engine::images::list_images(engine, &request.reference, &request.filters).await?;
    Ok(wire::ListImagesResponse {
        images: rows.into_iter().map(summary).collect(),
    })
}

fn summary(row: ImageRow) -> wire::ImageSummary {
    wire::ImageSummary {
        id: row.id,
        repository: row.repository,
        tag: row.tag,
        digest: row.digest,
        created: row.created.map(prost_types::Timestamp::from),
        size_bytes: signed(row.size),
    }
}

pub(super) async fn remove(
    engine: &Engine,
    request: wire::RemoveImageRequest,
) -> Result<wire::RemoveImageResponse> {
    let removed = engine::images::remove_image(engine, &request.image, request.force).await?;
    Ok(wire::RemoveImageResponse {
        untagged: removed.untagged,
        deleted: removed.deleted,
    })
}

pub(super) async fn inspect(
    engine: &Engine,
    request: wire::InspectImageRequest,
) -> Result<wire::InspectResponse> {
    let json = engine::images::inspect_image(engine, &request.image)
        .await?
        .to_string();
    Ok(wire::InspectResponse { json })
}
