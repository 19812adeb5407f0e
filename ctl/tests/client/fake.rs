//! Stands in for the daemon that is not there: a real gRPC server on a real
//! socket that answers `engine.v1` as each test says and keeps what it was
//! asked.

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::engine::v1::engine_server::{Engine, EngineServer};
use proto::engine::v1::*;
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A container's id, as long as real ones.
pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

type Answers<T> = Mutex<VecDeque<Result<T, Status>>>;
type Play = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;
type Script = Arc<dyn Fn(Session) -> Play + Send + Sync>;

/// Both ends of one attach or exec.
pub(crate) struct Session {
    pub(crate) input: Streaming<SessionInput>,
    pub(crate) output: mpsc::Sender<Result<SessionOutput, Status>>,
    /// Told of every `KillContainer`.
    pub(crate) killed: Arc<Notify>,
}

impl Session {
    /// The next message from ctl, `None` when it has gone.
    pub(crate) async fn next(&mut self) -> Option<session_input::Message> {
        self.input
            .message()
            .await
            .ok()
            .flatten()
            .and_then(|input| input.message)
    }

    pub(crate) async fn send(&self, message: session_output::Message) {
        let _ = self
            .output
            .send(Ok(SessionOutput {
                message: Some(message),
            }))
            .await;
    }

    pub(crate) async fn started(&self, tty: bool) {
        let exec_id = String::new();
        self.send(session_output::Message::Started(session_output::Started {
            exec_id,
            tty,
        }))
        .await;
    }

    pub(crate) async fn stdout(&self, text: &str) {
        self.send(session_output::Message::Stdout(text.to_owned().into()))
            .await;
    }

    pub(crate) async fn exited(&self, exit_code: i32) {
        self.send(session_output::Message::Exited(session_output::Exited {
            exit_code,
        }))
        .await;
    }
}

