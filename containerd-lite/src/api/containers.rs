//! Containers: the records.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use lite_core::{Container, Containers, Runtime, blocking};
use proto::containerd::services::containers::v1 as wire;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{any, filters, labels, namespace, paths, timestamp, to_any, to_map};
use crate::collector::Collector;

/// The adapter over the containers' store.
#[derive(Clone)]
pub struct ContainersApi {
    store: Containers,
    collector: Collector,
}

impl ContainersApi {
    /// An adapter of `store`; what a removed container kept goes to `collector`.
    #[must_use]
    pub fn new(store: Containers, collector: Collector) -> Self {
        Self { store, collector }
    }

    async fn all(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Vec<wire::Container>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let filters = filters(&request.into_inner().filters)?;
        let all = blocking(move || store.list(&ns, &filters))
            .await
            .map_err(to_status)?;
        Ok(all.into_iter().map(to_wire).collect())
    }
}

fn to_wire(container: Container) -> wire::Container {
    wire::Container {
        id: container.id,
        labels: to_map(container.labels),
        image: container.image,
        runtime: Some(wire::container::Runtime {
            name: container.runtime.name,
            options: container.runtime.options.map(to_any),
        }),
        spec: container.spec.map(to_any),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: timestamp(container.created_at),
        updated_at: timestamp(container.updated_at),
        extensions: container
            .extensions
            .into_iter()
            .map(|(name, value)| (name, to_any(value)))
            .collect(),
        sandbox: container.sandbox,
    }
}

fn required(container: Option<wire::Container>) -> Result<Container, Status> {
    let wire = container
        .ok_or_else(|| Status::invalid_argument("container is required: invalid argument"))?;
    let runtime = wire.runtime.unwrap_or_default();
    Ok(Container {
        id: wire.id,
        labels: labels(wire.labels),
        image: wire.image,
        runtime: Runtime {
            name: runtime.name,
            options: runtime.options.map(any),
        },
        spec: wire.spec.map(any),
        snapshotter: wire.snapshotter,
        snapshot_key: wire.snapshot_key,
        extensions: wire
            .extensions
            .into_iter()
            .map(|(name, value)| (name, any(value)))
            .collect(),
        sandbox: wire.sandbox,
        ..Container::default()
    })
}

#[tonic::async_trait]
impl wire::containers_server::Containers for ContainersApi {
    async fn get(
        &self,
        request: Request<wire::GetContainerRequest>,
    ) -> Result<Response<wire::GetContainerResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let id = request.into_inner().id;
        let container = blocking(move || store.get(&ns, &id))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::GetContainerResponse {
            container: Some(to_wire(container)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        Ok(Response::new(wire::ListContainersResponse {
            containers: self.all(request).await?,
        }))
    }

    type ListStreamStream = BoxStream<'static, Result<wire::ListContainerMessage, Status>>;

    async fn list_stream(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let messages = self.all(request).await?.into_iter().map(|container| {
            Ok(wire::ListContainerMessage {
                container: Some(container),
            })
        });
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn create(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let container = required(request.into_inner().container)?;
        let container = blocking(move || store.create(&ns, container))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::CreateContainerResponse {
            container: Some(to_wire(container)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Result<Response<wire::UpdateContainerResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::UpdateContainerRequest {
            container,
            update_mask,
        } = request.into_inner();
        let (container, paths) = (required(container)?, paths(update_mask));
        let container = blocking(move || store.update(&ns, &container, &paths))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::UpdateContainerResponse {
            container: Some(to_wire(container)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteContainerRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let id = request.into_inner().id;
        blocking(move || store.delete(&ns, &id))
            .await
            .map_err(to_status)?;
        self.collector.soon();
        Ok(Response::new(()))
    }
}
