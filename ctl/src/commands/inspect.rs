//! `ctl inspect`: objects as JSON, in one array.

use proto::engine::v1::{
    InspectContainerRequest, InspectImageRequest, NetworkRequest, VolumeRequest,
};

use super::DONE;
use crate::cli::container::InspectContainerArgs;
use crate::cli::image::InspectImageArgs;
use crate::cli::system::InspectArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::{json, template};

/// Where a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Volume,
    Network,
}

/// In the order in which a name without a type is looked for.
const ANY: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

/// `ctl inspect`: what is found is printed, then what is not is reported.
pub(crate) async fn run(client: &mut Engine, args: &InspectArgs) -> Result<u8, Failure> {
    let kinds: &[Kind] = match args.kind.as_deref() {
        None | Some("") => &ANY,
        Some("container") => &[Kind::Container],
        Some("image") => &[Kind::Image],
        Some("volume") => &[Kind::Volume],
        Some("network") => &[Kind::Network],
        Some(other) => {
            return Err(Failure::Client(format!(
                "unknown type: \"{other}\": must be one of \"container\", \"image\", \"network\", \"volume\""
            )));
        }
    };
    let wanted = Wanted {
        kinds,
        format: args.format.as_deref(),
        size: args.size,
    };
    inspect(client, wanted, &args.objects).await
}

/// `ctl container inspect`.
pub(crate) async fn containers(
    client: &mut Engine,
    args: &InspectContainerArgs,
) -> Result<u8, Failure> {
    let wanted = Wanted {
        kinds: &[Kind::Container],
        format: args.format.as_deref(),
        size: args.size,
    };
    inspect(client, wanted, &args.containers).await
}

/// `ctl image inspect`.
pub(crate) async fn images(client: &mut Engine, args: &InspectImageArgs) -> Result<u8, Failure> {
    let wanted = Wanted {
        kinds: &[Kind::Image],
        format: args.format.as_deref(),
        size: false,
    };
    inspect(client, wanted, &args.images).await
}

/// Where to look, and how to show it.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    kinds: &'a [Kind],
    format: Option<&'a str>,
    size: bool,
}

async fn inspect(client: &mut Engine, wanted: Wanted<'_>, names: &[String]) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match find(client, wanted, name).await {
            Ok(json) => found.push(json),
            Err(failure) => failures.push(failure),
        }
    }
    print(wanted.format, &found, &failures)
}

/// Prints the objects in the format that was typed, then what was not found.
pub(super) fn print(
    format: Option<&str>,
    found: &[String],
    failures: &[Failure],
) -> Result<u8, Failure> {
    match format {
        None | Some("") => out::text(&json::array(found))?,
        Some("json") => {
            for json in found {
                out::text(&format!("{json}\n"))?;
            }
        }
        Some(format) => {
            let template = template::parse(format)?;
            for json in found {
                out::text(&format!("{}\n", template.render(&read(json)?)?))?;
            }
        }
    }
    failures.iter().for_each(out::report);
    if failures.is_empty() {
        Ok(DONE)
    } else {
        Err(Failure::Reported)
    }
}

/// What the daemon has written as JSON.
pub(super) fn read(json: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(json)
        .map_err(|err| Failure::Client(format!("read the daemon's JSON: {err}")))
}

async fn find(client: &mut Engine, wanted: Wanted<'_>, name: &str) -> Result<String, Failure> {
    for kind in wanted.kinds {
        let answer = look(client, *kind, wanted.size, name).await;
        match answer {
            Err(failure) if failure.is_not_found() && wanted.kinds.len() > 1 => {}
            answer => return answer,
        }
    }
    Err(Failure::Client(format!("no such object: {name}")))
}

async fn look(client: &mut Engine, kind: Kind, size: bool, name: &str) -> Result<String, Failure> {
    let name = name.to_owned();
    let answer = match kind {
        Kind::Container => {
            let request = InspectContainerRequest {
                container: name,
                size,
            };
            client.inspect_container(request).await?
        }
        Kind::Image => {
            client
                .inspect_image(InspectImageRequest { image: name })
                .await?
        }
        Kind::Network => {
            client
                .inspect_network(NetworkRequest { network: name })
                .await?
        }
        Kind::Volume => {
            let request = VolumeRequest {
                volume: name,
                force: false,
            };
            client.inspect_volume(request).await?
        }
    };
    Ok(answer.into_inner().json)
}
