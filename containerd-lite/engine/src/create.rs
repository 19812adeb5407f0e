//! Makes a container, ready to be started.
//!
//! 1. The request is checked and the image looked up and unpacked.
//! 2. The name is reserved; from here a second create with it fails.
//! 3. The record is stored with the phase `creating`: a daemon that is killed
//!    from here on removes the container at its next start.
//! 4. Directory and snapshot are made.
//! 5. The record becomes `created`, and the container gets its supervisor.
//!
//! A failure undoes what was done.

use std::collections::BTreeMap;
use std::time::SystemTime;

use lite_core::{Because, Container, Kind, Labels, Result, Runtime, chain};

use crate::argv::Argv;
use crate::engine::{Engine, SNAPSHOTTER, extension_of};
use crate::environment;
use crate::events::Event;
use crate::host_config::{HealthCheck, HostConfig};
use crate::images::{self, Found};
use crate::mounts::{self, MountPoint};
use crate::names::Name;
use crate::record::{Config, EXTENSION, ImageUse, Manifest, Record, Run, VERSION};
use crate::rights::Rights;
use crate::signals::Signal;
use crate::state::Phase;
use crate::{devices, health, launch, limits, networks, ports, volumes};
use lite_core::ids::Id;

/// What the user asked for. Empty and `None` mean "not given".
#[derive(Debug, Clone, Default)]
pub struct CreateContainer {
    /// Name; invented where not given.
    pub name: String,
    /// Reference, id, or the beginning of an id.
    pub image: String,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint and drops its command.
    pub entrypoint: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory.
    pub workdir: String,
    /// `user[:group]`.
    pub user: String,
    /// Host name; the beginning of the id where not given.
    pub hostname: String,
    /// With a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it when the first client leaves.
    pub stdin_once: bool,
    /// Remove it when it has exited.
    pub auto_remove: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// containerd runtime name.
    pub runtime: String,
    /// Name or number.
    pub stop_signal: String,
    /// Seconds; negative means for ever.
    pub stop_timeout_s: Option<i32>,
    /// What it has of the host.
    pub host: HostConfig,
    /// In place of the image's health check.
    pub health: Option<HealthCheck>,
    /// Ports beside the image's.
    pub expose: Vec<String>,
    /// NIS domain name.
    pub domainname: String,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Makes a container. Goes on to its end when the caller stops waiting.
///
/// # Errors
/// NotFound for the image; AlreadyExists for the name; InvalidArgument for
/// what can never run; else what storage says.
pub async fn create(engine: &Engine, request: CreateContainer) -> Result<Created> {
    let engine = engine.clone();
    let work = tokio::spawn(async move { make(&engine, request).await });
    work.await
        .map_err(|join| Kind::Internal.error("create container").because(join))?
}

async fn make(engine: &Engine, request: CreateContainer) -> Result<Created> {
    let name = match request.name.as_str() {
        "" => None,
        typed => {
            Some(Name::parse(typed).map_err(|err| Kind::InvalidArgument.error(err.to_string()))?)
        }
    };
    check(&request)?;
    let warnings = check_host(engine, &request.host)?;
    let (found, image_health) = {
        let (engine, typed) = (engine.clone(), request.image.clone());
        lite_core::blocking(move || {
            let found = images::find(&engine, &typed)?;
            images::unpack(&engine, &found.resolved)?;
            let raw = images::raw_config(&engine, &found.resolved)?;
            Ok((found, health::of_image(&raw)))
        })
        .await?
    };
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let mut config = config(&request, &found, &id, &engine.config().default_runtime)?;
    if let networks::Mode::Container(other) = networks::mode(&request.host) {
        // With another's network come its names.
        let other = not_about_the_image(engine.find(&other))?.record();
        if !request.hostname.is_empty() {
            return Err(
                Kind::InvalidArgument.error("conflicting options: hostname and the network mode")
            );
        }
        config.hostname.clone_from(&other.config.hostname);
    }
    config.health = health::merge(request.health.as_ref(), image_health.as_ref());
    let mounts = mounts::plan(
        &request.host,
        &config.volumes,
        inherited(engine, &request.host)?,
    )?;
    let reservation = engine.reserve(name, &id)?;
    let mut record = Record {
        version: VERSION,
        id: id.as_str().to_owned(),
        name: reservation.name.as_str().to_owned(),
        created_at: Some(SystemTime::now()),
        phase: Phase::Creating,
        image: image_use(&request.image, &found),
        config,
        host: request.host.clone(),
        mounts,
        run: Run::default(),
    };
    let made = {
        let (engine, record) = (engine.clone(), record.clone());
        let parent = found
            .resolved
            .chain_id
            .map(|chain| chain.as_str().to_owned())
            .unwrap_or_default();
        lite_core::blocking(move || store_and_fill(&engine, record, &parent)).await
    };
    match made {
        Ok(complete) => record = complete,
        Err(err) => {
            undo(engine, id.as_str()).await;
            return Err(err);
        }
    }
    engine.emit(Event::of_container(&record, "create"));
    engine.enter_new(reservation, record);
    Ok(Created {
        id: id.as_str().to_owned(),
        warnings,
    })
}

async fn undo(engine: &Engine, id: &str) {
    if let Err(undo) = launch::remove_all(engine, id, Vec::new()).await {
        tracing::warn!(container_id = id, error = %chain(&undo), "undo create");
    }
}

/// Checks what is asked of the host, and returns what the user should know.
fn check_host(engine: &Engine, host: &HostConfig) -> Result<Vec<String>> {
    // NotFound is about the image alone: a client pulls it then.
    let warnings = limits::check(&host.resources, engine.host().capacity)?;
    devices::check(&host.resources)?;
    Rights::of(host, engine.host().last_capability)?;
    check_words(host)?;
    not_about_the_image(networks::check(engine, host))?;
    Ok(warnings)
}

/// What can only be one of a few words.
fn check_words(host: &HostConfig) -> Result<()> {
    let invalid = |text: String| Err(Kind::InvalidArgument.error(text));
    match host.log_driver.as_str() {
        "" | "json-file" | "local" | "none" => {}
        other => {
            return invalid(format!(
                "logger: no log driver named '{other}' is registered: use json-file, local or none"
            ));
        }
    }
    let joins = |mode: &str| mode.starts_with("container:");
    let known = [
        (
            "PID",
            &host.pid,
            host.pid.is_empty() || host.pid == "host" || joins(&host.pid),
        ),
        (
            "IPC",
            &host.ipc,
            matches!(host.ipc.as_str(), "" | "private" | "none" | "host"),
        ),
        ("UTS", &host.uts, matches!(host.uts.as_str(), "" | "host")),
        (
            "user namespace",
            &host.userns,
            matches!(host.userns.as_str(), "" | "host"),
        ),
        (
            "cgroup namespace",
            &host.cgroupns,
            matches!(host.cgroupns.as_str(), "" | "private" | "host"),
        ),
    ];
    for (what, mode, good) in known {
        if !good {
            return invalid(format!("invalid {what} mode: {mode}"));
        }
    }
    Ok(())
}

/// Something else that was named and is not there is the request's fault.
fn not_about_the_image<T>(found: Result<T>) -> Result<T> {
    found.map_err(|err| match err.kind() {
        Kind::NotFound => Kind::InvalidArgument.error(chain(&err)),
        _ => err,
    })
}

/// The mounts of the containers that `--volumes-from` names.
fn inherited(engine: &Engine, host: &HostConfig) -> Result<Vec<MountPoint>> {
    let mut all: Vec<MountPoint> = Vec::new();
    for text in &host.volumes_from {
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        let record = not_about_the_image(engine.find(container))?.record();
        for mount in mounts::inherit(&record.mounts, mode)? {
            all.retain(|other| other.destination != mount.destination);
            all.push(mount);
        }
    }
    Ok(all)
}

fn check(request: &CreateContainer) -> Result<()> {
    let invalid = |text: String| Err(Kind::InvalidArgument.error(text));
    if let Some(bad) = request
        .env
        .iter()
        .find(|entry| entry.is_empty() || entry.starts_with('='))
    {
        return invalid(format!("invalid environment variable: {bad}"));
    }
    if !request.workdir.is_empty() && !request.workdir.starts_with('/') {
        return invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            request.workdir
        ));
    }
    if !request.stop_signal.is_empty() {
        Signal::parse(&request.stop_signal)
            .map_err(|err| Kind::InvalidArgument.error(err.to_string()))?;
    }
    // What the kernel takes: sethostname(2).
    if request.hostname.len() > 64 {
        return invalid(format!(
            "invalid hostname {:?}: longer than 64 bytes",
            request.hostname
        ));
    }
    Ok(())
}

