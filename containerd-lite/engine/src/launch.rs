//! The slow work around a container's task: [`launch`] brings the main
//! process up, [`delete_task`] and [`remove_all`] take things away again.
//!
//! A launch:
//! 1. files, user and spec are made ([`prepare`]);
//! 2. the task is created, which leaves the process waiting;
//! 3. with an attached client, the session is connected and the terminal gets
//!    its size, so that no output can be missed;
//! 4. the process is started.
//!
//! On failure the task is deleted again.

use std::time::SystemTime;

use lite_core::tasks::CreateTask;
use lite_core::{Because, Kind, Mount, Result, Runtime, chain};

use crate::engine::{Engine, SNAPSHOTTER};
use crate::layers;
use crate::record::Record;
use crate::session::{Endpoint, Session};
use crate::spec::{self, Inputs, Window};
use crate::user::{self, User};

/// A main process that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its pid on the host.
    pub(crate) pid: u32,
    /// When it was started.
    pub(crate) at: SystemTime,
    /// Its `config.json`.
    pub(crate) spec: Vec<u8>,
    /// The session, where one was wanted.
    pub(crate) session: Option<Session>,
}

/// Starts the main process of `record`'s container.
///
/// # Errors
/// ExecutableNotFound and ExecutableNotRunnable for the program's faults,
/// InvalidArgument for a user that is not there, else what failed.
pub(crate) async fn launch(
    engine: &Engine,
    record: &Record,
    attach: bool,
    window: Option<Window>,
) -> Result<Launched> {
    let (spec, rootfs) = {
        let (engine, record) = (engine.clone(), record.clone());
        lite_core::blocking(move || prepare(&engine, &record)).await?
    };
    let config = &record.config;
    let endpoint = Endpoint {
        socket: engine.session_socket(&record.id),
        log: Some(engine.dir(&record.id).log()),
        stdin: config.open_stdin.then_some(config.stdin_once),
    };
    let request = CreateTask {
        id: record.id.clone(),
        spec: spec.clone(),
        rootfs,
        io: endpoint.streams(config.tty),
        runtime: Runtime {
            name: config.runtime.clone(),
            options: None,
        },
        options: None,
    };
    let tasks = &engine.core().tasks;
    tasks.create(engine.ns(), request).await?;
    let started = async {
        let session = if attach {
            Some(Session::connect(&endpoint.socket).await?)
        } else {
            None
        };
        if let Some(Window { columns, rows }) = window.filter(|_| config.tty) {
            tasks
                .resize(engine.ns(), &record.id, None, columns, rows)
                .await?;
        }
        let pid = tasks.start(engine.ns(), &record.id, None).await?;
        Ok(Launched {
            pid,
            at: SystemTime::now(),
            spec,
            session,
        })
    };
    match started.await {
        Ok(launched) => Ok(launched),
        Err(err) => {
            delete_task(engine, &record.id).await;
            Err(err)
        }
    }
}

/// Writes the container's files and makes its spec.
fn prepare(engine: &Engine, record: &Record) -> Result<(Vec<u8>, Vec<Mount>)> {
    let (id, config) = (&record.id, &record.config);
    let rootfs = engine
        .core()
        .snapshots
        .mounts(engine.ns(), SNAPSHOTTER, id)?;
    let dir = engine.dir(id);
    dir.write_etc(&config.hostname)
        .op(|| format!("write files of container {id}"))?;
    let user = who(&config.user, &rootfs)?;
    let cgroups_path = format!("/{}/{id}", engine.config().cgroup_parent.trim_matches('/'));
    let spec = spec::build(&Inputs {
        config,
        user: &user,
        host: engine.host(),
        cgroups_path: &cgroups_path,
        files: dir.path(),
    });
    let spec = serde_json::to_vec(&spec)
        .map_err(|err| Kind::Internal.error("encode spec").because(err))?;
    Ok((spec, rootfs))
}

fn who(typed: &str, rootfs: &[Mount]) -> Result<User> {
    let layers = if user::needs_files(typed) {
        layers::of_mounts(rootfs)
    } else {
        Vec::new()
    };
    let read =
        |path: &str| layers::read_text(&layers, path).op(|| format!("read {path} of the image"));
    user::resolve(typed, &read("/etc/passwd")?, &read("/etc/group")?)
        .map_err(|err| Kind::InvalidArgument.error(err.to_string()))
}

/// Deletes a task that has ended or never ran; one that is not there is fine.
pub(crate) async fn delete_task(engine: &Engine, id: &str) {
    match engine.core().tasks.delete(engine.ns(), id).await {
        Ok(_) => {}
        Err(err) if err.kind() == Kind::NotFound => {}
        Err(err) => tracing::warn!(container_id = id, error = %chain(&err), "delete task"),
    }
}

/// Removes everything a container has; what is not there is fine, so that a
/// removal that was cut short can be done again. The record goes last.
///
/// # Errors
/// The first thing that cannot be removed.
pub(crate) async fn remove_all(engine: &Engine, id: &str) -> Result<()> {
    delete_task(engine, id).await;
    let (engine, id) = (engine.clone(), id.to_owned());
    lite_core::blocking(move || {
        let (core, ns) = (engine.core(), engine.ns());
        absent_is_fine(core.snapshots.remove(ns, SNAPSHOTTER, &id))?;
        engine
            .dir(&id)
            .remove()
            .op(|| format!("remove files of container {id}"))?;
        // Left by a shim that was killed.
        let _ = std::fs::remove_file(engine.session_socket(&id));
        absent_is_fine(core.containers.delete(ns, &id))
    })
    .await
}

fn absent_is_fine(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(err) if err.kind() == Kind::NotFound => Ok(()),
        other => other,
    }
}
