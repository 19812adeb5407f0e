//! `engine.v1`: Docker's semantics for ctl and other clients. A file per group
//! of calls; this one only says which call goes where.

mod build;
mod containers;
mod copies;
mod events;
mod host_config;
mod images;
mod networks;
mod registries;
mod sessions;
mod version;
mod volumes;

use std::pin::Pin;

use engine::Engine;
use engine::build::Builder;
use futures_util::Stream;
use proto::engine::v1 as wire;
use proto::engine::v1::engine_server::EngineServer;
use tonic::{Request, Response, Status, Streaming};

use crate::api::status::to_status;

/// The service over `engine` and `builder`.
#[must_use]
pub fn service(engine: Engine, builder: Builder) -> EngineServer<EngineApi> {
    EngineServer::new(EngineApi(engine, builder))
}

/// The adapter.
pub struct EngineApi(Engine, Builder);

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(outcome: lite_core::Result<T>) -> Answer<T> {
    outcome.map(Response::new).map_err(to_status)
}

#[tonic::async_trait]
impl wire::engine_server::Engine for EngineApi {
    async fn version(&self, _: Request<()>) -> Answer<wire::VersionResponse> {
        Ok(Response::new(version::version()))
    }

    async fn info(&self, _: Request<()>) -> Answer<wire::InspectResponse> {
        answer(version::info(&self.0).await)
    }

    async fn disk_usage(&self, _: Request<()>) -> Answer<wire::InspectResponse> {
        let measured = engine::system::usage(&self.0).await;
        answer(measured.map(|usage| wire::InspectResponse {
            json: usage.to_string(),
        }))
    }

    async fn doctor(&self, _: Request<()>) -> Answer<wire::DoctorResponse> {
        answer(version::doctor(&self.0).await)
    }

    type PullImageStream = Messages<wire::PullImageResponse>;
    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Answer<Self::PullImageStream> {
        answer(images::pull(&self.0, request.into_inner()).await)
    }

    type PushImageStream = Messages<wire::PushImageResponse>;
    async fn push_image(
        &self,
        request: Request<wire::PushImageRequest>,
    ) -> Answer<Self::PushImageStream> {
        answer(registries::push(&self.0, request.into_inner()).await)
    }

    async fn login(&self, request: Request<wire::LoginRequest>) -> Answer<wire::LoginResponse> {
        answer(registries::login(&self.0, request.into_inner()).await)
    }

    async fn search_images(
        &self,
        request: Request<wire::SearchImagesRequest>,
    ) -> Answer<wire::SearchImagesResponse> {
        answer(registries::search(&self.0, request.into_inner()).await)
    }

    async fn load_images(
        &self,
        request: Request<Streaming<wire::LoadImagesRequest>>,
    ) -> Answer<wire::LoadImagesResponse> {
        answer(images::load(&self.0, request.into_inner()).await)
    }

    async fn tag_image(&self, request: Request<wire::TagImageRequest>) -> Answer<()> {
        let wire::TagImageRequest { source, target } = request.into_inner();
        answer(engine::images::tag_image(&self.0, &source, &target).await)
    }

    async fn image_history(
        &self,
        request: Request<wire::InspectImageRequest>,
    ) -> Answer<wire::InspectResponse> {
        let rows = engine::images::history(&self.0, &request.into_inner().image).await;
        answer(rows.map(|rows| wire::InspectResponse {
            json: rows.to_string(),
        }))
    }

    type SaveImagesStream = Messages<wire::Chunk>;
    async fn save_images(
        &self,
        request: Request<wire::SaveImagesRequest>,
    ) -> Answer<Self::SaveImagesStream> {
        let wire::SaveImagesRequest { names, platform } = request.into_inner();
        let saved = engine::images::save_images(&self.0, &names, &platform).await;
        answer(saved.map(copies::chunks))
    }

    async fn import_image(
        &self,
        request: Request<Streaming<wire::ImportImageRequest>>,
    ) -> Answer<wire::CommitContainerResponse> {
        answer(copies::import(&self.0, request.into_inner()).await)
    }

