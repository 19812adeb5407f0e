//! Starts a container: its task, whose shim is the pod's, and the watch over
//! its end.

use std::time::SystemTime;

use lite_core::session::{Endpoint, Log};
use lite_core::{Because, CreateTask, Kind, OVERLAYFS, Result, chain};

use super::watch;
use crate::events::{Event, What};
use crate::hub::{Cri, absent_is_fine};
use crate::record::{ContainerRecord, ContainerState, PodState};

/// The exit code of a container that could not be started; containerd's.
const NOT_STARTED: i32 = 128;

/// Starts the container `id`.
///
/// # Errors
/// NotFound; FailedPrecondition unless it was just made and its pod is ready;
/// what runtime and shim say, and then it has exited.
pub async fn start(cri: &Cri, id: &str) -> Result<()> {
    let id = cri.container(id)?.id.clone();
    let cri = cri.clone();
    // On its own task: a caller that leaves half way must not leave half a start.
    let work = tokio::spawn(async move {
        let _turn = cri.turn(&id).await;
        let record = cri.container(&id)?;
        if record.state != ContainerState::Created {
            return Err(Kind::FailedPrecondition.error(format!(
                "container {id} was started already: make a new one"
            )));
        }
        if cri.pod(&record.pod)?.state != PodState::Ready {
            return Err(
                Kind::FailedPrecondition.error(format!("pod sandbox {} is not ready", record.pod))
            );
        }
        match launch(&cri, &record).await {
            Ok(pid) => {
                let running = ContainerRecord {
                    state: ContainerState::Running,
                    pid,
                    started_at: Some(SystemTime::now()),
                    ..ContainerRecord::clone(&record)
                };
                let running = cri.store_container(running).await?;
                cri.emit(Event::now(What::Started, &id, &running.pod));
                watch::spawn(&cri, &id);
                Ok(())
            }
            Err(err) => {
                let failed = ContainerRecord {
                    state: ContainerState::Exited,
                    exit_code: NOT_STARTED,
                    reason: "StartError".to_owned(),
                    message: chain(&err),
                    started_at: Some(SystemTime::UNIX_EPOCH),
                    finished_at: Some(SystemTime::now()),
                    ..ContainerRecord::clone(&record)
                };
                cri.store_container(failed).await?;
                Err(err.within(format!("start container {id}")))
            }
        }
    });
    work.await
        .map_err(|join| Kind::Internal.error("start container").because(join))?
}

async fn launch(cri: &Cri, record: &ContainerRecord) -> Result<u32> {
    let request = {
        let (cri, record) = (cri.clone(), record.clone());
        lite_core::blocking(move || request(&cri, &record)).await?
    };
    let (tasks, ns) = (&cri.core().tasks, cri.ns());
    tasks.create(ns, request).await?;
    match tasks.start(ns, &record.id, None).await {
        Ok(pid) => Ok(pid),
        Err(err) => {
            if let Err(left) = absent_is_fine(tasks.delete(ns, &record.id).await.map(drop)) {
                tracing::warn!(container = record.id, error = %chain(&left), "delete task");
            }
            Err(err)
        }
    }
}

fn request(cri: &Cri, record: &ContainerRecord) -> Result<CreateTask> {
    let (core, ns) = (cri.core(), cri.ns());
    let stored = core.containers.get(ns, &record.id)?;
    let config = &record.config;
    let log = (!record.log.is_empty()).then(|| record.log.clone().into());
    if let Some(dir) = log
        .as_ref()
        .and_then(|path: &std::path::PathBuf| path.parent())
    {
        std::fs::create_dir_all(dir).op(|| format!("create {}", dir.display()))?;
    }
    let endpoint = Endpoint {
        socket: cri.session_socket(&record.id),
        log: log.map(Log::cri),
        stdin: config.stdin.then_some(config.stdin_once),
    };
    Ok(CreateTask {
        id: record.id.clone(),
        spec: stored.spec.map(|spec| spec.value).unwrap_or_default(),
        rootfs: core.snapshots.mounts(ns, OVERLAYFS, &record.id)?,
        io: endpoint.streams(config.tty),
        runtime: stored.runtime,
        options: None,
    })
}
