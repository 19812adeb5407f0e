//! A connection to one running shim, speaking for one container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use proto::containerd::task::v2 as task;
use ttrpc_wire::{CallError, Code};

use crate::error::{Error, Kind, Result};
use crate::namespace::Namespace;
use crate::shim::endpoint::Endpoint;
use crate::shim::process::{Deleted, Exit, ProcessEntry, ProcessState, TaskIo};
use crate::shim::wire;
use crate::values::{AnyValue, Mount};

/// Shims learn the namespace of a call from this metadata key.
const NAMESPACE_KEY: &str = "containerd-namespace-ttrpc";

/// A shim's Task service, for one container. Clones share the connection,
/// which closes with the last of them.
#[derive(Debug, Clone)]
pub struct Shim {
    ttrpc: ttrpc_wire::Client,
    socket: PathBuf,
    service: &'static str,
    namespace: Namespace,
    id: String,
}

/// The pids behind a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShimPids {
    /// The shim's own.
    pub shim: u32,
    /// That of the container's init; 0 if there is none yet.
    pub task: u32,
}

impl Shim {
    /// Connects to the shim at `endpoint`, to speak of container `id`.
    ///
    /// # Errors
    /// Unavailable if nobody answers there.
    pub async fn connect(endpoint: &Endpoint, namespace: &Namespace, id: &str) -> Result<Self> {
        let ttrpc = ttrpc_wire::Client::connect(&endpoint.socket)
            .await
            .map_err(|err| {
                Kind::Unavailable
                    .error(format!("connect to shim at {}", endpoint.socket.display()))
                    .because(err)
            })?;
        // Version 3 has version 2's messages under another name; the same
        // types serve both.
        let service = if endpoint.version >= 3 {
            "containerd.task.v3.Task"
        } else {
            "containerd.task.v2.Task"
        };
        Ok(Self {
            ttrpc,
            socket: endpoint.socket.clone(),
            service,
            namespace: namespace.clone(),
            id: id.to_owned(),
        })
    }

    /// The socket the shim listens on; containers of one pod have one in common.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Resolves when the shim has closed the connection, which for a shim
    /// means that it is gone.
    pub async fn closed(&self) {
        self.ttrpc.closed().await;
    }

    async fn call<Req: Message, Resp: Message + Default>(
        &self,
        method: &str,
        request: &Req,
        timeout: Option<Duration>,
    ) -> Result<Resp> {
        let metadata = [(NAMESPACE_KEY, self.namespace.as_str())];
        self.ttrpc
            .call(self.service, method, request, timeout, &metadata)
            .await
            .map_err(|err| self.failed(method, err))
    }

    fn failed(&self, method: &str, err: CallError) -> Error {
        match err {
            // The shim's words are the message: clients of containerd match on them.
            CallError::Status(status) => kind(status.code).error(status.message),
            CallError::Closed => Kind::Unavailable.error(format!(
                "shim of {:?} closed the connection during {method}",
                self.id
            )),
            CallError::Timeout => Kind::DeadlineExceeded.error(format!(
                "shim of {:?} did not answer {method} in time",
                self.id
            )),
            other => Kind::Internal
                .error(format!("call {method} of the shim of {:?}", self.id))
                .because(other),
        }
    }

    /// Asks for the pids.
    ///
    /// # Errors
    /// What the shim says; Unavailable when it is gone, as for all calls below.
    pub async fn pids_behind(&self) -> Result<ShimPids> {
        let request = task::ConnectRequest {
            id: self.id.clone(),
        };
        let answer: task::ConnectResponse =
            self.call("Connect", &request, Some(wire::QUICK)).await?;
        Ok(ShimPids {
            shim: answer.shim_pid,
            task: answer.task_pid,
        })
    }

    /// Creates the container from `bundle` and returns its init's pid.
    ///
    /// # Errors
    /// The runtime's words, of kind Unknown.
    pub async fn create(
        &self,
        bundle: &Path,
        rootfs: &[Mount],
        io: &TaskIo,
        options: Option<&AnyValue>,
    ) -> Result<u32> {
        let request = task::CreateTaskRequest {
            id: self.id.clone(),
            bundle: bundle.to_string_lossy().into_owned(),
            rootfs: rootfs.iter().map(wire::mount).collect(),
            terminal: io.terminal,
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            options: options.map(wire::any),
            ..Default::default()
        };
        let answer: task::CreateTaskResponse = self.call("Create", &request, None).await?;
        Ok(answer.pid)
    }

