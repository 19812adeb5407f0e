//! `ctl inspect`: objects as JSON, in one array.

use proto::engine::v1::{InspectContainerRequest, InspectImageRequest};

use super::DONE;
use crate::cli::container::InspectContainerArgs;
use crate::cli::image::InspectImageArgs;
use crate::cli::system::InspectArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::json;

/// Where a name is looked for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Container,
    Image,
    /// Among containers, then among images.
    Any,
}

/// `ctl inspect`: what is found is printed, then what is not is reported.
pub(crate) async fn run(client: &mut Engine, args: &InspectArgs) -> Result<u8, Failure> {
    let kind = match args.kind.as_deref() {
        None | Some("") => Kind::Any,
        Some("container") => Kind::Container,
        Some("image") => Kind::Image,
        Some(other) => {
            return Err(Failure::Client(format!(
                "unknown type: \"{other}\": must be one of \"container\", \"image\""
            )));
        }
    };
    inspect(client, kind, &args.objects).await
}

/// `ctl container inspect`.
pub(crate) async fn containers(
    client: &mut Engine,
    args: &InspectContainerArgs,
) -> Result<u8, Failure> {
    inspect(client, Kind::Container, &args.containers).await
}

/// `ctl image inspect`.
pub(crate) async fn images(client: &mut Engine, args: &InspectImageArgs) -> Result<u8, Failure> {
    inspect(client, Kind::Image, &args.images).await
}

async fn inspect(client: &mut Engine, kind: Kind, names: &[String]) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match find(client, kind, name).await {
            Ok(json) => found.push(json),
            Err(failure) => failures.push(failure),
        }
    }
    out::text(&json::array(&found))?;
    failures.iter().for_each(out::report);
    if failures.is_empty() {
        Ok(DONE)
    } else {
        Err(Failure::Reported)
    }
}

async fn find(client: &mut Engine, kind: Kind, name: &str) -> Result<String, Failure> {
    if let Kind::Container | Kind::Any = kind {
        let request = InspectContainerRequest {
            container: name.to_owned(),
        };
        match (
            client
                .inspect_container(request)
                .await
                .map_err(Failure::from),
            kind,
        ) {
            (Err(failure), Kind::Any) if failure.is_not_found() => {}
            (answer, _) => return Ok(answer?.into_inner().json),
        }
    }
    let request = InspectImageRequest {
        image: name.to_owned(),
    };
    match (
        client.inspect_image(request).await.map_err(Failure::from),
        kind,
    ) {
        (Err(failure), Kind::Any) if failure.is_not_found() => {
            Err(Failure::Client(format!("no such object: {name}")))
        }
        (answer, _) => Ok(answer?.into_inner().json),
    }
}
