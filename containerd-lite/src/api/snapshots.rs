//! Snapshots.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use lite_core::{Mount, SnapshotInfo, SnapshotKind, Snapshots, blocking};
use proto::containerd::services::snapshots::v1 as wire;
use proto::containerd::types;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{
    filters, label_update, labels, lease, namespace, signed, timestamp, to_map, to_mount,
};

/// Records in one message of a list.
const PER_MESSAGE: usize = 100;

/// The adapter over the snapshots' store.
#[derive(Clone)]
pub struct SnapshotsApi {
    store: Snapshots,
}

impl SnapshotsApi {
    /// An adapter of `store`.
    #[must_use]
    pub fn new(store: Snapshots) -> Self {
        Self { store }
    }
}

fn to_wire(info: SnapshotInfo) -> wire::Info {
    let kind = match info.kind {
        SnapshotKind::View => wire::Kind::View,
        SnapshotKind::Active => wire::Kind::Active,
        SnapshotKind::Committed => wire::Kind::Committed,
    };
    wire::Info {
        name: info.name,
        parent: info.parent,
        kind: kind.into(),
        created_at: timestamp(info.created_at),
        updated_at: timestamp(info.updated_at),
        labels: to_map(info.labels),
    }
}

fn to_mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    mounts.into_iter().map(to_mount).collect()
}

#[tonic::async_trait]
impl wire::snapshots_server::Snapshots for SnapshotsApi {
    async fn prepare(
        &self,
        request: Request<wire::PrepareSnapshotRequest>,
    ) -> Result<Response<wire::PrepareSnapshotResponse>, Status> {
        let (ns, store) = (
            namespace(&request)?,
            self.store.leased(lease(&request)?.as_deref()),
        );
        let new = request.into_inner();
        let mounts = blocking(move || {
            store.prepare(
                &ns,
                &new.snapshotter,
                &new.key,
                &new.parent,
                &labels(new.labels),
            )
        });
        Ok(Response::new(wire::PrepareSnapshotResponse {
            mounts: to_mounts(mounts.await.map_err(to_status)?),
        }))
    }

    async fn view(
        &self,
        request: Request<wire::ViewSnapshotRequest>,
    ) -> Result<Response<wire::ViewSnapshotResponse>, Status> {
        let (ns, store) = (
            namespace(&request)?,
            self.store.leased(lease(&request)?.as_deref()),
        );
        let new = request.into_inner();
        let mounts = blocking(move || {
            store.view(
                &ns,
                &new.snapshotter,
                &new.key,
                &new.parent,
                &labels(new.labels),
            )
        });
        Ok(Response::new(wire::ViewSnapshotResponse {
            mounts: to_mounts(mounts.await.map_err(to_status)?),
        }))
    }

    async fn mounts(
        &self,
        request: Request<wire::MountsRequest>,
    ) -> Result<Response<wire::MountsResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::MountsRequest { snapshotter, key } = request.into_inner();
        let mounts = blocking(move || store.mounts(&ns, &snapshotter, &key))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::MountsResponse {
            mounts: to_mounts(mounts),
        }))
    }

    async fn commit(
        &self,
        request: Request<wire::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (
            namespace(&request)?,
            self.store.leased(lease(&request)?.as_deref()),
        );
        let new = request.into_inner();
        let committed = blocking(move || {
            store.commit(
                &ns,
                &new.snapshotter,
                &new.name,
                &new.key,
                &labels(new.labels),
            )
        });
        committed.await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::RemoveSnapshotRequest { snapshotter, key } = request.into_inner();
        blocking(move || store.remove(&ns, &snapshotter, &key))
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<wire::StatSnapshotRequest>,
    ) -> Result<Response<wire::StatSnapshotResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::StatSnapshotRequest { snapshotter, key } = request.into_inner();
        let info = blocking(move || store.stat(&ns, &snapshotter, &key))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::StatSnapshotResponse {
            info: Some(to_wire(info)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateSnapshotRequest>,
    ) -> Result<Response<wire::UpdateSnapshotResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::UpdateSnapshotRequest {
            snapshotter,
            info,
            update_mask,
        } = request.into_inner();
        let info =
            info.ok_or_else(|| Status::invalid_argument("info is required: invalid argument"))?;
        let update = label_update(update_mask, &format!("snapshot {:?}", info.name))?;
        let info = blocking(move || {
            store.update(&ns, &snapshotter, &info.name, &labels(info.labels), &update)
        });
        Ok(Response::new(wire::UpdateSnapshotResponse {
            info: Some(to_wire(info.await.map_err(to_status)?)),
        }))
    }

    type ListStream = BoxStream<'static, Result<wire::ListSnapshotsResponse, Status>>;

    async fn list(
        &self,
        request: Request<wire::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::ListSnapshotsRequest {
            snapshotter,
            filters: texts,
        } = request.into_inner();
        let filters = filters(&texts)?;
        let all = blocking(move || store.list(&ns, &snapshotter, &filters))
            .await
            .map_err(to_status)?;
        let infos: Vec<wire::Info> = all.into_iter().map(to_wire).collect();
        let messages: Vec<_> = infos
            .chunks(PER_MESSAGE)
            .map(|info| {
                Ok(wire::ListSnapshotsResponse {
                    info: info.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn usage(
        &self,
        request: Request<wire::UsageRequest>,
    ) -> Result<Response<wire::UsageResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::UsageRequest { snapshotter, key } = request.into_inner();
        let usage = blocking(move || store.usage(&ns, &snapshotter, &key))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::UsageResponse {
            size: signed(usage.size),
            inodes: signed(usage.inodes),
        }))
    }

    /// Removal is complete when it is answered: nothing is left to clean.
    async fn cleanup(&self, _: Request<wire::CleanupRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}
