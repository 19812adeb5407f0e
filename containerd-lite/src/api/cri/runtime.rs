//! CRI's RuntimeService.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use cri::containers::{self, ContainerFilter};
use cri::pods::{self, PodFilter};
use cri::record::ContainerState;
use cri::urls::{self, Wanted};
use cri::{Cri, handlers};
use proto::runtime::v1 as wire;
use proto::runtime::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use super::{Messages, config, events, in_parts, nanos, records, stats};
use crate::api::status::to_status;

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

    fn pods(&self, filter: Option<wire::PodSandboxFilter>) -> Vec<wire::PodSandbox> {
        let filter = filter.unwrap_or_default();
        let ready = filter.state.map(|state| state.state());
        let filter = PodFilter {
            id: filter.id,
            ready: ready.map(|state| state == wire::PodSandboxState::SandboxReady),
            labels: filter.label_selector.into_iter().collect(),
        };
        let pods = pods::list(&self.cri, &filter);
        pods.iter().map(|pod| records::pod(pod)).collect()
    }

    async fn stats_of_containers(
        &self,
        filter: Option<wire::ContainerStatsFilter>,
    ) -> Vec<wire::ContainerStats> {
        let filter = filter.unwrap_or_default();
        let filter = ContainerFilter {
            id: filter.id,
            pod: filter.pod_sandbox_id,
            state: Some(ContainerState::Running),
            labels: filter.label_selector.into_iter().collect(),
        };
        let all = cri::stats::of_containers(&self.cri, &filter).await;
        all.iter().map(stats::container).collect()
    }

    async fn stats_of_pods(
        &self,
        filter: Option<wire::PodSandboxStatsFilter>,
    ) -> Vec<wire::PodSandboxStats> {
        let filter = filter.unwrap_or_default();
        let filter = PodFilter {
            id: filter.id,
            ready: None,
            labels: filter.label_selector.into_iter().collect(),
        };
        let all = cri::stats::of_pods(&self.cri, &filter).await;
        all.iter().map(stats::pod).collect()
    }

    fn containers(&self, filter: Option<wire::ContainerFilter>) -> Vec<wire::Container> {
        let filter = filter.unwrap_or_default();
        let state = filter.state.map(|state| state.state());
        if state == Some(wire::ContainerState::ContainerUnknown) {
            return Vec::new();
        }
        let filter = ContainerFilter {
            id: filter.id,
            pod: filter.pod_sandbox_id,
            state: state.map(|state| match state {
                wire::ContainerState::ContainerCreated => ContainerState::Created,
                wire::ContainerState::ContainerRunning => ContainerState::Running,
                _ => ContainerState::Exited,
            }),
            labels: filter.label_selector.into_iter().collect(),
        };
        let containers = containers::list(&self.cri, &filter);
        containers
            .iter()
            .map(|one| records::container(one))
            .collect()
    }
}

