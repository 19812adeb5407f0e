//! The Task service: turns requests into calls of [`crate::task`], and results
//! into answers; the other service is [`crate::sandbox`]. The last file that sees the wire's own types of requests.
//!
//! Versions 2 and 3 differ in the package name only, so one set of types
//! serves both. Everything but a wait runs in a task of its own: a caller
//! that goes away must not leave half a container behind.

use std::future::Future;
use std::rc::Rc;

use prost::Message;
use prost_types::{Any, Timestamp};
use proto::containerd::runc::v1 as runc;
use proto::containerd::task::v2 as wire;
use proto::containerd::v1::types::{ProcessInfo, Status as WireStatus};
use tokio::task::JoinHandle;
use ttrpc_wire::{Code, Request, Status};

use crate::bundle::Exit;
use crate::failure::{Failure, Result};
use crate::options;
use crate::sandbox::{self, Sandbox};
use crate::stdio::uri::StdioUris;
use crate::task::checkpoint::Restore;
use crate::task::create::NewTask;
use crate::task::state::Status as TaskStatus;
use crate::task::{Shim, checkpoint, control, create, delete, exec, start};

const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Answers one request.
pub(crate) async fn answer(shim: Rc<Shim>, sandbox: Rc<Sandbox>, request: Request) -> Answer {
    if request.service == sandbox::SERVICE {
        if request.method == "WaitSandbox" {
            return sandbox.answer(&request.method, &request.payload).await;
        }
        let answer = async move { sandbox.answer(&request.method, &request.payload).await };
        return finished(tokio::task::spawn_local(answer)).await;
    }
    if !SERVICES.contains(&request.service.as_str()) {
        return Err(Status::no_service(&request.service));
    }
    if request.method == "Wait" {
        return Ok(wait(&shim, &request.payload).await?);
    }
    let answer = async move { dispatch(&shim, &request.method, &request.payload).await };
    finished(tokio::task::spawn_local(answer)).await
}

type Answer = std::result::Result<Vec<u8>, Status>;

async fn finished(task: JoinHandle<Answer>) -> Answer {
    task.await
        .unwrap_or_else(|err| Err(Status::new(Code::Internal, err.to_string())))
}

async fn dispatch(shim: &Rc<Shim>, method: &str, payload: &[u8]) -> Answer {
    let answered = match method {
        "State" => call(payload, async |r| state(shim, &r)).await,
        "Create" => call(payload, async |r| create_task(shim, r).await).await,
        "Start" => {
            let start = async |r: wire::StartRequest| {
                Ok(wire::StartResponse {
                    pid: start::start(shim, &r.id, &r.exec_id).await?,
                })
            };
            call(payload, start).await
        }
        "Delete" => call(payload, async |r| delete_task(shim, &r).await).await,
        "Pids" => call(payload, async |r| pids(shim, &r)).await,
        "Pause" => {
            call(payload, async |r: wire::PauseRequest| {
                control::pause(shim, &r.id).await
            })
            .await
        }
        "Resume" => {
            call(payload, async |r: wire::ResumeRequest| {
                control::resume(shim, &r.id).await
            })
            .await
        }
        "Kill" => {
            let kill = async |r: wire::KillRequest| {
                control::kill(shim, &r.id, &r.exec_id, r.signal, r.all).await
            };
            call(payload, kill).await
        }
        "Exec" => call(payload, async |r| exec_process(shim, r).await).await,
        "ResizePty" => {
            let resize = async |r: wire::ResizePtyRequest| {
                control::resize(shim, &r.id, &r.exec_id, r.width, r.height)
            };
            call(payload, resize).await
        }
        "CloseIO" => {
            call(payload, async |r: wire::CloseIoRequest| {
                control::close_io(shim, &r.id, &r.exec_id)
            })
            .await
        }
        "Update" => {
            let update = async |r: wire::UpdateTaskRequest| {
                control::update(shim, &r.id, &r.resources.unwrap_or_default().value).await
            };
            call(payload, update).await
        }
        "Stats" => call(payload, async |r: wire::StatsRequest| stats(shim, &r)).await,
        "Connect" => call(payload, async |r| Ok(connect(shim, &r))).await,
        "Checkpoint" => call(payload, async |r| checkpoint_task(shim, r).await).await,
        "Shutdown" => {
            shim.shut_down();
            Ok(Vec::new())
        }
        other => return Err(Status::no_method(other)),
    };
    Ok(answered?)
}

