//! Every service of the gRPC socket, one line each: this is the place to plug in
//! an adapter.

use cri::Cri;
use engine::Engine;
use engine::build::Builder;
use lite_core::Core;
use proto::containerd::services::containers::v1::containers_server::ContainersServer;
use proto::containerd::services::content::v1::content_server::ContentServer;
use proto::containerd::services::diff::v1::diff_server::DiffServer;
use proto::containerd::services::events::v1::events_server::EventsServer;
use proto::containerd::services::images::v1::images_server::ImagesServer;
use proto::containerd::services::introspection::v1::introspection_server::IntrospectionServer;
use proto::containerd::services::leases::v1::leases_server::LeasesServer;
use proto::containerd::services::namespaces::v1::namespaces_server::NamespacesServer;
use proto::containerd::services::snapshots::v1::snapshots_server::SnapshotsServer;
use proto::containerd::services::streaming::v1::streaming_server::StreamingServer;
use proto::containerd::services::tasks::v1::tasks_server::TasksServer;
use proto::containerd::services::transfer::v1::transfer_server::TransferServer;
use proto::containerd::services::version::v1::version_server::VersionServer;
use proto::runtime::v1::image_service_server::ImageServiceServer;
use proto::runtime::v1::runtime_service_server::RuntimeServiceServer;
use tonic::service::{Routes, RoutesBuilder};

use crate::api::containers::ContainersApi;
use crate::api::content::ContentApi;
use crate::api::cri::{CriImagesApi, CriRuntimeApi};
use crate::api::diff::DiffApi;
use crate::api::events::EventsApi;
use crate::api::images::ImagesApi;
use crate::api::introspection::IntrospectionApi;
use crate::api::leases::LeasesApi;
use crate::api::namespaces::NamespacesApi;
use crate::api::snapshots::SnapshotsApi;
use crate::api::streaming::{StreamingApi, Streams};
use crate::api::tasks::TasksApi;
use crate::api::transfer::TransferApi;
use crate::api::version::VersionApi;
use crate::collector::Collector;

/// Every service on the gRPC socket, over `core` and `engine`.
pub(crate) async fn routes(
    core: &Core,
    engine: Engine,
    cri: Cri,
    builder: Builder,
    introspection: IntrospectionApi,
) -> Routes {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let mut routes = RoutesBuilder::default();
    routes.add_service(health);
    routes.add_service(crate::api::engine::service(engine, builder));
    routes.add_service(ImageServiceServer::new(CriImagesApi::new(cri.clone())));
    routes.add_service(RuntimeServiceServer::new(CriRuntimeApi::new(cri)));
    let collector = Collector::start(core.clone());
    routes.add_service(VersionServer::new(VersionApi));
    routes.add_service(NamespacesServer::new(NamespacesApi::new(
        core.namespaces.clone(),
    )));
    routes.add_service(ContentServer::new(ContentApi::new(
        core.content.clone(),
        collector.clone(),
    )));
    routes.add_service(ImagesServer::new(ImagesApi::new(
        core.images.clone(),
        collector.clone(),
    )));
    routes.add_service(SnapshotsServer::new(SnapshotsApi::new(
        core.snapshots.clone(),
    )));
    routes.add_service(DiffServer::new(DiffApi::new(core.content.clone())));
    routes.add_service(ContainersServer::new(ContainersApi::new(
        core.containers.clone(),
        collector.clone(),
    )));
    routes.add_service(LeasesServer::new(LeasesApi::new(
        core.leases.clone(),
        collector,
    )));
    routes.add_service(TasksServer::new(TasksApi::new(
        core.tasks.clone(),
        core.containers.clone(),
    )));
    routes.add_service(EventsServer::new(EventsApi::new(
        core.events.clone(),
        core.tasks.clone(),
    )));
    routes.add_service(IntrospectionServer::new(introspection));
    let streams = Streams::default();
    routes.add_service(StreamingServer::new(StreamingApi::new(streams.clone())));
    routes.add_service(TransferServer::new(TransferApi::new(core.clone(), streams)));
    routes.routes()
}
