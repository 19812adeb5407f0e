//! Containers: create, list, inspect, wait, logs.

use std::time::SystemTime;

use engine::Engine;
use engine::create::CreateContainer;
use engine::jsonlog::{Entry, Stream};
use engine::record::Record;
use engine::state::Phase;
use futures_util::{StreamExt, stream};
use lite_core::{Kind, Result};
use proto::engine::v1 as wire;
use tokio_stream::wrappers::ReceiverStream;

use super::Messages;
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
    };
    let created = engine::create::create(engine, request).await?;
    Ok(wire::CreateContainerResponse {
        id: created.id,
        warnings: created.warnings,
    })
}

pub(super) fn list(
    engine: &Engine,
    request: wire::ListContainersRequest,
) -> wire::ListContainersResponse {
    let now = SystemTime::now();
    let containers = engine::list::list(engine, request.all)
        .iter()
        .map(|record| summary(record, now))
        .collect();
    wire::ListContainersResponse { containers }
}

fn summary(record: &Record, now: SystemTime) -> wire::ContainerSummary {
    wire::ContainerSummary {
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.image.typed.clone(),
        argv: record.config.argv(),
        created: record.created_at.map(prost_types::Timestamp::from),
        state: state(record.phase).into(),
        status: engine::status::words(record, now),
        labels: record.config.labels.clone().into_iter().collect(),
    }
}

fn state(phase: Phase) -> wire::ContainerState {
    match phase {
        Phase::Creating | Phase::Created => wire::ContainerState::Created,
        Phase::Running => wire::ContainerState::Running,
        Phase::Exited => wire::ContainerState::Exited,
        Phase::Removing => wire::ContainerState::Removing,
        Phase::Dead => wire::ContainerState::Dead,
    }
}

pub(super) fn inspect(engine: &Engine, container: &str) -> Result<wire::InspectResponse> {
    let json = engine::inspect::inspect_container(engine, container)?.to_string();
    Ok(wire::InspectResponse { json })
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
    let batches = engine::logs::logs(engine, &request.container, request.follow, tail).await?;
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
