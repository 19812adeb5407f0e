//! CRI's RuntimeService.

use std::collections::HashMap;

use cri::Cri;
use proto::runtime::v1 as wire;
use proto::runtime::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use super::Messages;

/// The version of the kubelet's side of the API; it has never been another.
const KUBE_API: &str = "0.1.0";

/// Pods and containers for a kubelet.
#[derive(Clone)]
pub struct CriRuntimeApi {
    cri: Cri,
}

impl CriRuntimeApi {
    /// Serves `cri`.
    #[must_use]
    pub fn new(cri: Cri) -> Self {
        Self { cri }
    }
}

/// The answer of a method that is not there yet.
fn absent(method: &str) -> Status {
    Status::unimplemented(format!("{method} is not offered by this daemon"))
}

#[tonic::async_trait]
impl RuntimeService for CriRuntimeApi {
    type StreamPodSandboxesStream = Messages<wire::StreamPodSandboxesResponse>;
    type StreamContainersStream = Messages<wire::StreamContainersResponse>;
    type StreamContainerStatsStream = Messages<wire::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Messages<wire::StreamPodSandboxStatsResponse>;
    type GetContainerEventsStream = Messages<wire::ContainerEventResponse>;
    type StreamPodSandboxMetricsStream = Messages<wire::StreamPodSandboxMetricsResponse>;