    async fn prune_images(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Answer<wire::PruneResponse> {
        let wire::PruneRequest { all, filters } = request.into_inner();
        let pruned = engine::images::prune_images(&self.0, all, &filters).await;
        answer(pruned.map(volumes::pruned))
    }

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Answer<wire::ListImagesResponse> {
        answer(images::list(&self.0, request.into_inner()).await)
    }

    async fn remove_image(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Answer<wire::RemoveImageResponse> {
        answer(images::remove(&self.0, request.into_inner()).await)
    }

    async fn inspect_image(
        &self,
        request: Request<wire::InspectImageRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(images::inspect(&self.0, request.into_inner()).await)
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Answer<wire::CreateContainerResponse> {
        answer(containers::create(&self.0, request.into_inner()).await)
    }

    async fn start_container(&self, request: Request<wire::StartContainerRequest>) -> Answer<()> {
        answer(engine::start::start(&self.0, &request.into_inner().container).await)
    }

    async fn stop_container(&self, request: Request<wire::StopContainerRequest>) -> Answer<()> {
        let wire::StopContainerRequest {
            container,
            timeout_s,
            signal,
        } = request.into_inner();
        answer(engine::stop::stop(&self.0, &container, timeout_s, &signal).await)
    }

    async fn kill_container(&self, request: Request<wire::KillContainerRequest>) -> Answer<()> {
        let wire::KillContainerRequest { container, signal } = request.into_inner();
        answer(engine::kill::kill(&self.0, &container, &signal).await)
    }

    async fn remove_container(&self, request: Request<wire::RemoveContainerRequest>) -> Answer<()> {
        let wire::RemoveContainerRequest {
            container,
            force,
            volumes,
        } = request.into_inner();
        answer(engine::remove::remove(&self.0, &container, force, volumes).await)
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Answer<wire::ListContainersResponse> {
        answer(containers::list(&self.0, request.into_inner()).await)
    }

    async fn inspect_container(
        &self,
        request: Request<wire::InspectContainerRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(containers::inspect(&self.0, request.into_inner()).await)
    }

    async fn wait_container(
        &self,
        request: Request<wire::WaitContainerRequest>,
    ) -> Answer<wire::WaitContainerResponse> {
        answer(containers::wait(&self.0, &request.into_inner().container).await)
    }

    type ReadLogsStream = Messages<wire::LogEntry>;
    async fn read_logs(
        &self,
        request: Request<wire::ReadLogsRequest>,
    ) -> Answer<Self::ReadLogsStream> {
        answer(containers::logs(&self.0, request.into_inner()).await)
    }

    async fn pause_container(&self, request: Request<wire::ContainerRequest>) -> Answer<()> {
        answer(engine::pause::pause(&self.0, &request.into_inner().container, true).await)
    }

    async fn unpause_container(&self, request: Request<wire::ContainerRequest>) -> Answer<()> {
        answer(engine::pause::pause(&self.0, &request.into_inner().container, false).await)
    }

    async fn restart_container(&self, request: Request<wire::StopContainerRequest>) -> Answer<()> {
        let wire::StopContainerRequest {
            container,
            timeout_s,
            signal,
        } = request.into_inner();
        answer(engine::stop::restart(&self.0, &container, timeout_s, &signal).await)
    }

    async fn rename_container(&self, request: Request<wire::RenameContainerRequest>) -> Answer<()> {
        let wire::RenameContainerRequest { container, name } = request.into_inner();
        answer(engine::rename::rename(&self.0, &container, &name).await)
    }

    async fn update_container(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Answer<wire::UpdateContainerResponse> {
        answer(containers::update(&self.0, request.into_inner()).await)
    }

    async fn top_container(
        &self,
        request: Request<wire::TopContainerRequest>,
    ) -> Answer<wire::TopContainerResponse> {
        answer(containers::top(&self.0, request.into_inner()).await)
    }

    async fn stats_container(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Answer<wire::StatsResponse> {
        answer(containers::stats(&self.0, &request.into_inner().container).await)
    }

    async fn prune_containers(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Answer<wire::PruneResponse> {
        let filters = request.into_inner().filters;
        let pruned = engine::prune::containers(&self.0, &filters).await;
        answer(pruned.map(volumes::pruned))
    }

    async fn commit_container(
        &self,
        request: Request<wire::CommitContainerRequest>,
    ) -> Answer<wire::CommitContainerResponse> {
        answer(containers::commit(&self.0, request.into_inner()).await)
    }

    async fn diff_container(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Answer<wire::DiffContainerResponse> {
        answer(copies::diff(&self.0, &request.into_inner().container).await)
    }

    type ExportContainerStream = Messages<wire::Chunk>;
    async fn export_container(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Answer<Self::ExportContainerStream> {
        let exported = engine::diff::export(&self.0, &request.into_inner().container);
        answer(exported.map(copies::chunks))
    }

    async fn stat_path(&self, request: Request<wire::StatPathRequest>) -> Answer<wire::PathStat> {
        answer(copies::stat(&self.0, request.into_inner()).await)
    }

    type CopyFromStream = Messages<wire::CopyFromResponse>;
    async fn copy_from(
        &self,
        request: Request<wire::CopyFromRequest>,
    ) -> Answer<Self::CopyFromStream> {
        answer(copies::copy_from(&self.0, request.into_inner()).await)
    }

    async fn copy_to(&self, request: Request<Streaming<wire::CopyToRequest>>) -> Answer<()> {
        answer(copies::copy_to(&self.0, request.into_inner()).await)
    }

    async fn create_volume(
        &self,
        request: Request<wire::CreateVolumeRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(volumes::create(&self.0, request.into_inner()).await)
    }

    async fn list_volumes(
        &self,
        request: Request<wire::ListVolumesRequest>,
    ) -> Answer<wire::ListVolumesResponse> {
        answer(volumes::list(&self.0, request.into_inner()).await)
    }

    async fn inspect_volume(
        &self,
        request: Request<wire::VolumeRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(volumes::inspect(&self.0, &request.into_inner().volume).await)
    }

    async fn remove_volume(&self, request: Request<wire::VolumeRequest>) -> Answer<()> {
        let wire::VolumeRequest { volume, force } = request.into_inner();
        answer(engine::volumes::remove(&self.0, &volume, force).await)
    }

    async fn prune_volumes(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Answer<wire::PruneResponse> {
        answer(volumes::prune(&self.0, request.into_inner()).await)
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(networks::create(&self.0, request.into_inner()).await)
    }

    async fn list_networks(
        &self,
        request: Request<wire::ListNetworksRequest>,
    ) -> Answer<wire::ListNetworksResponse> {
        answer(networks::list(&self.0, request.into_inner()))
    }

    async fn inspect_network(
        &self,
        request: Request<wire::NetworkRequest>,
    ) -> Answer<wire::InspectResponse> {
        answer(networks::inspect(&self.0, &request.into_inner().network))
    }

    async fn remove_network(&self, request: Request<wire::NetworkRequest>) -> Answer<()> {
        answer(engine::networks::remove(&self.0, &request.into_inner().network).await)
    }

    async fn connect_network(&self, request: Request<wire::ConnectNetworkRequest>) -> Answer<()> {
        answer(networks::connect(&self.0, request.into_inner()).await)
    }

    async fn disconnect_network(
        &self,
        request: Request<wire::ConnectNetworkRequest>,
    ) -> Answer<()> {
        answer(networks::disconnect(&self.0, request.into_inner()).await)
    }

    async fn prune_networks(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Answer<wire::PruneResponse> {
        answer(networks::prune(&self.0, request.into_inner()).await)
    }

    type EventsStream = Messages<wire::Event>;
    async fn events(&self, request: Request<wire::EventsRequest>) -> Answer<Self::EventsStream> {
        answer(events::listen(&self.0, request.into_inner()))
    }

    type AttachStream = Messages<wire::SessionOutput>;
    async fn attach(
        &self,
        request: Request<Streaming<wire::SessionInput>>,
    ) -> Answer<Self::AttachStream> {
        answer(sessions::attach(&self.0, request.into_inner()).await)
    }

    type ExecStream = Messages<wire::SessionOutput>;
    async fn exec(
        &self,
        request: Request<Streaming<wire::SessionInput>>,
    ) -> Answer<Self::ExecStream> {
        answer(sessions::exec(&self.0, request.into_inner()).await)
    }

    type BuildStream = Messages<wire::BuildOutput>;
    async fn build(
        &self,
        request: Request<Streaming<wire::BuildInput>>,
    ) -> Answer<Self::BuildStream> {
        answer(build::build(&self.0, &self.1, request.into_inner()).await)
    }

    async fn prune_builds(&self, _: Request<()>) -> Answer<()> {
        let builder = self.1.clone();
        let pruned = lite_core::blocking(move || builder.prune()).await;
        self.0.sweep().await;
        answer(pruned)
    }
}
