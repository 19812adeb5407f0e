//! `ctl ps`: a table of containers, newest first.

use proto::engine::v1::{ContainerState, ContainerSummary, ListContainersRequest};
use serde_json::{Value, json};

use super::DONE;
use crate::cli::container::PsArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};
use crate::render::names::{command, ellipsis, short_id};
use crate::render::quantity::size;
use crate::render::time::{ago, now, stamp};

const COLUMNS: Columns = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Platform", "PLATFORM"),
];

const SHOWN: [&str; 8] = [
    "ID",
    "Image",
    "Command",
    "RunningFor",
    "Status",
    "Ports",
    "Names",
    "Size",
];

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &PsArgs) -> Result<u8, Failure> {
    let last = if args.latest { Some(1) } else { args.last }.and_then(|n| usize::try_from(n).ok());
    let last = last.filter(|&n| n > 0);
    let wants_size = args
        .format
        .as_deref()
        .is_some_and(|format| format.contains(".Size"));
    let request = ListContainersRequest {
        all: args.all || last.is_some(),
        filters: args.filter.clone(),
        size: args.size || wants_size,
    };
    let mut containers = client
        .list_containers(request)
        .await?
        .into_inner()
        .containers;
    containers.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        for container in &containers {
            out::line(if args.no_trunc {
                &container.id
            } else {
                short_id(&container.id)
            })?;
        }
        return Ok(DONE);
    }
    let now = now();
    let rows: Vec<_> = containers
        .iter()
        .map(|c| row(c, args.no_trunc, now))
        .collect();
    let shown = if args.size { &SHOWN[..] } else { &SHOWN[..7] };
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        shown,
        &rows,
    )?)?;
    Ok(DONE)
}

fn row(container: &ContainerSummary, whole: bool, now: i64) -> Value {
    let id = if whole {
        &container.id
    } else {
        short_id(&container.id)
    };
    let mut labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if whole {
                mount.clone()
            } else {
                ellipsis(mount, 15)
            }
        })
        .collect();
    json!({
        "ID": id,
        "Image": container.image,
        "Command": command(&container.argv, whole),
        "RunningFor": ago(container.created.as_ref(), now),
        "CreatedAt": container.created.as_ref().map(stamp).unwrap_or_default(),
        "Status": container.status,
        "State": state(container.state()),
        "Ports": container.ports,
        "Names": container.name,
        "Size": format!(
            "{} (virtual {})",
            size(container.size_rw_bytes),
            size(container.size_root_bytes)
        ),
        "Labels": labels.join(","),
        "LabelMap": container.labels,
        "Mounts": mounts.join(","),
        "Networks": container.networks.join(","),
        "LocalVolumes": container.local_volumes.to_string(),
        "Platform": null,
    })
}

fn state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Unspecified => "",
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::Restarting => "restarting",
        ContainerState::Removing => "removing",
        ContainerState::Exited => "exited",
        ContainerState::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dockers() {
        let container = ContainerSummary {
            id: "0123456789abcdef".repeat(4),
            name: "web".to_owned(),
            image: "busybox".to_owned(),
            argv: vec!["sh".into(), "-c".into(), "while true; do date; done".into()],
            created: Some(prost_types::Timestamp {
                seconds: 100,
                nanos: 0,
            }),
            status: "Up 3 minutes".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            format::rows(None, COLUMNS, &SHOWN[..7], &[row(&container, false, 300)]).unwrap(),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS     NAMES\n\
             0123456789ab   busybox   \"sh -c 'while true; …\"   3 minutes ago   Up 3 minutes             web\n"
        );
    }
}