    async fn version(
        &self,
        _: Request<wire::VersionRequest>,
    ) -> Result<Response<wire::VersionResponse>, Status> {
        Ok(Response::new(wire::VersionResponse {
            version: KUBE_API.to_owned(),
            runtime_name: "containerd-lite".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let conditions = self.cri.conditions().into_iter().map(|condition| {
            let (status, reason, message) = match condition.fault {
                None => (true, String::new(), String::new()),
                Some((reason, message)) => (false, reason.to_owned(), message),
            };
            wire::RuntimeCondition {
                r#type: condition.name.to_owned(),
                status,
                reason,
                message,
            }
        });
        let info = if request.into_inner().verbose {
            HashMap::from([("config".to_owned(), self.cri.about().to_string())])
        } else {
            HashMap::new()
        };
        Ok(Response::new(wire::StatusResponse {
            status: Some(wire::RuntimeStatus {
                conditions: conditions.collect(),
            }),
            info,
            ..wire::StatusResponse::default()
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<wire::RuntimeConfigRequest>,
    ) -> Result<Response<wire::RuntimeConfigResponse>, Status> {
        Ok(Response::new(wire::RuntimeConfigResponse {
            linux: Some(wire::LinuxRuntimeConfiguration {
                cgroup_driver: wire::CgroupDriver::Cgroupfs.into(),
            }),
        }))
    }

    async fn update_runtime_config(
        &self,
        _: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<wire::UpdateRuntimeConfigResponse>, Status> {
        Err(absent("UpdateRuntimeConfig"))
    }

    async fn run_pod_sandbox(
        &self,
        _: Request<wire::RunPodSandboxRequest>,
    ) -> Result<Response<wire::RunPodSandboxResponse>, Status> {
        Err(absent("RunPodSandbox"))
    }

    async fn stop_pod_sandbox(
        &self,
        _: Request<wire::StopPodSandboxRequest>,
    ) -> Result<Response<wire::StopPodSandboxResponse>, Status> {
        Err(absent("StopPodSandbox"))
    }

    async fn remove_pod_sandbox(
        &self,
        _: Request<wire::RemovePodSandboxRequest>,
    ) -> Result<Response<wire::RemovePodSandboxResponse>, Status> {
        Err(absent("RemovePodSandbox"))
    }

    async fn pod_sandbox_status(
        &self,
        _: Request<wire::PodSandboxStatusRequest>,
    ) -> Result<Response<wire::PodSandboxStatusResponse>, Status> {
        Err(absent("PodSandboxStatus"))
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<wire::ListPodSandboxRequest>,
    ) -> Result<Response<wire::ListPodSandboxResponse>, Status> {
        Err(absent("ListPodSandbox"))
    }

    async fn stream_pod_sandboxes(
        &self,
        _: Request<wire::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        Err(absent("StreamPodSandboxes"))
    }

    async fn create_container(
        &self,
        _: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        Err(absent("CreateContainer"))
    }

    async fn start_container(
        &self,
        _: Request<wire::StartContainerRequest>,
    ) -> Result<Response<wire::StartContainerResponse>, Status> {
        Err(absent("StartContainer"))
    }

    async fn stop_container(
        &self,
        _: Request<wire::StopContainerRequest>,
    ) -> Result<Response<wire::StopContainerResponse>, Status> {
        Err(absent("StopContainer"))
    }

    async fn remove_container(
        &self,
        _: Request<wire::RemoveContainerRequest>,
    ) -> Result<Response<wire::RemoveContainerResponse>, Status> {
        Err(absent("RemoveContainer"))
    }

    async fn list_containers(
        &self,
        _: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        Err(absent("ListContainers"))
    }

    async fn stream_containers(
        &self,
        _: Request<wire::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        Err(absent("StreamContainers"))
    }

    async fn container_status(
        &self,
        _: Request<wire::ContainerStatusRequest>,
    ) -> Result<Response<wire::ContainerStatusResponse>, Status> {
        Err(absent("ContainerStatus"))
    }

    async fn update_container_resources(
        &self,
        _: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Result<Response<wire::UpdateContainerResourcesResponse>, Status> {
        Err(absent("UpdateContainerResources"))
    }

    async fn reopen_container_log(
        &self,
        _: Request<wire::ReopenContainerLogRequest>,
    ) -> Result<Response<wire::ReopenContainerLogResponse>, Status> {
        Err(absent("ReopenContainerLog"))
    }

    async fn exec_sync(
        &self,
        _: Request<wire::ExecSyncRequest>,
    ) -> Result<Response<wire::ExecSyncResponse>, Status> {
        Err(absent("ExecSync"))
    }

    async fn exec(
        &self,
        _: Request<wire::ExecRequest>,
    ) -> Result<Response<wire::ExecResponse>, Status> {
        Err(absent("Exec"))
    }

    async fn attach(
        &self,
        _: Request<wire::AttachRequest>,
    ) -> Result<Response<wire::AttachResponse>, Status> {
        Err(absent("Attach"))
    }

    async fn port_forward(
        &self,
        _: Request<wire::PortForwardRequest>,
    ) -> Result<Response<wire::PortForwardResponse>, Status> {
        Err(absent("PortForward"))
    }

    async fn container_stats(
        &self,
        _: Request<wire::ContainerStatsRequest>,
    ) -> Result<Response<wire::ContainerStatsResponse>, Status> {
        Err(absent("ContainerStats"))
    }

    async fn list_container_stats(
        &self,
        _: Request<wire::ListContainerStatsRequest>,
    ) -> Result<Response<wire::ListContainerStatsResponse>, Status> {
        Err(absent("ListContainerStats"))
    }

    async fn stream_container_stats(
        &self,
        _: Request<wire::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        Err(absent("StreamContainerStats"))
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<wire::PodSandboxStatsRequest>,
    ) -> Result<Response<wire::PodSandboxStatsResponse>, Status> {
        Err(absent("PodSandboxStats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<wire::ListPodSandboxStatsRequest>,
    ) -> Result<Response<wire::ListPodSandboxStatsResponse>, Status> {
        Err(absent("ListPodSandboxStats"))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<wire::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        Err(absent("StreamPodSandboxStats"))
    }

    async fn checkpoint_container(
        &self,
        _: Request<wire::CheckpointContainerRequest>,
    ) -> Result<Response<wire::CheckpointContainerResponse>, Status> {
        Err(absent("CheckpointContainer"))
    }

    async fn get_container_events(
        &self,
        _: Request<wire::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        Err(absent("GetContainerEvents"))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<wire::ListMetricDescriptorsRequest>,
    ) -> Result<Response<wire::ListMetricDescriptorsResponse>, Status> {
        Err(absent("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<wire::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<wire::ListPodSandboxMetricsResponse>, Status> {
        Err(absent("ListPodSandboxMetrics"))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<wire::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        Err(absent("StreamPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<wire::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<wire::UpdatePodSandboxResourcesResponse>, Status> {
        Err(absent("UpdatePodSandboxResources"))
    }
}
