//! Namespaces: containerd's tenants. These calls name theirs in the message.

use lite_core::{Namespace, NamespaceRecord, Namespaces, blocking};
use proto::containerd::services::namespaces::v1 as wire;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{label_update, labels, to_map};

/// The adapter over the tenants' store.
#[derive(Clone)]
pub struct NamespacesApi {
    store: Namespaces,
}

impl NamespacesApi {
    /// An adapter of `store`.
    #[must_use]
    pub fn new(store: Namespaces) -> Self {
        Self { store }
    }
}

fn to_wire(record: NamespaceRecord) -> wire::Namespace {
    wire::Namespace {
        name: record.name.to_string(),
        labels: to_map(record.labels),
    }
}

fn required(namespace: Option<wire::Namespace>) -> Result<wire::Namespace, Status> {
    namespace.ok_or_else(|| Status::invalid_argument("namespace is required: invalid argument"))
}

#[tonic::async_trait]
impl wire::namespaces_server::Namespaces for NamespacesApi {
    async fn get(
        &self,
        request: Request<wire::GetNamespaceRequest>,
    ) -> Result<Response<wire::GetNamespaceResponse>, Status> {
        let (store, name) = (self.store.clone(), request.into_inner().name);
        let found = blocking(move || store.get(&Namespace::parse(&name)?))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::GetNamespaceResponse {
            namespace: Some(to_wire(found)),
        }))
    }

    async fn list(
        &self,
        _: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let store = self.store.clone();
        let all = blocking(move || store.list()).await.map_err(to_status)?;
        Ok(Response::new(wire::ListNamespacesResponse {
            namespaces: all.into_iter().map(to_wire).collect(),
        }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateNamespaceRequest>,
    ) -> Result<Response<wire::CreateNamespaceResponse>, Status> {
        let (store, new) = (
            self.store.clone(),
            required(request.into_inner().namespace)?,
        );
        let made = blocking(move || {
            let record = NamespaceRecord {
                name: Namespace::parse(&new.name)?,
                labels: labels(new.labels),
            };
            store.create(&record.name, &record.labels)?;
            Ok(record)
        });
        let made = made.await.map_err(to_status)?;
        Ok(Response::new(wire::CreateNamespaceResponse {
            namespace: Some(to_wire(made)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateNamespaceRequest>,
    ) -> Result<Response<wire::UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let (store, new) = (self.store.clone(), required(request.namespace)?);
        let update = label_update(request.update_mask, &format!("namespace {:?}", new.name))?;
        let updated = blocking(move || {
            store.update(&Namespace::parse(&new.name)?, &labels(new.labels), &update)
        });
        let updated = updated.await.map_err(to_status)?;
        Ok(Response::new(wire::UpdateNamespaceResponse {
            namespace: Some(to_wire(updated)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteNamespaceRequest>,
    ) -> Result<Response<()>, Status> {
        let (store, name) = (self.store.clone(), request.into_inner().name);
        blocking(move || store.delete(&Namespace::parse(&name)?))
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }
}
