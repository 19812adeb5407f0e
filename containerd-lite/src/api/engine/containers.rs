//! Containers: create, list, inspect, wait, logs.

use std::time::SystemTime;

use engine::Engine;
use engine::commit::Commit;
use engine::create::CreateContainer;
use engine::jsonlog::{Entry, Stream};
use engine::logs::Span;
use engine::record::Record;
use engine::state::Phase;
use futures_util::{StreamExt, stream};
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;
use tokio_stream::wrappers::ReceiverStream;

use super::Messages;
use super::events::moment;
use super::host_config::{health, host_config, resources, restart};
use super::images::signed;
use crate::api::status::to_status;

pub(super) async fn create(
    engine: &Engine,
    request: wire::CreateContainerRequest,
) -> Result<wire::CreateContainerResponse> {
    let request = CreateContainer {
        name: request.name,
        image: request.image,
        command: request.command,
        entrypoint: request.entrypoint,
        env: request.env,
        workdir: request.workdir,
        user: request.user,
        hostname: request.hostname,
        tty: request.tty,
        stdin: request.stdin,
        stdin_once: request.stdin_once,
        auto_remove: request.auto_remove,
        labels: request.labels.into_iter().collect(),
        runtime: request.runtime,
        stop_signal: request.stop_signal,
        stop_timeout_s: request.stop_timeout_s,
        host: host_config(request.host.unwrap_or_default())?,
        health: request.health.map(health),
        expose: request.expose,
        domainname: request.domainname,
    };
    let created = engine::create::create(engine, request).await?;
    Ok(wire::CreateContainerResponse {
        id: created.id,
        warnings: created.warnings,
    })
}

pub(super) async fn list(
    engine: &Engine,
    request: wire::ListContainersRequest,
) -> Result<wire::ListContainersResponse> {
    let now = SystemTime::now();
    let mut containers = Vec::new();
    for record in engine::list::list(engine, request.all, &request.filters)? {
        let mut row = summary(engine, &record, now);
        if request.size {
            let sizes = engine::list::sizes(engine, record).await?;
            row.size_rw_bytes = signed(sizes.own);
            row.size_root_bytes = signed(sizes.root);
        }
        containers.push(row);
    }
    Ok(wire::ListContainersResponse { containers })
}

fn summary(engine: &Engine, record: &Record, now: SystemTime) -> wire::ContainerSummary {
    let mounts = engine::list::mount_names(record);
    let volumes = record.mounts.iter().filter(|mount| !mount.name.is_empty());
    wire::ContainerSummary {
        local_volumes: i32::try_from(volumes.count()).unwrap_or(i32::MAX),
        mounts,
        ports: engine::list::ports(engine, record),
        networks: engine::list::network_names(engine, record),
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.image.typed.clone(),
        argv: record.config.argv(),
        created: record.created_at.map(prost_types::Timestamp::from),
        state: state(record).into(),
        status: engine::status::words(record, now),
        labels: record.config.labels.clone().into_iter().collect(),
        ..wire::ContainerSummary::default()
    }
}

fn state(record: &Record) -> wire::ContainerState {
    match record.phase {
        Phase::Running if record.run.paused => wire::ContainerState::Paused,
        Phase::Exited if record.run.restarting => wire::ContainerState::Restarting,
        Phase::Creating | Phase::Created => wire::ContainerState::Created,
        Phase::Running => wire::ContainerState::Running,
        Phase::Exited => wire::ContainerState::Exited,
        Phase::Removing => wire::ContainerState::Removing,
        Phase::Dead => wire::ContainerState::Dead,
    }
}

pub(super) async fn update(
    engine: &Engine,
    request: wire::UpdateContainerRequest,
) -> Result<wire::UpdateContainerResponse> {
    let change = resources(request.resources.unwrap_or_default())?;
    let policy = match request.restart.as_str() {
        "" => None,
        typed => Some(restart(typed)?),
    };
    let warnings = engine::update::update(engine, &request.container, change, policy).await?;
    Ok(wire::UpdateContainerResponse { warnings })
}

pub(super) async fn commit(
    engine: &Engine,
    request: wire::CommitContainerRequest,
) -> Result<wire::CommitContainerResponse> {
    let request = Commit {
        container: request.container,
        reference: request.reference,
        author: request.author,
        message: request.message,
        changes: request.changes,
        pause: !request.no_pause,
    };
    let id = engine::commit::commit(engine, request).await?;
    Ok(wire::CommitContainerResponse { id })
}

pub(super) async fn top(
    engine: &Engine,
    request: wire::TopContainerRequest,
) -> Result<wire::TopContainerResponse> {
    let table = engine::top::top(engine, &request.container, &request.ps_args).await?;
    let rows = table.rows.into_iter();
    Ok(wire::TopContainerResponse {
        titles: table.titles,
        rows: rows
            .map(|cells| wire::top_container_response::Row { cells })
            .collect(),
    })
}

pub(super) async fn stats(engine: &Engine, container: &str) -> Result<wire::StatsResponse> {
    let stats = engine::stats::stats(engine, container).await?;
    Ok(wire::StatsResponse {
        id: stats.id,
        name: stats.name,
        cpu_ns: stats.cpu_ns,
        system_ns: stats.system_ns,
        cpus: stats.cpus,
        memory_bytes: stats.memory,
        memory_limit_bytes: stats.memory_limit,
        pids: stats.pids,
        block_read_bytes: stats.block_read,
        block_write_bytes: stats.block_write,
        network_rx_bytes: stats.network_rx,
        network_tx_bytes: stats.network_tx,
        running: stats.running,
    })
}

pub(super) async fn inspect(
    engine: &Engine,
    request: wire::InspectContainerRequest,
) -> Result<wire::InspectResponse> {
    let object =
        engine::inspect::inspect_container(engine, &request.container, request.size).await?;
    Ok(wire::InspectResponse {
        json: object.to_string(),
    })
}

pub(super) async fn wait(engine: &Engine, container: &str) -> Result<wire::WaitContainerResponse> {
    let waited = engine::wait::wait(engine, container).await?;
    Ok(wire::WaitContainerResponse {
        exit_code: waited.exit_code,
        error: waited.error,
    })
}

pub(super) async fn logs(
    engine: &Engine,
    request: wire::ReadLogsRequest,
) -> Result<Messages<wire::LogEntry>> {
    let tail = match request.tail {
        // Docker's clients say -1 for "all".
        None | Some(-1) => None,
        Some(lines) => Some(u64::try_from(lines).map_err(|_| {
            Kind::InvalidArgument.error(format!("tail {lines}: expected a number of lines"))
        })?),
    };
    let span = Span {
        since: moment(request.since)?,
        until: moment(request.until)?,
    };
    let batches =
        engine::logs::logs(engine, &request.container, request.follow, tail, span).await?;
    let entries = ReceiverStream::new(batches).flat_map(|batch| match batch {
        Ok(entries) => stream::iter(
            entries
                .into_iter()
                .map(|e| Ok(entry(e)))
                .collect::<Vec<_>>(),
        ),
        Err(err) => stream::iter(vec![Err(to_status(err))]),
    });
    Ok(Box::pin(entries))
}

fn entry(entry: Entry) -> wire::LogEntry {
    let stream = match entry.stream {
        Stream::Stdout => wire::Stream::Stdout,
        Stream::Stderr => wire::Stream::Stderr,
    };
    wire::LogEntry {
        time: Some(entry.time.into()),
        stream: stream.into(),
        data: entry.data.into(),
    }
}
