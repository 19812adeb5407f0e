//! The sandbox service: a pod as its shim sees it.
//!
//! A sandbox here has no process of its own: it is the shim. It is ready once
//! started and over once stopped, which ends the containers in it. While it
//! exists the shim stays, with containers or without.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prost::Message;
use proto::containerd::runtime::sandbox::v1 as wire;
use proto::containerd::types::{Metric, Platform};
use tokio::sync::watch;
use ttrpc_wire::{Code, Status};

use crate::cgroups;
use crate::failure::{Failure, Result, warn};
use crate::task::{Shim, control, delete};

/// The service's name.
pub(crate) const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// How long containers may take to end unless the request says otherwise.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// The sandbox that a shim keeps, if it keeps one.
pub(crate) struct Sandbox {
    shim: Rc<Shim>,
    kept: RefCell<Option<Rc<Kept>>>,
}

struct Kept {
    id: String,
    created_at: SystemTime,
    started: watch::Sender<bool>,
    stopped: watch::Sender<Option<SystemTime>>,
}

impl Kept {
    fn state(&self) -> &'static str {
        match (*self.started.borrow(), *self.stopped.borrow()) {
            (true, None) => "SANDBOX_READY",
            _ => "SANDBOX_NOTREADY",
        }
    }
}

impl Sandbox {
    /// No sandbox yet.
    pub(crate) fn new(shim: Rc<Shim>) -> Rc<Self> {
        Rc::new(Self {
            shim,
            kept: RefCell::default(),
        })
    }

    /// Answers one request.
    pub(crate) async fn answer(
        &self,
        method: &str,
        payload: &[u8],
    ) -> std::result::Result<Vec<u8>, Status> {
        Ok(match method {
            "CreateSandbox" => self.create(&decode(payload)?)?.encode_to_vec(),
            "StartSandbox" => self.start(&decode(payload)?)?.encode_to_vec(),
            "Platform" => self.platform(&decode(payload)?)?.encode_to_vec(),
            "StopSandbox" => self.stop(&decode(payload)?).await?.encode_to_vec(),
            "WaitSandbox" => self.wait(&decode(payload)?).await?.encode_to_vec(),
            "SandboxStatus" => self.status(&decode(payload)?)?.encode_to_vec(),
            "PingSandbox" => self.ping(&decode(payload)?)?.encode_to_vec(),
            "ShutdownSandbox" => self.shut_down(&decode(payload)?).await?.encode_to_vec(),
            "SandboxMetrics" => self.metrics(&decode(payload)?)?.encode_to_vec(),
            other => return Err(Status::no_method(other)),
        })
    }

    fn kept(&self, id: &str) -> Result<Rc<Kept>> {
        let kept = self.kept.borrow().clone().filter(|kept| kept.id == id);
        kept.ok_or_else(|| Failure::not_found(format!("sandbox {id}")))
    }

    fn create(&self, request: &wire::CreateSandboxRequest) -> Result<wire::CreateSandboxResponse> {
        let mut kept = self.kept.borrow_mut();
        if let Some(other) = &*kept {
            let id = &other.id;
            return Err(Failure::new(Code::AlreadyExists, format!("sandbox {id}")));
        }
        *kept = Some(Rc::new(Kept {
            id: request.sandbox_id.clone(),
            created_at: SystemTime::now(),
            started: watch::Sender::new(false),
            stopped: watch::Sender::new(None),
        }));
        self.shim.hold(true);
        Ok(wire::CreateSandboxResponse {})
    }

    fn start(&self, request: &wire::StartSandboxRequest) -> Result<wire::StartSandboxResponse> {
        let kept = self.kept(&request.sandbox_id)?;
        if kept.stopped.borrow().is_some() {
            return Err(Failure::precondition("cannot start a stopped sandbox"));
        }
        if kept.started.send_replace(true) {
            return Err(Failure::precondition("sandbox is started already"));
        }
        Ok(wire::StartSandboxResponse {
            pid: std::process::id(),
            created_at: Some(kept.created_at.into()),
            spec: None,
        })
    }

    fn platform(&self, request: &wire::PlatformRequest) -> Result<wire::PlatformResponse> {
        self.kept(&request.sandbox_id)?;
        Ok(wire::PlatformResponse {
            platform: Some(Platform {
                os: "linux".to_owned(),
                // The only one these programs are built for.
                architecture: "amd64".to_owned(),
                ..Default::default()
            }),
        })
    }

