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

use crate::devices;
use crate::engine::{Engine, SNAPSHOTTER};
use crate::host_config::HostConfig;
use crate::networks::{self, Attached, Surroundings};
use crate::record::Record;
use crate::rights::Rights;
use crate::sizes;
use crate::spec::{self, Inputs, Space, Spaces, Window};
use crate::state::Phase;
use crate::user::{self, User};
use crate::volumes;
use lite_core::session::{Endpoint, Log, Session};
use lite_core::stacked;

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
    let attached = {
        let (engine, record) = (engine.clone(), record.clone());
        lite_core::blocking(move || networks::launch(&engine, &record)).await?
    };
    let launched = run(engine, record, attached, attach, window).await;
    if launched.is_err() {
        leave_networks(engine, &record.id).await;
    }
    launched
}

/// Takes the container off its networks; one that is on none is fine.
pub(crate) async fn leave_networks(engine: &Engine, id: &str) {
    let (engine, id) = (engine.clone(), id.to_owned());
    let left = lite_core::blocking(move || {
        networks::detach(&engine, &id);
        Ok(())
    });
    if let Err(err) = left.await {
        tracing::error!(error = %chain(&err), "leave networks");
    }
}

async fn run(
    engine: &Engine,
    record: &Record,
    attached: Option<Attached>,
    attach: bool,
    window: Option<Window>,
) -> Result<Launched> {
    let (spec, rootfs) = {
        let (engine, record) = (engine.clone(), record.clone());
        lite_core::blocking(move || prepare(&engine, &record, attached.as_ref())).await?
    };
    let config = &record.config;
    let endpoint = Endpoint {
        socket: engine.session_socket(&record.id),
        log: log(engine, record)?,
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

/// Where output is logged, and how much of it is kept.
fn log(engine: &Engine, record: &Record) -> Result<Option<Log>> {
    let host = &record.host;
    if host.log_driver == "none" {
        return Ok(None);
    }
    let bad = |key: &str, value: &str| {
        Kind::InvalidArgument.error(format!("invalid value {value:?} for log option {key}"))
    };
    let mut log = Log::at(engine.dir(&record.id).log());
    for (key, value) in &host.log_opts {
        match key.as_str() {
            "max-size" if value == "-1" => log.bytes = u64::MAX,
            "max-size" => log.bytes = sizes::parse(value).ok_or_else(|| bad(key, value))?,
            "max-file" => log.files = value.parse().map_err(|_| bad(key, value))?,
            // How it is written, which makes no difference to a reader.
            "mode" | "max-buffer-size" | "compress" | "labels" | "env" | "tag" => {}
            _ => {
                return Err(Kind::InvalidArgument
                    .error(format!("unknown log opt '{key}' for json-file log driver")));
            }
        }
    }
    Ok(Some(log))
}

/// Writes the container's files and makes its spec.
fn prepare(
    engine: &Engine,
    record: &Record,
    attached: Option<&Attached>,
) -> Result<(Vec<u8>, Vec<Mount>)> {
    let (id, config) = (&record.id, &record.config);
    let rootfs = engine
        .core()
        .snapshots
        .mounts(engine.ns(), SNAPSHOTTER, id)?;
    let host = &record.host;
    networks::write_files(
        engine,
        record,
        &Surroundings {
            endpoints: attached.map_or(&[], |attached| &attached.endpoints),
            own_server: attached.is_some_and(networks::has_names),
            on_host: networks::mode(host) == networks::Mode::Host,
        },
    )?;
    // With another's network come its names.
    let files = match networks::mode(host) {
        networks::Mode::Container(other) => engine.dir(&engine.find(&other)?.record().id),
        _ => engine.dir(id),
    };
    let user = who(&config.user, &host.group_add, &rootfs)?;
    let parent = if host.cgroup_parent.is_empty() {
        &engine.config().cgroup_parent
    } else {
        &host.cgroup_parent
    };
    let cgroups_path = format!("/{}/{id}", parent.trim_matches('/'));
    let init = host.init.then(std::env::current_exe).transpose();
    let spec = spec::build(&Inputs {
        config,
        host_config: host,
        rights: &Rights::of(host, engine.host().last_capability)?,
        mounts: &volumes::mount_sources(&record.mounts)?,
        devices: &devices::resolve(host)?,
        spaces: &spaces(engine, host, attached)?,
        user: &user,
        host: engine.host(),
        cgroups_path: &cgroups_path,
        files: files.path(),
        init: init
            .op(|| "find the daemon's own binary".to_owned())?
            .as_deref(),
    })?;
    let spec = serde_json::to_vec(&spec)
        .map_err(|err| Kind::Internal.error("encode spec").because(err))?;
    Ok((spec, rootfs))
}

/// Which namespaces the container shares, and with whom.
fn spaces(engine: &Engine, host: &HostConfig, attached: Option<&Attached>) -> Result<Spaces> {
    let space = |mode: &str, file: &str| -> Result<Space> {
        match mode.split_once(':') {
            Some(("container", other)) => {
                let record = engine.find(other)?.record();
                if record.phase != Phase::Running {
                    return Err(Kind::FailedPrecondition.error(format!(
                        "cannot join namespaces of container {other}: it is not running: start it first"
                    )));
                }
                Ok(Space::At(format!("/proc/{}/ns/{file}", record.run.pid)))
            }
            _ if mode == "host" => Ok(Space::Host),
            _ => Ok(Space::Own),
        }
    };
    Ok(Spaces {
        network: match (networks::mode(host), attached) {
            (_, Some(attached)) => Space::At(attached.netns.display().to_string()),
            (networks::Mode::Host, None) => Space::Host,
            (networks::Mode::Container(other), None) => {
                space(&format!("container:{other}"), "net")?
            }
            (networks::Mode::None | networks::Mode::Networks(_), None) => Space::Own,
        },
        pid: space(&host.pid, "pid")?,
        ipc: space(&host.ipc, "ipc")?,
    })
}

fn who(typed: &str, further: &[String], rootfs: &[Mount]) -> Result<User> {
    let needed = user::needs_files(typed) || further.iter().any(|group| user::needs_files(group));
    let layers = if needed {
        stacked::of_mounts(rootfs)
    } else {
        Vec::new()
    };
    let read =
        |path: &str| stacked::read_text(&layers, path).op(|| format!("read {path} of the image"));
    let group = read("/etc/group")?;
    let mut user = user::resolve(typed, &read("/etc/passwd")?, &group)
        .map_err(|err| Kind::InvalidArgument.error(err.to_string()))?;
    for name in further {
        let gid = user::group(name, &group)
            .map_err(|err| Kind::InvalidArgument.error(err.to_string()))?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
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
pub(crate) async fn remove_all(engine: &Engine, id: &str, volumes: Vec<String>) -> Result<()> {
    delete_task(engine, id).await;
    let (engine, id) = (engine.clone(), id.to_owned());
    lite_core::blocking(move || {
        let (core, ns) = (engine.core(), engine.ns());
        absent_is_fine(core.snapshots.remove(ns, SNAPSHOTTER, &id))?;
        engine
            .dir(&id)
            .remove()
            .op(|| format!("remove files of container {id}"))?;
        volumes::remove_unused(&engine, &id, &volumes)?;
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
