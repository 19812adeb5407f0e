//! Tasks: the running instances of containers.
//!
//! A task is made from its container's record: the spec, the runtime and its
//! options are read there, the root file system's mounts come with the call.

use lite_core::tasks::{ProcessState, Status as TaskStatus};
use lite_core::{
    AnyValue, Container, Containers, CreateTask, Deleted, Error, Exit, Kind, Namespace, TaskIo,
    Tasks, blocking,
};
use prost::Message as _;
use proto::containerd::runc::v1::ProcessDetails;
use proto::containerd::services::tasks::v1 as wire;
use proto::containerd::types::Metric;
use proto::containerd::v1::types as process;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{any, filters, labels, mount, namespace, timestamp, to_any};

/// The adapter over the tasks and the records they are made from.
#[derive(Clone)]
pub struct TasksApi {
    tasks: Tasks,
    containers: Containers,
}

impl TasksApi {
    /// An adapter of `tasks`, which are made from the records in `containers`.
    #[must_use]
    pub fn new(tasks: Tasks, containers: Containers) -> Self {
        Self { tasks, containers }
    }

    async fn record(&self, ns: &Namespace, id: &str) -> Result<Container, Status> {
        let (ns, id, store) = (ns.clone(), id.to_owned(), self.containers.clone());
        blocking(move || store.get(&ns, &id))
            .await
            .map_err(to_status)
    }

    /// Metrics of the tasks of `ns` that `wanted` accepts. A task that ends
    /// meanwhile is left out, as one that ended just before would be.
    async fn samples(&self, ns: &Namespace, wanted: &lite_core::Filters) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for task in self.tasks.list(ns) {
            if !wanted.accept(&TaskName(&task.id)) {
                continue;
            }
            if let Ok(data) = self.tasks.metrics(ns, &task.id).await {
                metrics.push(Metric {
                    timestamp: timestamp(std::time::SystemTime::now()),
                    id: task.id,
                    data: data.map(to_any),
                });
            }
        }
        metrics
    }
}

/// What filters of tasks may ask about.
struct TaskName<'a>(&'a str);

impl lite_core::filter::Fields for TaskName<'_> {
    fn field(&self, path: &[&str]) -> Option<String> {
        matches!(path, ["id"]).then(|| self.0.to_owned())
    }
}

/// Absent where the wire has an empty string.
fn exec(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}

fn io(stdin: String, stdout: String, stderr: String, terminal: bool) -> TaskIo {
    TaskIo {
        stdin,
        stdout,
        stderr,
        terminal,
    }
}

fn to_process(container: &str, state: ProcessState) -> process::Process {
    let (exit_status, exited_at) = to_exit(state.exit);
    process::Process {
        container_id: container.to_owned(),
        id: state.id,
        pid: state.pid,
        status: to_state(state.status).into(),
        stdin: state.io.stdin,
        stdout: state.io.stdout,
        stderr: state.io.stderr,
        terminal: state.io.terminal,
        exit_status,
        exited_at,
    }
}

fn to_exit(exit: Option<Exit>) -> (u32, Option<prost_types::Timestamp>) {
    exit.map_or((0, None), |exit| (exit.code, timestamp(exit.at)))
}

fn to_state(status: TaskStatus) -> process::Status {
    match status {
        TaskStatus::Created => process::Status::Created,
        TaskStatus::Running => process::Status::Running,
        TaskStatus::Paused => process::Status::Paused,
        TaskStatus::Pausing => process::Status::Pausing,
        TaskStatus::Stopped => process::Status::Stopped,
        TaskStatus::Unknown => process::Status::Unknown,
    }
}

fn to_deleted(id: String, deleted: Deleted) -> wire::DeleteResponse {
    wire::DeleteResponse {
        id,
        pid: deleted.pid,
        exit_status: deleted.exit.code,
        exited_at: timestamp(deleted.exit.at),
    }
}

/// What a task of `container` is made from.
fn new_task(
    container: Container,
    request: wire::CreateTaskRequest,
) -> Result<CreateTask, lite_core::Error> {
    if request.checkpoint.is_some() {
        return Err(Kind::Unimplemented.error("create task from a checkpoint"));
    }
    let spec = container.spec.ok_or_else(|| {
        Kind::FailedPrecondition.error(format!("container {} has no spec", container.id))
    })?;
    let mut runtime = container.runtime;
    if !request.runtime_path.is_empty() {
        runtime.name = request.runtime_path;
    }
    Ok(CreateTask {
        id: request.container_id,
        spec: spec.value,
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        io: io(
            request.stdin,
            request.stdout,
            request.stderr,
            request.terminal,
        ),
        runtime,
        options: request.options.map(any),
    })
}

/// What a runtime reported, in the words that clients of containerd know.
fn of_shim(err: Error) -> Error {
    match err.kind() {
        Kind::Unknown | Kind::ExecutableNotFound | Kind::ExecutableNotRunnable => {
            err.within("failed to create shim task")
        }
        _ => err,
    }
}

