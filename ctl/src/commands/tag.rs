//! Names and history of images.

use proto::engine::v1::{InspectImageRequest, TagImageRequest};
use serde_json::{Value, json};

use super::{DONE, inspect};
use crate::cli::image::{HistoryArgs, TagArgs};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};
use crate::render::names::{ellipsis, short_id};
use crate::render::quantity::size;
use crate::render::time::{ago, now, rfc3339};

/// `ctl tag`: prints nothing.
pub(crate) async fn run(client: &mut Engine, args: &TagArgs) -> Result<u8, Failure> {
    let request = TagImageRequest {
        source: args.source.clone(),
        target: args.target.clone(),
    };
    client.tag_image(request).await?;
    Ok(DONE)
}

const COLUMNS: Columns = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Columns of a shortened step.
const SHORT_STEP: usize = 45;

/// `ctl history`: the steps of an image, newest first.
pub(crate) async fn history(client: &mut Engine, args: &HistoryArgs) -> Result<u8, Failure> {
    let request = InspectImageRequest {
        image: args.image.clone(),
    };
    let answer = client.image_history(request).await?.into_inner();
    let steps = inspect::read(&answer.json)?;
    let rows: Vec<Value> = steps
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| row(step, args))
        .collect();
    if args.quiet {
        for row in &rows {
            out::line(row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(DONE);
    }
    let since = if args.human.unwrap_or(true) {
        "CreatedSince"
    } else {
        "CreatedAt"
    };
    let shown = ["ID", since, "CreatedBy", "Size", "Comment"];
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        &shown,
        &rows,
    )?)?;
    Ok(DONE)
}

fn row(step: &Value, args: &HistoryArgs) -> Value {
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let created = prost_types::Timestamp {
        seconds: step["Created"].as_i64().unwrap_or_default(),
        nanos: 0,
    };
    let bytes = step["Size"].as_i64().unwrap_or_default();
    let (id, by) = (text("Id"), text("CreatedBy").replace('\t', " "));
    json!({
        "ID": if args.no_trunc || id.starts_with('<') { id } else { short_id(&id).to_owned() },
        // A step that says nothing of its time is not of 1970.
        "CreatedSince": ago(Some(&created).filter(|time| time.seconds != 0), now()),
        "CreatedAt": rfc3339(&created),
        "CreatedBy": if args.no_trunc { by } else { ellipsis(&by, SHORT_STEP) },
        "Size": if args.human.unwrap_or(true) { size(bytes) } else { bytes.to_string() },
        "Comment": text("Comment"),
    })
}
