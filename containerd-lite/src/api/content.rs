//! Content: blobs and the ingests that make them.

mod write;

use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use lite_core::{ContentInfo, ContentStore, IngestStatus, blocking};
use proto::containerd::services::content::v1 as wire;
use tonic::{Request, Response, Status, Streaming};

use super::status::to_status;
use super::wire::{
    digest, filters, label_update, labels, lease, namespace, signed, timestamp, to_map, unsigned,
};
use crate::collector::Collector;

/// Records in one message of a list.
const PER_MESSAGE: usize = 100;

/// Bytes in one message of a read: what gRPC's default limit of 4 MiB allows
/// comfortably.
const READ: u64 = 1 << 20;

/// The adapter over the content store.
#[derive(Clone)]
pub struct ContentApi {
    store: ContentStore,
    collector: Collector,
}

impl ContentApi {
    /// An adapter of `store`; what a removed blob kept goes to `collector`.
    #[must_use]
    pub fn new(store: ContentStore, collector: Collector) -> Self {
        Self { store, collector }
    }
}

fn to_wire(info: ContentInfo) -> wire::Info {
    wire::Info {
        digest: info.digest.to_string(),
        size: signed(info.size),
        created_at: timestamp(info.created_at),
        updated_at: timestamp(info.updated_at),
        labels: to_map(info.labels),
    }
}

fn to_status_message(status: IngestStatus) -> wire::Status {
    wire::Status {
        started_at: timestamp(status.started_at),
        updated_at: timestamp(status.updated_at),
        r#ref: status.reference,
        offset: signed(status.offset),
        total: signed(status.total.unwrap_or_default()),
        expected: status
            .expected
            .map(|digest| digest.to_string())
            .unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl wire::content_server::Content for ContentApi {
    async fn info(
        &self,
        request: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::InfoResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let digest = digest(&request.into_inner().digest)?;
        let info = blocking(move || store.info(&ns, &digest))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::InfoResponse {
            info: Some(to_wire(info)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateRequest>,
    ) -> Result<Response<wire::UpdateResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::UpdateRequest { info, update_mask } = request.into_inner();
        let info =
            info.ok_or_else(|| Status::invalid_argument("info is required: invalid argument"))?;
        let digest = digest(&info.digest)?;
        let update = label_update(update_mask, &format!("content info {digest}"))?;
        let info = blocking(move || store.update(&ns, &digest, &labels(info.labels), &update))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::UpdateResponse {
            info: Some(to_wire(info)),
        }))
    }

    type ListStream = BoxStream<'static, Result<wire::ListContentResponse, Status>>;

    async fn list(
        &self,
        request: Request<wire::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let filters = filters(&request.into_inner().filters)?;
        let all = blocking(move || store.list(&ns, &filters))
            .await
            .map_err(to_status)?;
        let infos: Vec<wire::Info> = all.into_iter().map(to_wire).collect();
        let messages: Vec<_> = infos
            .chunks(PER_MESSAGE)
            .map(|info| {
                Ok(wire::ListContentResponse {
                    info: info.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteContentRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let digest = digest(&request.into_inner().digest)?;
        blocking(move || store.delete(&ns, &digest))
            .await
            .map_err(to_status)?;
        self.collector.soon();
        Ok(Response::new(()))
    }

    type ReadStream = BoxStream<'static, Result<wire::ReadContentResponse, Status>>;

    async fn read(
        &self,
        request: Request<wire::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let request = request.into_inner();
        let (digest, offset) = (
            digest(&request.digest)?,
            unsigned(request.offset, "offset")?,
        );
        let blob = blocking(move || store.open(&ns, &digest))
            .await
            .map_err(to_status)?;
        if offset > blob.size {
            return Err(Status::out_of_range(format!(
                "read past object length {} bytes: out of range",
                blob.size
            )));
        }
        let wanted = u64::try_from(request.size)
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(u64::MAX);
        let end = offset.saturating_add(wanted).min(blob.size);
        let file = std::sync::Arc::new(blob.file);
        let pieces = stream::try_unfold(offset, move |at| {
            let file = std::sync::Arc::clone(&file);
            async move {
                if at >= end {
                    return Ok(None);
                }
                let len = usize::try_from((end - at).min(READ)).unwrap_or_default();
                let data = blocking(move || {
                    let mut data = vec![0; len];
                    file.read_exact_at(&mut data, at)
                        .map_err(|err| lite_core::Error::io("read blob", err))?;
                    Ok(data)
                });
                let data = Bytes::from(data.await.map_err(to_status)?);
                let next = at + data.len() as u64;
                Ok::<_, Status>(Some((
                    wire::ReadContentResponse {
                        offset: signed(at),
                        data,
                    },
                    next,
                )))
            }
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let reference = request.into_inner().r#ref;
        let status = blocking(move || store.status(&ns, &reference))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::StatusResponse {
            status: Some(to_status_message(status)),
        }))
    }

    async fn list_statuses(
        &self,
        request: Request<wire::ListStatusesRequest>,
    ) -> Result<Response<wire::ListStatusesResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let filters = filters(&request.into_inner().filters)?;
        let all = blocking(move || store.statuses(&ns, &filters))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::ListStatusesResponse {
            statuses: all.into_iter().map(to_status_message).collect(),
        }))
    }

    type WriteStream = BoxStream<'static, Result<wire::WriteContentResponse, Status>>;

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (ns, lease) = (namespace(&request)?, lease(&request)?);
        let session = write::Session::new(self.store.clone(), ns, lease);
        Ok(Response::new(session.answers(request.into_inner())))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let reference = request.into_inner().r#ref;
        blocking(move || store.abort(&ns, &reference))
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }
}