#[tonic::async_trait]
impl wire::tasks_server::Tasks for TasksApi {
    async fn create(
        &self,
        request: Request<wire::CreateTaskRequest>,
    ) -> Result<Response<wire::CreateTaskResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let container_id = request.container_id.clone();
        let container = self.record(&ns, &container_id).await?;
        let task = new_task(container, request).map_err(to_status)?;
        let created = self.tasks.create(&ns, task).await;
        let pid = created.map_err(|err| to_status(of_shim(err)))?;
        Ok(Response::new(wire::CreateTaskResponse {
            container_id,
            pid,
        }))
    }

    async fn start(
        &self,
        request: Request<wire::StartRequest>,
    ) -> Result<Response<wire::StartResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let pid = self
            .tasks
            .start(&ns, &request.container_id, exec(&request.exec_id))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::StartResponse { pid }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteTaskRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        let deleted = self.tasks.delete(&ns, &id).await.map_err(to_status)?;
        Ok(Response::new(to_deleted(id, deleted)))
    }

    async fn delete_process(
        &self,
        request: Request<wire::DeleteProcessRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let deleted = self
            .tasks
            .delete_process(&ns, &request.container_id, &request.exec_id)
            .await
            .map_err(to_status)?;
        Ok(Response::new(to_deleted(request.exec_id, deleted)))
    }

    async fn get(
        &self,
        request: Request<wire::GetRequest>,
    ) -> Result<Response<wire::GetResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let state = self
            .tasks
            .get(&ns, &request.container_id, exec(&request.exec_id))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::GetResponse {
            process: Some(to_process(&request.container_id, state)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListTasksRequest>,
    ) -> Result<Response<wire::ListTasksResponse>, Status> {
        let ns = namespace(&request)?;
        let filter = request.into_inner().filter;
        let wanted = filters(exec(&filter).as_slice())?;
        let tasks = self.tasks.list(&ns).into_iter();
        Ok(Response::new(wire::ListTasksResponse {
            tasks: tasks
                .filter(|task| wanted.accept(&TaskName(&task.id)))
                // A task is its container's namesake.
                .map(|task| to_process(&task.id.clone(), task))
                .collect(),
        }))
    }

    async fn kill(&self, request: Request<wire::KillRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        self.tasks
            .kill(
                &ns,
                &request.container_id,
                exec(&request.exec_id),
                request.signal,
                request.all,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn exec(
        &self,
        request: Request<wire::ExecProcessRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let process = request.spec.map(any).ok_or_else(|| {
            to_status(Kind::InvalidArgument.error("spec of the process is required"))
        })?;
        let io = io(
            request.stdin,
            request.stdout,
            request.stderr,
            request.terminal,
        );
        self.tasks
            .exec(&ns, &request.container_id, &request.exec_id, io, process)
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn resize_pty(
        &self,
        request: Request<wire::ResizePtyRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        self.tasks
            .resize(
                &ns,
                &request.container_id,
                exec(&request.exec_id),
                request.width,
                request.height,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn close_io(
        &self,
        request: Request<wire::CloseIoRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        if request.stdin {
            self.tasks
                .close_io(&ns, &request.container_id, exec(&request.exec_id))
                .await
                .map_err(to_status)?;
        }
        Ok(Response::new(()))
    }

    async fn pause(
        &self,
        request: Request<wire::PauseTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        self.tasks.pause(&ns, &id).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn resume(
        &self,
        request: Request<wire::ResumeTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        self.tasks.resume(&ns, &id).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn list_pids(
        &self,
        request: Request<wire::ListPidsRequest>,
    ) -> Result<Response<wire::ListPidsResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        let pids = self.tasks.pids(&ns, &id).await.map_err(to_status)?;
        let processes = pids.into_iter().map(|entry| process::ProcessInfo {
            pid: entry.pid,
            info: entry
                .info
                .or_else(|| entry.exec_id.map(details))
                .map(to_any),
        });
        Ok(Response::new(wire::ListPidsResponse {
            processes: processes.collect(),
        }))
    }

    async fn checkpoint(
        &self,
        request: Request<wire::CheckpointTaskRequest>,
    ) -> Result<Response<wire::CheckpointTaskResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().container_id;
        self.tasks.checkpoint(&ns, &id).map_err(to_status)?;
        Ok(Response::new(wire::CheckpointTaskResponse::default()))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        self.tasks
            .update(
                &ns,
                &request.container_id,
                request.resources.map(any),
                &labels(request.annotations),
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn metrics(
        &self,
        request: Request<wire::MetricsRequest>,
    ) -> Result<Response<wire::MetricsResponse>, Status> {
        let ns = namespace(&request)?;
        let wanted = filters(&request.into_inner().filters)?;
        Ok(Response::new(wire::MetricsResponse {
            metrics: self.samples(&ns, &wanted).await,
        }))
    }

    async fn wait(
        &self,
        request: Request<wire::WaitRequest>,
    ) -> Result<Response<wire::WaitResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let exit = self
            .tasks
            .wait(&ns, &request.container_id, exec(&request.exec_id))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::WaitResponse {
            exit_status: exit.code,
            exited_at: timestamp(exit.at),
        }))
    }
}

/// Says which exec a process belongs to, as runc's shim does.
fn details(exec_id: String) -> AnyValue {
    AnyValue {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: ProcessDetails { exec_id }.encode_to_vec(),
    }
}
