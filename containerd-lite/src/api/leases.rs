//! Leases.

use lite_core::{Lease, Leases, Resource, blocking};
use proto::containerd::services::leases::v1 as wire;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{filters, labels, namespace, timestamp, to_map};
use crate::collector::Collector;

/// The adapter over the leases' store.
#[derive(Clone)]
pub struct LeasesApi {
    store: Leases,
    collector: Collector,
}

impl LeasesApi {
    /// An adapter of `store`; what a removed lease held goes to `collector`.
    #[must_use]
    pub fn new(store: Leases, collector: Collector) -> Self {
        Self { store, collector }
    }
}

fn to_wire(lease: Lease) -> wire::Lease {
    wire::Lease {
        id: lease.id,
        created_at: timestamp(lease.created_at),
        labels: to_map(lease.labels),
    }
}

fn resource(wire: Option<wire::Resource>) -> Result<Resource, Status> {
    let wire =
        wire.ok_or_else(|| Status::invalid_argument("resource is required: invalid argument"))?;
    Ok(Resource {
        kind: wire.r#type,
        id: wire.id,
    })
}

#[tonic::async_trait]
impl wire::leases_server::Leases for LeasesApi {
    async fn create(
        &self,
        request: Request<wire::CreateRequest>,
    ) -> Result<Response<wire::CreateResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let request = request.into_inner();
        let made = blocking(move || store.create(&ns, &request.id, &labels(request.labels)));
        Ok(Response::new(wire::CreateResponse {
            lease: Some(to_wire(made.await.map_err(to_status)?)),
        }))
    }

    async fn delete(&self, request: Request<wire::DeleteRequest>) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::DeleteRequest { id, sync } = request.into_inner();
        blocking(move || store.delete(&ns, &id))
            .await
            .map_err(to_status)?;
        if sync {
            self.collector.now().await.map_err(to_status)?;
        } else {
            self.collector.soon();
        }
        Ok(Response::new(()))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let filters = filters(&request.into_inner().filters)?;
        let all = blocking(move || store.list(&ns, &filters))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::ListResponse {
            leases: all.into_iter().map(to_wire).collect(),
        }))
    }

    async fn add_resource(
        &self,
        request: Request<wire::AddResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let request = request.into_inner();
        let resource = resource(request.resource)?;
        blocking(move || store.add_resource(&ns, &request.id, &resource))
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<wire::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let request = request.into_inner();
        let resource = resource(request.resource)?;
        blocking(move || store.delete_resource(&ns, &request.id, &resource))
            .await
            .map_err(to_status)?;
        self.collector.soon();
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Result<Response<wire::ListResourcesResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let id = request.into_inner().id;
        let all = blocking(move || store.resources(&ns, &id))
            .await
            .map_err(to_status)?;
        let resources = all.into_iter().map(|resource| wire::Resource {
            id: resource.id,
            r#type: resource.kind,
        });
        Ok(Response::new(wire::ListResourcesResponse {
            resources: resources.collect(),
        }))
    }
}
