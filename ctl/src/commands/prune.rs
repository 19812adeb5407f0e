//! What all prunes share, and `ctl container prune`.

use std::io::{BufRead, stdin};

use proto::engine::v1::{PruneRequest, PruneResponse};

use super::DONE;
use crate::cli::change::PruneContainersArgs;
use crate::cli::files::PruneImagesArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::quantity::size;

/// Shows a warning and asks; without an answer nothing is removed.
pub(super) fn confirmed(warning: &str) -> Result<bool, Failure> {
    out::text(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|err| Failure::io("read the answer", &err))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Prints what is gone, and how much room it took.
pub(super) fn told(heading: &str, pruned: &PruneResponse) -> Result<(), Failure> {
    listed(heading, pruned)?;
    reclaimed(pruned.reclaimed_bytes)
}

/// Prints what is gone, under a heading where there is anything.
pub(super) fn listed(heading: &str, pruned: &PruneResponse) -> Result<(), Failure> {
    if !pruned.removed.is_empty() {
        out::line(&format!("{heading}:"))?;
        for name in &pruned.removed {
            out::line(name)?;
        }
        out::text("\n")?;
    }
    Ok(())
}

/// The last line of every prune.
pub(super) fn reclaimed(bytes: u64) -> Result<(), Failure> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    out::line(&format!("Total reclaimed space: {}", size(bytes)))
}

/// `ctl image prune`.
pub(crate) async fn images(client: &mut Engine, args: &PruneImagesArgs) -> Result<u8, Failure> {
    let warning = match args.all {
        true => {
            "WARNING! This will remove all images without at least one container associated to them."
        }
        false => "WARNING! This will remove all dangling images.",
    };
    if !args.force && !confirmed(warning)? {
        return Ok(DONE);
    }
    let request = PruneRequest {
        all: args.all,
        filters: args.filter.clone(),
    };
    let pruned = client.prune_images(request).await?.into_inner();
    told("Deleted Images", &pruned)?;
    Ok(DONE)
}

/// `ctl container prune`.
pub(crate) async fn containers(
    client: &mut Engine,
    args: &PruneContainersArgs,
) -> Result<u8, Failure> {
    if !args.force && !confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(DONE);
    }
    let request = PruneRequest {
        all: false,
        filters: args.filter.clone(),
    };
    let pruned = client.prune_containers(request).await?.into_inner();
    told("Deleted Containers", &pruned)?;
    Ok(DONE)
}
