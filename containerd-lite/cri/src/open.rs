//! Brings pods and containers in line with what an earlier daemon has left.
//!
//! 1. Records are read.
//! 2. Pods that were being made are taken back; those whose namespaces are gone,
//!    as after a boot, are not ready any more.
//! 3. The built-in network knows again who has what, and plugins give back what
//!    pods that are no more had.
//! 4. Containers that run are watched, ends that nobody saw are recorded.

use std::sync::Arc;

use lite_core::tasks::Status;
use lite_core::{Core, Filters, Result, chain};

use crate::containers::watch;
use crate::hub::{Cri, CriConfig};
use crate::namespaces::Place;
use crate::pods;
use crate::record::{
    Attached, ContainerRecord, ContainerState, EXTENSION, PodRecord, PodState, decode,
};

impl Cri {
    /// Opens it over `core`, whose tasks have been reconnected.
    ///
    /// # Errors
    /// Those of the database, and of restoring networks.
    pub async fn open(core: Core, config: CriConfig) -> Result<Self> {
        let cri = Self::new(core, config)?;
        let (of_pods, of_containers) = {
            let cri = cri.clone();
            lite_core::blocking(move || read(&cri)).await?
        };
        for record in of_pods {
            settle_pod(&cri, record).await?;
        }
        {
            let cri = cri.clone();
            lite_core::blocking(move || restore_bridge(&cri)).await?;
        }
        crate::connect::settle(&cri).await;
        watch::listen(&cri);
        for record in of_containers {
            settle_container(&cri, record).await?;
        }
        Ok(cri)
    }
}

fn read(cri: &Cri) -> Result<(Vec<PodRecord>, Vec<ContainerRecord>)> {
    let (core, ns) = (cri.core(), cri.ns());
    let io = core.config.state.join("io");
    if let Err(err) = std::fs::create_dir_all(&io) {
        tracing::warn!(dir = %io.display(), error = %err, "make the directory of session sockets");
    }
    let mut of_pods = Vec::new();
    for sandbox in core.sandboxes.list(ns, &Filters::default())? {
        let Some(document) = sandbox.extensions.get(EXTENSION) else {
            // Another client's.
            continue;
        };
        match decode(&sandbox.id, &document.value) {
            Ok(record) => of_pods.push(record),
            // Left alone: a newer daemon may understand it.
            Err(err) => tracing::error!(error = %chain(&err), "read a pod's record"),
        }
    }
    let mut of_containers = Vec::new();
    for container in core.containers.list(ns, &Filters::default())? {
        let Some(document) = container.extensions.get(EXTENSION) else {
            continue;
        };
        match decode(&container.id, &document.value) {
            Ok(record) => of_containers.push(record),
            Err(err) => tracing::error!(error = %chain(&err), "read a container's record"),
        }
    }
    Ok((of_pods, of_containers))
}

async fn settle_pod(cri: &Cri, record: PodRecord) -> Result<()> {
    let id = record.id.clone();
    let record = Arc::new(record);
    cri.show_pod(&id, Arc::clone(&record));
    if record.state == PodState::Creating {
        tracing::info!(pod = id, "take back a pod that was being made");
        pods::undo(cri, &record).await;
        return Ok(());
    }
    if record.state != PodState::Ready {
        return Ok(());
    }
    let place = Place::at(cri.pod_dir(&id));
    let has_network = record.on_host_network() || place.is_pinned();
    let has_files = place.dir().is_dir();
    let has_pause = record.pause == 0 || {
        let task = cri.core().tasks.get(cri.ns(), &id, None).await;
        task.is_ok_and(|task| task.status == Status::Running)
    };
    if !(has_network && has_files && has_pause) {
        tracing::info!(
            pod = id,
            has_network,
            has_files,
            has_pause,
            "a pod is not ready any more"
        );
        let lost = PodRecord {
            state: PodState::NotReady,
            ..PodRecord::clone(&record)
        };
        cri.store_pod(lost).await?;
        return Ok(());
    }
    if record.pause != 0 {
        pods::pause::watch(cri, &id);
    }
    Ok(())
}

fn restore_bridge(cri: &Cri) -> Result<()> {
    let pods = cri.pods();
    let on_it: Vec<&PodRecord> = pods
        .iter()
        .map(Arc::as_ref)
        .filter(|pod| pod.state == PodState::Ready && pod.attached == Attached::Bridge)
        .collect();
    cri.bridge().restore(&on_it)
}

async fn settle_container(cri: &Cri, record: ContainerRecord) -> Result<()> {
    let id = record.id.clone();
    let record = Arc::new(record);
    cri.show_container(Arc::clone(&record));
    let task = cri.core().tasks.get(cri.ns(), &id, None).await.ok();
    match (record.state, task) {
        (ContainerState::Exited, None) | (ContainerState::Created, None) => {}
        // Started, and not recorded: it is one that runs.
        (ContainerState::Created | ContainerState::Running, Some(task))
            if matches!(
                task.status,
                Status::Running | Status::Paused | Status::Pausing
            ) =>
        {
            let running = ContainerRecord {
                state: ContainerState::Running,
                pid: task.pid,
                started_at: record.started_at.or(Some(std::time::SystemTime::now())),
                ..ContainerRecord::clone(&record)
            };
            cri.store_container(running).await?;
            watch::spawn(cri, &id);
        }
        // Made, and not started: the task is of no use to the next start.
        (ContainerState::Created, Some(task)) if task.exit.is_none() => {
            let _ = cri.core().tasks.delete(cri.ns(), &id).await;
        }
        (_, task) => {
            let exit = task.and_then(|task| task.exit);
            watch::ended(cri, &id, exit).await;
        }
    }
    Ok(())
}