    /// Starts init, or the exec `exec`, and returns its pid.
    ///
    /// # Errors
    /// The runtime's words, of kind Unknown.
    pub async fn start(&self, exec: Option<&str>) -> Result<u32> {
        let request = task::StartRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
        };
        let answer: task::StartResponse = self.call("Start", &request, None).await?;
        Ok(answer.pid)
    }

    /// Adds a process, to be started by [`Shim::start`].
    ///
    /// # Errors
    /// AlreadyExists for a used exec id.
    pub async fn exec(&self, exec: &str, io: &TaskIo, process: &AnyValue) -> Result<()> {
        let request = task::ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            terminal: io.terminal,
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            spec: Some(wire::any(process)),
        };
        self.call::<_, ()>("Exec", &request, None).await
    }

    /// Asks for the state of init or of an exec.
    ///
    /// # Errors
    /// NotFound if the shim has no such process.
    pub async fn state(&self, exec: Option<&str>, timeout: Duration) -> Result<ProcessState> {
        let request = task::StateRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
        };
        let answer = self.call("State", &request, Some(timeout)).await?;
        Ok(wire::state(answer))
    }

    /// Waits until init or the exec has ended; returns at once if it has.
    ///
    /// # Errors
    /// NotFound if the shim has no such process.
    pub async fn wait(&self, exec: Option<&str>) -> Result<Exit> {
        let request = task::WaitRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
        };
        let answer: task::WaitResponse = self.call("Wait", &request, None).await?;
        Ok(wire::exit(answer.exit_status, answer.exited_at))
    }

    /// Sends a signal to init, to an exec, or with `all` to every process.
    ///
    /// # Errors
    /// NotFound if it has ended.
    pub async fn kill(&self, exec: Option<&str>, signal: u32, all: bool) -> Result<()> {
        let request = task::KillRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
            signal,
            all,
        };
        self.call::<_, ()>("Kill", &request, None).await
    }

    /// Deletes an ended exec, or with `None` the container.
    ///
    /// # Errors
    /// FailedPrecondition or Unknown while it runs.
    pub async fn delete(&self, exec: Option<&str>) -> Result<Deleted> {
        let request = task::DeleteRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
        };
        let answer = self.call("Delete", &request, None).await?;
        Ok(wire::deleted(answer))
    }

    /// Lists every process in the container.
    ///
    /// # Errors
    /// NotFound if there is no container.
    pub async fn pids(&self) -> Result<Vec<ProcessEntry>> {
        let request = task::PidsRequest {
            id: self.id.clone(),
        };
        let answer: task::PidsResponse = self.call("Pids", &request, Some(wire::QUICK)).await?;
        Ok(answer
            .processes
            .into_iter()
            .map(wire::process_entry)
            .collect())
    }

    /// Sets a terminal's size in characters.
    ///
    /// # Errors
    /// FailedPrecondition or Unknown without a terminal.
    pub async fn resize(&self, exec: Option<&str>, width: u32, height: u32) -> Result<()> {
        let request = task::ResizePtyRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
            width,
            height,
        };
        self.call::<_, ()>("ResizePty", &request, Some(wire::QUICK))
            .await
    }

    /// Closes the process's standard input.
    ///
    /// # Errors
    /// NotFound if there is no such process.
    pub async fn close_stdin(&self, exec: Option<&str>) -> Result<()> {
        let request = task::CloseIoRequest {
            id: self.id.clone(),
            exec_id: exec_id(exec),
            stdin: true,
        };
        self.call::<_, ()>("CloseIO", &request, Some(wire::QUICK))
            .await
    }

    /// Freezes every process of the container.
    ///
    /// # Errors
    /// The runtime's words.
    pub async fn pause(&self) -> Result<()> {
        self.call::<_, ()>(
            "Pause",
            &task::PauseRequest {
                id: self.id.clone(),
            },
            None,
        )
        .await
    }

    /// Lets a frozen container go on.
    ///
    /// # Errors
    /// The runtime's words.
    pub async fn resume(&self) -> Result<()> {
        self.call::<_, ()>(
            "Resume",
            &task::ResumeRequest {
                id: self.id.clone(),
            },
            None,
        )
        .await
    }

    /// Changes the container's limits; `resources` is an OCI LinuxResources as JSON.
    ///
    /// # Errors
    /// The runtime's words.
    pub async fn update(
        &self,
        resources: Option<&AnyValue>,
        annotations: &crate::labels::Labels,
    ) -> Result<()> {
        let request = task::UpdateTaskRequest {
            id: self.id.clone(),
            resources: resources.map(wire::any),
            annotations: annotations.clone().into_iter().collect(),
        };
        self.call::<_, ()>("Update", &request, None).await
    }

    /// Samples the container's resource use: a cgroup v1 or v2 metrics message.
    ///
    /// # Errors
    /// What the shim says.
    pub async fn stats(&self) -> Result<Option<AnyValue>> {
        let request = task::StatsRequest {
            id: self.id.clone(),
        };
        let answer: task::StatsResponse = self.call("Stats", &request, Some(wire::QUICK)).await?;
        Ok(answer.stats.map(wire::any_value))
    }

    /// Asks the shim to end if it holds no container any more.
    ///
    /// # Errors
    /// Unavailable, which here is a success, when it ended before it answered.
    pub async fn shutdown(&self, timeout: Duration) -> Result<()> {
        let request = task::ShutdownRequest {
            id: self.id.clone(),
            now: false,
        };
        self.call::<_, ()>("Shutdown", &request, Some(timeout))
            .await
    }
}

fn exec_id(exec: Option<&str>) -> String {
    exec.unwrap_or_default().to_owned()
}

fn kind(code: Code) -> Kind {
    match code {
        // An error with the code of success is a peer's fault.
        Code::Ok | Code::Internal => Kind::Internal,
        Code::Cancelled => Kind::Cancelled,
        Code::Unknown => Kind::Unknown,
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::DeadlineExceeded => Kind::DeadlineExceeded,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied => Kind::PermissionDenied,
        Code::ResourceExhausted => Kind::ResourceExhausted,
        Code::FailedPrecondition => Kind::FailedPrecondition,
        Code::Aborted => Kind::Aborted,
        Code::OutOfRange => Kind::OutOfRange,
        Code::Unimplemented => Kind::Unimplemented,
        Code::Unavailable => Kind::Unavailable,
        Code::DataLoss => Kind::DataLoss,
        Code::Unauthenticated => Kind::Unauthenticated,
    }
}