/// The configuration that holds: the user's over the image's.
fn config(
    request: &CreateContainer,
    found: &Found,
    id: &Id,
    default_runtime: &str,
) -> Result<Config> {
    let image = found
        .resolved
        .image_config
        .config()
        .clone()
        .unwrap_or_default();
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let or = |own: &str, other: &Option<String>| {
        given(own).or_else(|| other.clone()).unwrap_or_default()
    };
    let argv = Argv::merge(
        &Argv {
            entrypoint: Some(request.entrypoint.clone()),
            command: Some(request.command.clone()),
        },
        &Argv {
            entrypoint: image.entrypoint().clone(),
            command: image.cmd().clone(),
        },
    );
    if argv.line().is_empty() {
        return Err(Kind::InvalidArgument.error("no command specified"));
    }
    let mut labels: BTreeMap<_, _> = image
        .labels()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(request.labels.clone());
    Ok(Config {
        hostname: given(&request.hostname).unwrap_or_else(|| id.short().to_owned()),
        user: or(&request.user, image.user()),
        tty: request.tty,
        open_stdin: request.stdin,
        stdin_once: request.stdin_once,
        env: environment::merge(&request.env, image.env().as_deref().unwrap_or_default()),
        cmd: argv.command,
        entrypoint: argv.entrypoint,
        workdir: or(&request.workdir, image.working_dir()),
        labels,
        volumes: image.volumes().clone().unwrap_or_default(),
        exposed_ports: exposed(image.exposed_ports().clone().unwrap_or_default(), request)?,
        stop_signal: given(&request.stop_signal).or_else(|| image.stop_signal().clone()),
        stop_timeout_s: request.stop_timeout_s,
        auto_remove: request.auto_remove,
        runtime: given(&request.runtime).unwrap_or_else(|| default_runtime.to_owned()),
        domainname: request.domainname.clone(),
        health: None,
    })
}