    async fn stop(&self, request: &wire::StopSandboxRequest) -> Result<wire::StopSandboxResponse> {
        let kept = self.kept(&request.sandbox_id)?;
        let patience = match request.timeout_secs {
            0 => STOP_PATIENCE,
            secs => Duration::from_secs(secs.into()),
        };
        self.end_containers(SIGTERM, patience).await;
        self.end_containers(SIGKILL, STOP_PATIENCE).await;
        kept.stopped
            .send_if_modified(|at| at.is_none() && at.replace(SystemTime::now()).is_none());
        Ok(wire::StopSandboxResponse {})
    }

    /// Sends `signal` to every container, and waits until they have ended.
    async fn end_containers(&self, signal: u32, patience: Duration) {
        let ids = self.shim.ids();
        for id in &ids {
            match control::kill(&self.shim, id, "", signal, false).await {
                Err(err) if !err.is_not_found() => warn("stop a container of the sandbox", &err),
                _ => {}
            }
        }
        let ended = async {
            for id in &ids {
                // One that is not there has ended.
                let _ = control::wait(&self.shim, id, "").await;
            }
        };
        // Whoever is left is told of by the caller's next step.
        let _ = tokio::time::timeout(patience, ended).await;
    }

    async fn wait(&self, request: &wire::WaitSandboxRequest) -> Result<wire::WaitSandboxResponse> {
        let mut stopped = self.kept(&request.sandbox_id)?.stopped.subscribe();
        let at = stopped
            .wait_for(Option::is_some)
            .await
            .map_err(|err| Failure::because("wait", &err))?;
        Ok(wire::WaitSandboxResponse {
            exit_status: 0,
            exited_at: at.map(Into::into),
        })
    }

    fn status(&self, request: &wire::SandboxStatusRequest) -> Result<wire::SandboxStatusResponse> {
        let kept = self.kept(&request.sandbox_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            info.insert("containers".to_owned(), self.shim.ids().join(","));
        }
        Ok(wire::SandboxStatusResponse {
            sandbox_id: kept.id.clone(),
            pid: std::process::id(),
            state: kept.state().to_owned(),
            info,
            created_at: Some(kept.created_at.into()),
            exited_at: kept.stopped.borrow().map(Into::into),
            extra: None,
        })
    }

    fn ping(&self, request: &wire::PingRequest) -> Result<wire::PingResponse> {
        self.kept(&request.sandbox_id)?;
        Ok(wire::PingResponse {})
    }

    /// Ends the shim, and what is left in it.
    async fn shut_down(
        &self,
        request: &wire::ShutdownSandboxRequest,
    ) -> Result<wire::ShutdownSandboxResponse> {
        let kept = self.kept(&request.sandbox_id)?;
        self.end_containers(SIGKILL, STOP_PATIENCE).await;
        for id in self.shim.ids() {
            if let Err(err) = delete::delete(&self.shim, &id, "").await {
                warn("delete a container of the sandbox", &err);
            }
        }
        kept.stopped
            .send_if_modified(|at| at.is_none() && at.replace(SystemTime::now()).is_none());
        self.kept.borrow_mut().take();
        self.shim.hold(false);
        self.shim.shut_down();
        Ok(wire::ShutdownSandboxResponse {})
    }

    /// The sums of what the containers use.
    fn metrics(
        &self,
        request: &wire::SandboxMetricsRequest,
    ) -> Result<wire::SandboxMetricsResponse> {
        let kept = self.kept(&request.sandbox_id)?;
        let mut sums = cgroups::Sums::default();
        for id in self.shim.ids() {
            // One that has ended uses nothing.
            if let Ok(metrics) = control::stats(&self.shim, &id) {
                sums.add(&metrics)?;
            }
        }
        Ok(wire::SandboxMetricsResponse {
            metrics: Some(Metric {
                timestamp: Some(SystemTime::now().into()),
                id: kept.id.clone(),
                data: sums.into_any(),
            }),
        })
    }
}

fn decode<Req: Message + Default>(payload: &[u8]) -> Result<Req> {
    Req::decode(payload).map_err(|err| Failure::invalid(format!("unmarshal request: {err}")))
}
