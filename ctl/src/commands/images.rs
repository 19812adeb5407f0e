//! `ctl images`: a table of images, one row a name.

use proto::engine::v1::{ImageSummary, ListImagesRequest};
use serde_json::{Value, json};

use super::DONE;
use crate::cli::image::ImagesArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};
use crate::render::names::short_id;
use crate::render::quantity::size;
use crate::render::time::{ago, now, stamp};

/// Runs the command. `-q` prints an image with several names once for each,
/// as Docker does.
pub(crate) async fn run(client: &mut Engine, args: &ImagesArgs) -> Result<u8, Failure> {
    let request = ListImagesRequest {
        all: args.all,
        reference: args.reference.clone().unwrap_or_default(),
        filters: args.filter.clone(),
    };
    let images = client.list_images(request).await?.into_inner().images;
    if args.quiet {
        for image in &images {
            out::line(if args.no_trunc {
                &image.id
            } else {
                short_id(&image.id)
            })?;
        }
        return Ok(DONE);
    }
    let rows: Vec<Value> = images
        .iter()
        .map(|image| row(image, args.no_trunc, now()))
        .collect();
    let shown: &[&str] = if args.digests { &WITH_DIGESTS } else { &SHOWN };
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        shown,
        &rows,
    )?)?;
    Ok(DONE)
}

const COLUMNS: Columns = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const SHOWN: [&str; 5] = ["Repository", "Tag", "ID", "CreatedSince", "Size"];
const WITH_DIGESTS: [&str; 6] = ["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];

fn row(image: &ImageSummary, whole: bool, now: i64) -> Value {
    let id = if whole {
        &image.id
    } else {
        short_id(&image.id)
    };
    json!({
        "Repository": or_none(&image.repository),
        "Tag": or_none(&image.tag),
        "Digest": or_none(&image.digest),
        "ID": id,
        "CreatedSince": ago(image.created.as_ref(), now),
        "CreatedAt": image.created.as_ref().map(stamp).unwrap_or_default(),
        "Size": size(image.size_bytes),
        "VirtualSize": size(image.size_bytes),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    })
}

fn or_none(text: &str) -> String {
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_dockers() {
        let image = ImageSummary {
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            repository: "busybox".to_owned(),
            tag: "latest".to_owned(),
            digest: "sha256:ff".to_owned(),
            created: None,
            size_bytes: 4_261_550,
        };
        let images = [image];
        let show = |images: &[ImageSummary], shown: &[&str]| {
            let rows: Vec<Value> = images.iter().map(|image| row(image, false, 0)).collect();
            format::rows(None, COLUMNS, shown, &rows).unwrap()
        };
        assert_eq!(
            show(&images, &SHOWN),
            "REPOSITORY   TAG       IMAGE ID       CREATED   SIZE\n\
             busybox      latest    0123456789ab   N/A       4.26MB\n"
        );
        assert!(show(&images, &WITH_DIGESTS).contains("   sha256:ff   0123456789ab"));
        assert_eq!(
            show(&[], &SHOWN),
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
        );
    }
}