/// The image's ports, the user's and those that are published, each once.
fn exposed(mut ports: Vec<String>, request: &CreateContainer) -> Result<Vec<String>> {
    let mut own = Vec::new();
    for text in &request.expose {
        own.extend(ports::expose(text)?);
    }
    for text in &request.host.publish {
        own.extend(ports::publish(text)?.iter().map(|binding| binding.port));
    }
    for port in own.iter().map(ToString::to_string) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    Ok(ports)
}

fn image_use(typed: &str, found: &Found) -> ImageUse {
    let manifest = &found.resolved.manifest;
    ImageUse {
        typed: typed.to_owned(),
        reference: found.image.name.clone(),
        id: found.resolved.config.digest.as_str().to_owned(),
        platform_os: found.resolved.image_config.os().to_string(),
        manifest: Some(Manifest {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest.as_str().to_owned(),
            size: manifest.size,
        }),
    }
}

/// Stores the intent, makes what the container consists of, and stores that
/// it is complete. Returns the record with its mounts' sources.
fn store_and_fill(engine: &Engine, mut record: Record, parent: &str) -> Result<Record> {
    let (core, ns, id) = (engine.core(), engine.ns(), record.id.clone());
    let name_label = ("engine.v1/name".to_owned(), record.name.clone());
    let container = Container {
        id: id.clone(),
        labels: [name_label].into(),
        image: record.image.reference.clone(),
        runtime: Runtime {
            name: record.config.runtime.clone(),
            options: None,
        },
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: id.clone(),
        extensions: [(EXTENSION.to_owned(), extension_of(&record)?)].into(),
        ..Container::default()
    };
    core.containers.create(ns, container)?;
    engine
        .dir(&id)
        .create()
        .op(|| format!("create directory of container {id}"))?;
    core.snapshots
        .prepare(ns, SNAPSHOTTER, &id, parent, &Labels::new())?;
    // Volumes that were made in vain are taken back: nobody has their names.
    let mut made = Vec::new();
    let attached = volumes::attach(engine, &id, &mut record.mounts, &mut made);
    record.phase = Phase::Created;
    let stored = attached.and_then(|()| engine.store(&record, None));
    if let Err(err) = stored {
        if let Err(undo) = volumes::remove_unused(engine, &id, &made) {
            tracing::warn!(container_id = id, error = %chain(&undo), "undo volumes");
        }
        return Err(err);
    }
    Ok(record)
}
