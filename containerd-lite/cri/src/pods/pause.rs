//! The first process of a process namespace that a pod's containers share: the
//! daemon's own program, mounted into an empty root file system, where it
//! waits and takes the ends of orphans.

use std::fs;
use std::path::Path;

use lite_core::{Because, CreateTask, Kind, Mount, Result, TaskIo};
use serde_json::{Value, json};

use crate::config::Mode;
use crate::handlers;
use crate::hub::{Cri, absent_is_fine};
use crate::namespaces::Place;
use crate::record::{PodRecord, PodState};
use crate::spec::{cgroups_path, namespaces};

/// Its path, and the name under which the program waits.
pub(crate) const PROGRAM: &str = "/pause";

/// Whether the pod's containers share their processes.
pub(crate) fn is_wanted(record: &PodRecord) -> bool {
    record.config.security.namespaces.pid == Mode::Pod
}

/// Starts it; returns its pid.
///
/// # Errors
/// What runtime and shim say. Then nothing is left.
pub(crate) async fn start(cri: &Cri, record: &PodRecord) -> Result<u32> {
    let place = Place::at(cri.pod_dir(&record.id));
    let root = place.file("rootfs");
    fs::create_dir_all(&root).op(|| format!("create {}", root.display()))?;
    let program = std::env::current_exe().op(|| "find the daemon's own binary".to_owned())?;
    let spec = spec(cri, record, &place, &program);
    let request = CreateTask {
        id: record.id.clone(),
        spec: serde_json::to_vec(&spec)
            .map_err(|err| Kind::Internal.error("encode spec").because(err))?,
        rootfs: vec![Mount::bind(&root, true)],
        io: TaskIo::default(),
        runtime: handlers::find(cri, &record.handler)?.runtime,
        options: None,
    };
    let tasks = &cri.core().tasks;
    tasks.create(cri.ns(), request).await?;
    match tasks.start(cri.ns(), &record.id, None).await {
        Ok(pid) => Ok(pid),
        Err(err) => {
            // The first error is the one to tell.
            let _ = tasks.delete(cri.ns(), &record.id).await;
            Err(err)
        }
    }
}

/// Ends it; one that is not there is fine.
///
/// # Errors
/// What the shim says.
pub(crate) async fn end(cri: &Cri, id: &str) -> Result<()> {
    let (tasks, ns) = (&cri.core().tasks, cri.ns());
    /// SIGKILL
    const KILL: u32 = 9;
    if let Err(err) = absent_is_fine(tasks.kill(ns, id, None, KILL, false).await) {
        // One that was never started cannot be killed, and is deleted as it is.
        tracing::debug!(pod = id, error = %lite_core::chain(&err), "kill the pod's first process");
    } else {
        let _ = tasks.wait(ns, id, None).await;
    }
    absent_is_fine(tasks.delete(ns, id).await.map(drop))
}

fn spec(cri: &Cri, record: &PodRecord, place: &Place, program: &Path) -> Value {
    let mut kinds = vec![json!({ "type": "mount" }), json!({ "type": "pid" })];
    kinds.extend(namespaces::shared(record, place));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": [PROGRAM],
            "cwd": "/",
            "env": ["PATH=/"],
            "user": { "uid": 65535, "gid": 65535 },
            "capabilities": {},
            "noNewPrivileges": true,
            "oomScoreAdj": cri.host().least_oom_score.max(-998),
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=755", "size=64k"] },
            { "destination": PROGRAM, "type": "bind", "source": program, "options": ["bind", "ro", "nosuid", "nodev"] },
        ],
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": record.id,
        },
        "linux": {
            "cgroupsPath": cgroups_path(cri.config(), &record.config, &record.id),
            "namespaces": kinds,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": { "cpu": { "shares": 2 }, "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}

/// Waits for the process's end, which is the pod's.
pub(crate) fn watch(cri: &Cri, id: &str) {
    let (cri, id) = (cri.clone(), id.to_owned());
    tokio::spawn(async move {
        let _ = cri.core().tasks.wait(cri.ns(), &id, None).await;
        let Ok(record) = cri.pod(&id) else { return };
        if record.state != PodState::Ready || record.pause == 0 {
            return;
        }
        let lost = PodRecord {
            state: PodState::NotReady,
            ..PodRecord::clone(&record)
        };
        if let Err(err) = cri.store_pod(lost).await {
            tracing::error!(pod = id, error = %lite_core::chain(&err), "record that a pod is not ready");
        }
    });
}
