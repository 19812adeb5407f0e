//! `ctl ps`: a table of containers, newest first.

use proto::engine::v1::{ContainerSummary, ListContainersRequest};

use super::DONE;
use crate::cli::container::PsArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::names::{command, short_id};
use crate::render::table::table;
use crate::render::time::{ago, now};

const HEADING: [&str; 7] = [
    "CONTAINER ID",
    "IMAGE",
    "COMMAND",
    "CREATED",
    "STATUS",
    "PORTS",
    "NAMES",
];

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &PsArgs) -> Result<u8, Failure> {
    let last = if args.latest { Some(1) } else { args.last }.and_then(|n| usize::try_from(n).ok());
    let last = last.filter(|&n| n > 0);
    let request = ListContainersRequest {
        all: args.all || last.is_some(),
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
    out::text(&table(&HEADING, &rows))?;
    Ok(DONE)
}

fn row(container: &ContainerSummary, whole: bool, now: i64) -> Vec<String> {
    let id = if whole {
        &container.id
    } else {
        short_id(&container.id)
    };
    vec![
        id.to_owned(),
        container.image.clone(),
        command(&container.argv, whole),
        ago(container.created.as_ref(), now),
        container.status.clone(),
        String::new(),
        container.name.clone(),
    ]
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
            table(&HEADING, &[row(&container, false, 300)]),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS     NAMES\n\
             0123456789ab   busybox   \"sh -c 'while true; …\"   3 minutes ago   Up 3 minutes             web\n"
        );
    }
}
