//! CRI as a kubelet calls it: both services of a daemon's socket, one call
//! after the other.

use std::future::Future;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use proto::runtime::v1 as wire;
use proto::runtime::v1::image_service_client::ImageServiceClient;
use proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::command::eventually;
use crate::image::Image;
use crate::stack::Stack;

/// The largest answer that a kubelet takes.
const LARGEST: usize = 16 << 20;

/// The image that [`Kubelet::load_busybox`] brings.
pub const BUSYBOX: &str = "busybox:latest";

/// A client of one daemon. Dropped in a test that passed, it removes all pods. It connects with the first call, and again after
/// the daemon was started anew.
pub struct Kubelet {
    runtime: Runtime,
    channel: Channel,
}

impl Kubelet {
    /// One that calls `stack`'s daemon.
    ///
    /// # Panics
    /// When no event loop can be had.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop can be had");
        let socket = stack.socket();
        let channel = runtime.block_on(async { lazy(socket) });
        Self { runtime, channel }
    }

    /// Pods and containers.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// Waits for a call's answer.
    ///
    /// # Errors
    /// The daemon's.
    pub fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    /// Waits for a call's answer, which must not be a refusal.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn ok<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> T {
        match self.ask(call) {
            Ok(answer) => answer,
            Err(status) => panic!("{:?}: {}", status.code(), status.message()),
        }
    }

    /// Waits for all messages of a stream.
    ///
    /// # Panics
    /// When it ends in an error.
    #[track_caller]
    pub fn all<T>(
        &self,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Vec<T> {
        let mut stream = self.ok(call);
        let mut all = Vec::new();
        while let Some(message) = self
            .runtime
            .block_on(stream.message())
            .expect("the stream ends well")
        {
            all.push(message);
        }
        all
    }

    /// Waits for something else that this client has begun.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Brings busybox into Kubernetes' tenant under [`BUSYBOX`].
    #[track_caller]
    pub fn load_busybox(&self, stack: &Stack) {
        let archive = stack.scratch().text("busybox.tar");
        let image = Image::busybox().docker_archive(&[BUSYBOX]);
        std::fs::write(&archive, image).expect("an archive can be written");
        stack
            .ctr(&["-n", "k8s.io", "images", "import", &archive])
            .ok();
    }

    /// Runs the pod `config`; returns its id.
    ///
    /// # Panics
    /// When it cannot be run.
    #[track_caller]
    pub fn run(&self, config: &wire::PodSandboxConfig) -> String {
        let request = wire::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        self.ok(self.runtime().run_pod_sandbox(request))
            .pod_sandbox_id
    }

    /// Makes a container in `pod`; returns its id.
    ///
    /// # Errors
    /// The daemon's.
    pub fn try_create(
        &self,
        pod: &str,
        of_pod: &wire::PodSandboxConfig,
        config: wire::ContainerConfig,
    ) -> Result<String, Status> {
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(of_pod.clone()),
        };
        let made = self.ask(self.runtime().create_container(request))?;
        Ok(made.container_id)
    }

    /// Makes and starts a container in `pod`; returns its id.
    ///
    /// # Panics
    /// When it cannot be.
    #[track_caller]
    pub fn start(
        &self,
        pod: &str,
        of_pod: &wire::PodSandboxConfig,
        config: wire::ContainerConfig,
    ) -> String {
        let container_id = match self.try_create(pod, of_pod, config) {
            Ok(id) => id,
            Err(status) => panic!("{:?}: {}", status.code(), status.message()),
        };
        let request = wire::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.ok(self.runtime().start_container(request));
        container_id
    }

    /// A container's status.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn status(&self, container: &str) -> wire::ContainerStatus {
        let request = wire::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        let told = self.ok(self.runtime().container_status(request));
        told.status.expect("a status")
    }

    /// Waits for a container's end; returns its status.
    ///
    /// # Panics
    /// When it goes on.
    #[track_caller]
    pub fn ended(&self, container: &str) -> wire::ContainerStatus {
        eventually("the container's end", || {
            let status = self.status(container);
            (status.state() == wire::ContainerState::ContainerExited).then_some(status)
        })
    }

    /// Runs a command in a container to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    #[track_caller]
    pub fn exec(&self, container: &str, args: &[&str]) -> wire::ExecSyncResponse {
        let request = wire::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: args.iter().map(|&arg| arg.to_owned()).collect(),
            timeout: 0,
        };
        self.ok(self.runtime().exec_sync(request))
    }

    /// What a command in a container says, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn says(&self, container: &str, script: &str) -> String {
        let output = self.exec(container, &["sh", "-c", script]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.exit_code, 0, "{script}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn remove_pods(&self) {
        let request = wire::ListPodSandboxRequest::default();
        for pod in self.ok(self.runtime().list_pod_sandbox(request)).items {
            let request = wire::RemovePodSandboxRequest {
                pod_sandbox_id: pod.id,
            };
            self.ok(self.runtime().remove_pod_sandbox(request));
        }
    }

    /// Pulls `reference` without credentials; returns its id.
    ///
    /// # Panics
    /// When it cannot be had.
    #[track_caller]
    pub fn pull(&self, reference: &str) -> String {
        let request = wire::PullImageRequest {
            image: Some(spec(reference)),
            ..Default::default()
        };
        self.ok(self.images().pull_image(request)).image_ref
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove_pods();
        }
    }
}

/// A stack whose daemon has no CNI configuration, whatever the machine has, so
/// that its pods are on the bridge of its own.
#[must_use]
pub fn stack() -> Stack {
    let stack = Stack::cold();
    let file = stack.scratch().text("config.toml");
    let nowhere = stack.scratch().text("no-networks");
    let text = format!("[cri]\ncni_conf_dir = '{nowhere}'\n");
    std::fs::write(&file, text).expect("a configuration can be written");
    let mut stack = stack.with_env("CONTAINERD_LITE_CONFIG", &file);
    stack.start_daemon();
    stack
}

/// A pod called `name`, whose logs and cgroup are `stack`'s.
#[must_use]
pub fn pod(stack: &Stack, name: &str) -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: format!("host-of-{name}"),
        log_directory: stack.scratch().text(&format!("logs-{name}")),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}", stack.scratch().name()),
            security_context: Some(wire::LinuxSandboxSecurityContext {
                namespace_options: Some(own_processes()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The namespaces of a usual pod: processes are each container's own.
#[must_use]
pub fn own_processes() -> wire::NamespaceOption {
    wire::NamespaceOption {
        pid: wire::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// A container of busybox called `name` that runs `args`.
#[must_use]
pub fn container(name: &str, args: &[&str]) -> wire::ContainerConfig {
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(spec(BUSYBOX)),
        command: args.iter().map(|&arg| arg.to_owned()).collect(),
        log_path: format!("{name}/0.log"),
        linux: Some(wire::LinuxContainerConfig {
            security_context: Some(wire::LinuxContainerSecurityContext {
                namespace_options: Some(own_processes()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The security context of a container that [`container`] has made.
pub fn context(config: &mut wire::ContainerConfig) -> &mut wire::LinuxContainerSecurityContext {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

/// The image `reference`.
#[must_use]
pub fn spec(reference: &str) -> wire::ImageSpec {
    wire::ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}

fn lazy(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is never looked at: the connector knows the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}
