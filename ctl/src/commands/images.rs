//! `ctl images`: a table of images, one row a name.

use proto::engine::v1::{ImageSummary, ListImagesRequest};

use super::DONE;
use crate::cli::image::ImagesArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::names::short_id;
use crate::render::quantity::size;
use crate::render::table::table;
use crate::render::time::{ago, now};

/// Runs the command. `-q` prints an image with several names once for each,
/// as Docker does.
pub(crate) async fn run(client: &mut Engine, args: &ImagesArgs) -> Result<u8, Failure> {
    let request = ListImagesRequest {
        all: args.all,
        reference: args.reference.clone().unwrap_or_default(),
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
    out::text(&render(&images, args.digests, args.no_trunc, now()))?;
    Ok(DONE)
}

fn render(images: &[ImageSummary], digests: bool, whole: bool, now: i64) -> String {
    let mut heading = vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    if !digests {
        heading.remove(2);
    }
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let id = if whole {
                &image.id
            } else {
                short_id(&image.id)
            };
            let mut row = vec![or_none(&image.repository), or_none(&image.tag)];
            if digests {
                row.push(or_none(&image.digest));
            }
            row.extend([
                id.to_owned(),
                ago(image.created.as_ref(), now),
                size(image.size_bytes),
            ]);
            row
        })
        .collect();
    table(&heading, &rows)
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
        assert_eq!(
            render(&images, false, false, 0),
            "REPOSITORY   TAG       IMAGE ID       CREATED   SIZE\n\
             busybox      latest    0123456789ab   N/A       4.26MB\n"
        );
        assert!(render(&images, true, false, 0).contains("   sha256:ff   0123456789ab"));
        assert_eq!(
            render(&[], false, false, 0),
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
        );
    }
}