/// A part of a request that cannot be left out.
fn required<T>(part: Option<T>, what: &str) -> Result<T, Status> {
    part.ok_or_else(|| Status::invalid_argument(format!("{what} is required")))
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
        let conditions = self.cri.conditions().await;
        let conditions = conditions.into_iter().map(|condition| {
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
        let handlers = handlers::all(&self.cri).into_iter();
        Ok(Response::new(wire::StatusResponse {
            status: Some(wire::RuntimeStatus {
                conditions: conditions.collect(),
            }),
            info,
            runtime_handlers: handlers
                .map(|handler| wire::RuntimeHandler {
                    name: handler.name,
                    features: Some(wire::RuntimeHandlerFeatures {
                        recursive_read_only_mounts: true,
                        user_namespaces: false,
                    }),
                })
                .collect(),
            features: Some(wire::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
            }),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<wire::RuntimeConfigRequest>,
    ) -> Result<Response<wire::RuntimeConfigResponse>, Status> {
        Ok(Response::new(wire::RuntimeConfigResponse {
            linux: Some(wire::LinuxRuntimeConfiguration {
                cgroup_driver: match self.cri.has_systemd_cgroups() {
                    true => wire::CgroupDriver::Systemd,
                    false => wire::CgroupDriver::Cgroupfs,
                }
                .into(),
            }),
        }))
    }

    async fn update_runtime_config(
        &self,
        _: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<wire::UpdateRuntimeConfigResponse>, Status> {
        // The addresses of pods are the plugins' to give, or the bridge's.
        Ok(Response::new(wire::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<wire::RunPodSandboxRequest>,
    ) -> Result<Response<wire::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let config = config::pod(required(request.config, "config")?)?;
        let ran = pods::run(&self.cri, config, request.runtime_handler).await;
        let pod_sandbox_id = ran.map_err(to_status)?;
        Ok(Response::new(wire::RunPodSandboxResponse {
            pod_sandbox_id,
        }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<wire::StopPodSandboxRequest>,
    ) -> Result<Response<wire::StopPodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        pods::stop(&self.cri, &id).await.map_err(to_status)?;
        Ok(Response::new(wire::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<wire::RemovePodSandboxRequest>,
    ) -> Result<Response<wire::RemovePodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        pods::remove(&self.cri, &id).await.map_err(to_status)?;
        Ok(Response::new(wire::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Result<Response<wire::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        let pod = pods::get(&self.cri, &request.pod_sandbox_id).map_err(to_status)?;
        let of_pod = ContainerFilter {
            pod: pod.id.clone(),
            ..ContainerFilter::default()
        };
        let containers = containers::list(&self.cri, &of_pod);
        let statuses = containers.iter().map(|one| records::container_status(one));
        Ok(Response::new(wire::PodSandboxStatusResponse {
            status: Some(records::pod_status(&pod)),
            info: match request.verbose {
                true => records::about_pod(&pod),
                false => HashMap::new(),
            },
            containers_statuses: statuses.collect(),
            timestamp: nanos(SystemTime::now()),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<wire::ListPodSandboxRequest>,
    ) -> Result<Response<wire::ListPodSandboxResponse>, Status> {
        let items = self.pods(request.into_inner().filter);
        Ok(Response::new(wire::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<wire::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        let pods = self.pods(request.into_inner().filter);
        let message = |pod_sandboxes| wire::StreamPodSandboxesResponse { pod_sandboxes };
        Ok(Response::new(in_parts(pods, message)))
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<wire::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let config = config::container(required(request.config, "config")?)?;
        let made = containers::create(&self.cri, &request.pod_sandbox_id, config).await;
        let container_id = made.map_err(to_status)?;
        Ok(Response::new(wire::CreateContainerResponse {
            container_id,
        }))
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Result<Response<wire::StartContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        containers::start(&self.cri, &id).await.map_err(to_status)?;
        Ok(Response::new(wire::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Result<Response<wire::StopContainerResponse>, Status> {
        let request = request.into_inner();
        // One that is negative means at once, as one of zero.
        let timeout = u64::try_from(request.timeout).unwrap_or(0);
        let stopped = containers::stop(&self.cri, &request.container_id, timeout).await;
        stopped.map_err(to_status)?;
        Ok(Response::new(wire::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<wire::RemoveContainerRequest>,
    ) -> Result<Response<wire::RemoveContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        containers::remove(&self.cri, &id)
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let containers = self.containers(request.into_inner().filter);
        Ok(Response::new(wire::ListContainersResponse { containers }))
    }

    async fn stream_containers(
        &self,
        request: Request<wire::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        let containers = self.containers(request.into_inner().filter);
        let message = |containers| wire::StreamContainersResponse { containers };
        Ok(Response::new(in_parts(containers, message)))
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Result<Response<wire::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let found = containers::get(&self.cri, &request.container_id);
        let found = found.map_err(to_status)?;
        Ok(Response::new(wire::ContainerStatusResponse {
            status: Some(records::container_status(&found)),
            info: match request.verbose {
                true => records::about_container(&found),
                false => HashMap::new(),
            },
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Result<Response<wire::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let limits = config::resources(required(request.linux, "linux")?);
        let updated = containers::update(&self.cri, &request.container_id, limits).await;
        updated.map_err(to_status)?;
        Ok(Response::new(wire::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<wire::ReopenContainerLogRequest>,
    ) -> Result<Response<wire::ReopenContainerLogResponse>, Status> {
        let id = request.into_inner().container_id;
        let reopened = containers::reopen_log(&self.cri, &id).await;
        reopened.map_err(to_status)?;
        Ok(Response::new(wire::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<wire::ExecSyncRequest>,
    ) -> Result<Response<wire::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let timeout = u64::try_from(request.timeout).ok().filter(|secs| *secs > 0);
        let timeout = timeout.map(Duration::from_secs);
        let ran = containers::exec_sync(&self.cri, &request.container_id, &request.cmd, timeout);
        let output = ran.await.map_err(to_status)?;
        Ok(Response::new(wire::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.code,
        }))
    }

    async fn exec(
        &self,
        request: Request<wire::ExecRequest>,
    ) -> Result<Response<wire::ExecResponse>, Status> {
        let request = request.into_inner();
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.tty,
        };
        let made = urls::exec(&self.cri, &request.container_id, request.cmd, wanted).await;
        let url = made.map_err(to_status)?;
        Ok(Response::new(wire::ExecResponse { url }))
    }

    async fn attach(
        &self,
        request: Request<wire::AttachRequest>,
    ) -> Result<Response<wire::AttachResponse>, Status> {
        let request = request.into_inner();
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.tty,
        };
        let made = urls::attach(&self.cri, &request.container_id, wanted).await;
        let url = made.map_err(to_status)?;
        Ok(Response::new(wire::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<wire::PortForwardRequest>,
    ) -> Result<Response<wire::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let made = urls::port_forward(&self.cri, &request.pod_sandbox_id, &request.port).await;
        let url = made.map_err(to_status)?;
        Ok(Response::new(wire::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<wire::ContainerStatsRequest>,
    ) -> Result<Response<wire::ContainerStatsResponse>, Status> {
        let id = request.into_inner().container_id;
        let measured = cri::stats::of_container(&self.cri, &id).await;
        Ok(Response::new(wire::ContainerStatsResponse {
            stats: Some(stats::container(&measured.map_err(to_status)?)),
        }))
    }

    async fn list_container_stats(
        &self,
        request: Request<wire::ListContainerStatsRequest>,
    ) -> Result<Response<wire::ListContainerStatsResponse>, Status> {
        let stats = self.stats_of_containers(request.into_inner().filter).await;
        Ok(Response::new(wire::ListContainerStatsResponse { stats }))
    }

    async fn stream_container_stats(
        &self,
        request: Request<wire::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        let stats = self.stats_of_containers(request.into_inner().filter).await;
        let message = |container_stats| wire::StreamContainerStatsResponse { container_stats };
        Ok(Response::new(in_parts(stats, message)))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<wire::PodSandboxStatsRequest>,
    ) -> Result<Response<wire::PodSandboxStatsResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        let measured = cri::stats::of_pod(&self.cri, &id).await;
        Ok(Response::new(wire::PodSandboxStatsResponse {
            stats: Some(stats::pod(&measured.map_err(to_status)?)),
        }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<wire::ListPodSandboxStatsRequest>,
    ) -> Result<Response<wire::ListPodSandboxStatsResponse>, Status> {
        let stats = self.stats_of_pods(request.into_inner().filter).await;
        Ok(Response::new(wire::ListPodSandboxStatsResponse { stats }))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<wire::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        let stats = self.stats_of_pods(request.into_inner().filter).await;
        let message = |pod_sandbox_stats| wire::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        Ok(Response::new(in_parts(stats, message)))
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
        Ok(Response::new(events::stream(&self.cri)))
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
        request: Request<wire::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<wire::UpdatePodSandboxResourcesResponse>, Status> {
        let request = request.into_inner();
        let limits = request.resources.map(config::resources);
        let overhead = request.overhead.map(config::resources);
        let updated = pods::update(&self.cri, &request.pod_sandbox_id, limits, overhead).await;
        updated.map_err(to_status)?;
        Ok(Response::new(wire::UpdatePodSandboxResourcesResponse {}))
    }
}