async fn call<Req, Resp, F>(payload: &[u8], run: impl FnOnce(Req) -> F) -> Result<Vec<u8>>
where
    Req: Message + Default,
    Resp: Message,
    F: Future<Output = Result<Resp>>,
{
    let request = Req::decode(payload)
        .map_err(|err| Failure::invalid(format!("unmarshal request: {err}")))?;
    Ok(run(request).await?.encode_to_vec())
}

async fn wait(shim: &Shim, payload: &[u8]) -> Result<Vec<u8>> {
    let answer = async |r: wire::WaitRequest| {
        let exit = control::wait(shim, &r.id, &r.exec_id).await?;
        Ok(wire::WaitResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at.into()),
        })
    };
    call(payload, answer).await
}

fn state(shim: &Shim, request: &wire::StateRequest) -> Result<wire::StateResponse> {
    let view = control::state(shim, &request.id, &request.exec_id)?;
    let status = match view.status {
        TaskStatus::Created => WireStatus::Created,
        TaskStatus::Running => WireStatus::Running,
        TaskStatus::Pausing => WireStatus::Pausing,
        TaskStatus::Paused => WireStatus::Paused,
        TaskStatus::Stopped | TaskStatus::Deleted => WireStatus::Stopped,
    };
    let process = view.process;
    let exit = *process.exit.borrow();
    Ok(wire::StateResponse {
        id: process.exec.clone().unwrap_or_else(|| request.id.clone()),
        bundle: view.bundle,
        pid: process.pid.get(),
        status: status.into(),
        stdin: process.stdio.stdin.clone(),
        stdout: process.stdio.stdout.clone(),
        stderr: process.stdio.stderr.clone(),
        terminal: process.stdio.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exited_at(exit),
        exec_id: process.exec.clone().unwrap_or_default(),
    })
}

fn exited_at(exit: Option<Exit>) -> Option<Timestamp> {
    exit.map(|exit| exit.at.into())
}

async fn create_task(
    shim: &Rc<Shim>,
    request: wire::CreateTaskRequest,
) -> Result<wire::CreateTaskResponse> {
    let new = NewTask {
        options: options::from_any(request.options.as_ref())?,
        id: request.id,
        bundle: request.bundle.into(),
        rootfs: request.rootfs,
        stdio: StdioUris {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
        restore: Some(request.checkpoint)
            .filter(|image| !image.is_empty())
            .map(|image| Restore {
                image: image.into(),
                parent: request.parent_checkpoint.into(),
            }),
    };
    Ok(wire::CreateTaskResponse {
        pid: create::create(shim, new).await?,
    })
}

async fn checkpoint_task(shim: &Shim, request: wire::CheckpointTaskRequest) -> Result<()> {
    let options = match &request.options {
        Some(any)
            if any
                .type_url
                .ends_with("containerd.runc.v1.CheckpointOptions") =>
        {
            runc::CheckpointOptions::decode(any.value.as_slice())
                .map_err(|err| Failure::invalid(format!("checkpoint options: {err}")))?
        }
        _ => runc::CheckpointOptions::default(),
    };
    checkpoint::checkpoint(shim, &request.id, &request.path, &options).await
}

async fn delete_task(shim: &Shim, request: &wire::DeleteRequest) -> Result<wire::DeleteResponse> {
    let exit = delete::delete(shim, &request.id, &request.exec_id).await?;
    Ok(wire::DeleteResponse {
        pid: exit.map_or(0, |exit| exit.pid),
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exited_at(exit),
    })
}

async fn exec_process(shim: &Shim, request: wire::ExecProcessRequest) -> Result<()> {
    let stdio = StdioUris {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    };
    exec::exec(
        shim,
        &request.id,
        &request.exec_id,
        stdio,
        &request.spec.unwrap_or_default().value,
    )
    .await
}

fn pids(shim: &Shim, request: &wire::PidsRequest) -> Result<wire::PidsResponse> {
    let processes = control::pids(shim, &request.id)?
        .into_iter()
        .map(|(pid, exec)| {
            let info = exec.map(|exec_id| Any {
                type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
                value: runc::ProcessDetails { exec_id }.encode_to_vec(),
            });
            ProcessInfo { pid, info }
        })
        .collect();
    Ok(wire::PidsResponse { processes })
}

fn stats(shim: &Shim, request: &wire::StatsRequest) -> Result<wire::StatsResponse> {
    Ok(wire::StatsResponse {
        stats: Some(control::stats(shim, &request.id)?),
    })
}

fn connect(shim: &Shim, request: &wire::ConnectRequest) -> wire::ConnectResponse {
    let task_pid = shim
        .container(&request.id)
        .map_or(0, |container| container.init.pid.get());
    wire::ConnectResponse {
        shim_pid: std::process::id(),
        task_pid,
        version: String::new(),
    }
}