/// What the daemon answers and what it was asked.
#[derive(Default)]
pub(crate) struct Daemon {
    /// Answers to creates, in turn; then the id [`ID`].
    pub(crate) creates: Answers<CreateContainerResponse>,
    pub(crate) containers: Mutex<Vec<ContainerSummary>>,
    pub(crate) logs: Mutex<Vec<LogEntry>>,
    script: Mutex<Option<Script>>,
    asked: Mutex<Vec<String>>,
    killed: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Daemon {
    fn note(&self, line: String) {
        lock(&self.asked).push(line);
    }

    /// One line for each call so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    /// What attach and exec do; each session gets it anew.
    pub(crate) fn play<F>(&self, script: impl Fn(Session) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        *lock(&self.script) = Some(Arc::new(move |session| Box::pin(script(session))));
    }

    fn session(
        &self,
        input: Streaming<SessionInput>,
    ) -> Result<Response<ReceiverStream<Result<SessionOutput, Status>>>, Status> {
        let script = lock(&self.script)
            .clone()
            .ok_or_else(|| Status::internal("no script"))?;
        let (output, receiver) = mpsc::channel(16);
        let killed = Arc::clone(&self.killed);
        tokio::spawn(async move {
            if let Err(status) = script(Session {
                input,
                output: output.clone(),
                killed,
            })
            .await
            {
                let _ = output.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// "No such container" for names that begin with `no`.
fn known(name: &str) -> Result<Response<()>, Status> {
    match name.starts_with("no") {
        true => Err(Status::not_found(format!("no such container: {name}"))),
        false => Ok(Response::new(())),
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Engine for Served {
    type PullImageStream = ReceiverStream<Result<PullImageResponse, Status>>;
    type ReadLogsStream = ReceiverStream<Result<LogEntry, Status>>;
    type AttachStream = ReceiverStream<Result<SessionOutput, Status>>;
    type ExecStream = ReceiverStream<Result<SessionOutput, Status>>;
    type BuildStream = ReceiverStream<Result<BuildOutput, Status>>;

    // Builds are tested with the daemon.
    async fn build(&self, _: Request<Streaming<BuildInput>>) -> Reply<Self::BuildStream> {
        Err(Status::unimplemented("build"))
    }

    async fn prune_builds(&self, _: Request<()>) -> Reply<()> {
        Err(Status::unimplemented("prune_builds"))
    }

    async fn version(&self, _: Request<()>) -> Reply<VersionResponse> {
        let version = "9.9".to_owned();
        Ok(Response::new(VersionResponse {
            version,
            ..Default::default()
        }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Reply<Self::PullImageStream> {
        let reference = request.into_inner().reference;
        self.note(format!("pull {reference}"));
        let (sender, receiver) = mpsc::channel(8);
        let progress = |status: &str| pull_image_response::Progress {
            id: format!("sha256:{ID}"),
            status: status.to_owned(),
            current_bytes: 0,
            total_bytes: 0,
        };
        let done = pull_image_response::Done {
            reference: format!("docker.io/library/{reference}:latest"),
            digest: format!("sha256:{ID}"),
            downloaded: true,
        };
        for message in [
            pull_image_response::Message::Progress(progress("Pulling fs layer")),
            pull_image_response::Message::Progress(progress("Pull complete")),
            pull_image_response::Message::Done(done),
        ] {
            let _ = sender
                .send(Ok(PullImageResponse {
                    message: Some(message),
                }))
                .await;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn load_images(
        &self,
        request: Request<Streaming<LoadImagesRequest>>,
    ) -> Reply<LoadImagesResponse> {
        let mut chunks = request.into_inner();
        let mut bytes = 0;
        while let Some(chunk) = chunks.message().await? {
            bytes += chunk.chunk.len();
        }
        self.note(format!("load {bytes}"));
        let loaded = vec![
            "docker.io/library/demo:1".to_owned(),
            format!("sha256:{ID}"),
        ];
        Ok(Response::new(LoadImagesResponse { loaded }))
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Reply<ListImagesResponse> {
        Ok(Response::new(ListImagesResponse::default()))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Reply<RemoveImageResponse> {
        let image = request.into_inner().image;
        known(&image)?;
        let deleted = vec![format!("sha256:{ID}")];
        Ok(Response::new(RemoveImageResponse {
            untagged: vec![image],
            deleted,
        }))
    }

    async fn inspect_image(&self, request: Request<InspectImageRequest>) -> Reply<InspectResponse> {
        let name = request.into_inner().image;
        match name.starts_with("image") {
            true => Ok(Response::new(InspectResponse {
                json: r#"{"Image":1}"#.to_owned(),
            })),
            false => Err(Status::not_found(format!("no such image: {name}"))),
        }
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Reply<CreateContainerResponse> {
        let r = request.into_inner();
        self.note(format!(
            "create {} {:?} env={:?} tty={} stdin={} once={} rm={}",
            r.image, r.command, r.env, r.tty, r.stdin, r.stdin_once, r.auto_remove
        ));
        let id = ID.to_owned();
        let answer = lock(&self.creates).pop_front();
        answer
            .unwrap_or(Ok(CreateContainerResponse {
                id,
                warnings: vec![],
            }))
            .map(Response::new)
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Reply<()> {
        let name = request.into_inner().container;
        self.note(format!("start {name}"));
        known(&name)
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Reply<()> {
        let r = request.into_inner();
        self.note(format!(
            "stop {} {:?} {:?}",
            r.container, r.timeout_s, r.signal
        ));
        known(&r.container)
    }

    async fn kill_container(&self, request: Request<KillContainerRequest>) -> Reply<()> {
        let r = request.into_inner();
        self.note(format!("kill {} {}", r.container, r.signal));
        self.killed.notify_one();
        known(&r.container)
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Reply<()> {
        known(&request.into_inner().container)
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Reply<ListContainersResponse> {
        self.note(format!("list all={}", request.into_inner().all));
        let containers = lock(&self.containers).clone();
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn inspect_container(
        &self,
        request: Request<InspectContainerRequest>,
    ) -> Reply<InspectResponse> {
        let name = request.into_inner().container;
        match name.starts_with("box") {
            true => Ok(Response::new(InspectResponse {
                json: r#"{"Id":"x"}"#.to_owned(),
            })),
            false => Err(Status::not_found(format!("no such container: {name}"))),
        }
    }

    async fn wait_container(
        &self,
        request: Request<WaitContainerRequest>,
    ) -> Reply<WaitContainerResponse> {
        known(&request.into_inner().container)?;
        Ok(Response::new(WaitContainerResponse {
            exit_code: 3,
            error: String::new(),
        }))
    }

    async fn read_logs(&self, request: Request<ReadLogsRequest>) -> Reply<Self::ReadLogsStream> {
        let r = request.into_inner();
        self.note(format!(
            "logs {} follow={} tail={:?}",
            r.container, r.follow, r.tail
        ));
        let entries = lock(&self.logs).clone();
        let (sender, receiver) = mpsc::channel(entries.len().max(1));
        for entry in entries {
            let _ = sender.send(Ok(entry)).await;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn attach(&self, request: Request<Streaming<SessionInput>>) -> Reply<Self::AttachStream> {
        self.session(request.into_inner())
    }

    async fn exec(&self, request: Request<Streaming<SessionInput>>) -> Reply<Self::ExecStream> {
        self.session(request.into_inner())
    }

    // What these tests do not ask for.
    async fn info(&self, _: Request<()>) -> Reply<InspectResponse> {
        Err(Status::unimplemented("info"))
    }

    async fn disk_usage(&self, _: Request<()>) -> Reply<InspectResponse> {
        Err(Status::unimplemented("disk_usage"))
    }

    async fn doctor(&self, _: Request<()>) -> Reply<DoctorResponse> {
        Err(Status::unimplemented("doctor"))
    }

    type PushImageStream = ReceiverStream<Result<PushImageResponse, Status>>;
    async fn push_image(&self, _: Request<PushImageRequest>) -> Reply<Self::PushImageStream> {
        Err(Status::unimplemented("push_image"))
    }

    async fn login(&self, _: Request<LoginRequest>) -> Reply<LoginResponse> {
        Err(Status::unimplemented("login"))
    }

    async fn search_images(&self, _: Request<SearchImagesRequest>) -> Reply<SearchImagesResponse> {
        Err(Status::unimplemented("search_images"))
    }

    async fn tag_image(&self, _: Request<TagImageRequest>) -> Reply<()> {
        Err(Status::unimplemented("tag_image"))
    }

    async fn image_history(&self, _: Request<InspectImageRequest>) -> Reply<InspectResponse> {
        Err(Status::unimplemented("image_history"))
    }

    type SaveImagesStream = ReceiverStream<Result<Chunk, Status>>;
    async fn save_images(&self, _: Request<SaveImagesRequest>) -> Reply<Self::SaveImagesStream> {
        Err(Status::unimplemented("save_images"))
    }

    async fn import_image(
        &self,
        _: Request<Streaming<ImportImageRequest>>,
    ) -> Reply<CommitContainerResponse> {
        Err(Status::unimplemented("import_image"))
    }

    async fn prune_images(&self, _: Request<PruneRequest>) -> Reply<PruneResponse> {
        Err(Status::unimplemented("prune_images"))
    }

    async fn pause_container(&self, _: Request<ContainerRequest>) -> Reply<()> {
        Err(Status::unimplemented("pause_container"))
    }

    async fn unpause_container(&self, _: Request<ContainerRequest>) -> Reply<()> {
        Err(Status::unimplemented("unpause_container"))
    }

    async fn restart_container(&self, _: Request<StopContainerRequest>) -> Reply<()> {
        Err(Status::unimplemented("restart_container"))
    }

    async fn rename_container(&self, _: Request<RenameContainerRequest>) -> Reply<()> {
        Err(Status::unimplemented("rename_container"))
    }

    async fn update_container(
        &self,
        _: Request<UpdateContainerRequest>,
    ) -> Reply<UpdateContainerResponse> {
        Err(Status::unimplemented("update_container"))
    }

    async fn top_container(&self, _: Request<TopContainerRequest>) -> Reply<TopContainerResponse> {
        Err(Status::unimplemented("top_container"))
    }

    async fn stats_container(&self, _: Request<ContainerRequest>) -> Reply<StatsResponse> {
        Err(Status::unimplemented("stats_container"))
    }

    async fn prune_containers(&self, _: Request<PruneRequest>) -> Reply<PruneResponse> {
        Err(Status::unimplemented("prune_containers"))
    }

    async fn commit_container(
        &self,
        _: Request<CommitContainerRequest>,
    ) -> Reply<CommitContainerResponse> {
        Err(Status::unimplemented("commit_container"))
    }

    async fn diff_container(&self, _: Request<ContainerRequest>) -> Reply<DiffContainerResponse> {
        Err(Status::unimplemented("diff_container"))
    }

    type ExportContainerStream = ReceiverStream<Result<Chunk, Status>>;
    async fn export_container(
        &self,
        _: Request<ContainerRequest>,
    ) -> Reply<Self::ExportContainerStream> {
        Err(Status::unimplemented("export_container"))
    }

    async fn stat_path(&self, _: Request<StatPathRequest>) -> Reply<PathStat> {
        Err(Status::unimplemented("stat_path"))
    }

    type CopyFromStream = ReceiverStream<Result<CopyFromResponse, Status>>;
    async fn copy_from(&self, _: Request<CopyFromRequest>) -> Reply<Self::CopyFromStream> {
        Err(Status::unimplemented("copy_from"))
    }

    async fn copy_to(&self, _: Request<Streaming<CopyToRequest>>) -> Reply<()> {
        Err(Status::unimplemented("copy_to"))
    }

    async fn create_volume(&self, _: Request<CreateVolumeRequest>) -> Reply<InspectResponse> {
        Err(Status::unimplemented("create_volume"))
    }

    async fn list_volumes(&self, _: Request<ListVolumesRequest>) -> Reply<ListVolumesResponse> {
        Err(Status::unimplemented("list_volumes"))
    }

    async fn inspect_volume(&self, _: Request<VolumeRequest>) -> Reply<InspectResponse> {
        Err(Status::not_found("no such volume"))
    }

    async fn remove_volume(&self, _: Request<VolumeRequest>) -> Reply<()> {
        Err(Status::unimplemented("remove_volume"))
    }

    async fn prune_volumes(&self, _: Request<PruneRequest>) -> Reply<PruneResponse> {
        Err(Status::unimplemented("prune_volumes"))
    }

    async fn create_network(&self, _: Request<CreateNetworkRequest>) -> Reply<InspectResponse> {
        Err(Status::unimplemented("create_network"))
    }

    async fn list_networks(&self, _: Request<ListNetworksRequest>) -> Reply<ListNetworksResponse> {
        Err(Status::unimplemented("list_networks"))
    }

    async fn inspect_network(&self, _: Request<NetworkRequest>) -> Reply<InspectResponse> {
        Err(Status::not_found("no such network"))
    }

    async fn remove_network(&self, _: Request<NetworkRequest>) -> Reply<()> {
        Err(Status::unimplemented("remove_network"))
    }

    async fn connect_network(&self, _: Request<ConnectNetworkRequest>) -> Reply<()> {
        Err(Status::unimplemented("connect_network"))
    }

    async fn disconnect_network(&self, _: Request<ConnectNetworkRequest>) -> Reply<()> {
        Err(Status::unimplemented("disconnect_network"))
    }

    async fn prune_networks(&self, _: Request<PruneRequest>) -> Reply<PruneResponse> {
        Err(Status::unimplemented("prune_networks"))
    }

    type EventsStream = ReceiverStream<Result<Event, Status>>;
    async fn events(&self, _: Request<EventsRequest>) -> Reply<Self::EventsStream> {
        Err(Status::unimplemented("events"))
    }
    // End of what they do not ask for.
}

/// The service's own handle on the daemon.
struct Served(Arc<Daemon>);

impl std::ops::Deref for Served {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

/// A daemon that listens until this is dropped.
pub(crate) struct Fake {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) dir: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    pub(crate) fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Arc::new(Daemon::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = EngineServer::new(Served(Arc::clone(&daemon)));
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(dir.path().join("d.sock")).unwrap()
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self {
            daemon,
            dir,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("d.sock")
    }

    /// The host as ctl wants it named.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The real ctl, told to talk to this daemon.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ctl());
        command.arg("--host").arg(self.host()).args(args);
        command
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The binary under test.
pub(crate) fn ctl() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ctl"))
}
