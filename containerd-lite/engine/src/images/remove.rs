//! Removes images by Docker's rules: a reference is untagged, an id takes all
//! its names with it, and what containers use is protected. What nothing
//! refers to afterwards is collected.

use std::collections::BTreeSet;
use std::sync::Arc;

use lite_core::{Error, Image, Kind, Result};

use super::{Found, by_id, by_reference, catalog, no_such_image, short};
use crate::engine::Engine;
use crate::list;
use crate::record::Record;
use crate::state::Phase;
use lite_core::ids::SHORT_DIGITS;

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Familiar references that are gone.
    pub untagged: Vec<String>,
    /// Ids of images that are gone.
    pub deleted: Vec<String>,
}

/// Removes what `image` names.
///
/// # Errors
/// NotFound; FailedPrecondition when something uses the image, with Docker's
/// words; those of storage.
pub async fn remove_image(engine: &Engine, image: &str, force: bool) -> Result<Removed> {
    let (engine, typed) = (engine.clone(), image.to_owned());
    lite_core::blocking(move || {
        let names = catalog(&engine)?;
        let doomed = match by_reference(&engine, &typed)? {
            Some(image) => vec![one_name(&engine, &names, &typed, image, force)?],
            None => all_names(&engine, &typed, force)?,
        };
        let mut removed = Removed::default();
        for image in &doomed {
            engine.core().images.delete(engine.ns(), &image.name)?;
            removed.untagged.push(familiar(&image.name));
        }
        removed.deleted = without_name(&engine, &names, &doomed);
        lite_core::gc::collect(engine.core())?;
        Ok(removed)
    })
    .await
}

/// A reference may go unless it is the last one of an image in use.
fn one_name(
    engine: &Engine,
    names: &[Found],
    typed: &str,
    image: Image,
    force: bool,
) -> Result<Image> {
    let Some(found) = names.iter().find(|found| found.image.name == image.name) else {
        // Nothing here can use an image without content.
        return Ok(image);
    };
    let last = names
        .iter()
        .filter(|other| other.id() == found.id())
        .count()
        == 1;
    match users(engine, found.id()).first() {
        Some(user) if last && !force => Err(conflict(format!(
            "unable to remove repository reference \"{typed}\" (must force) - container {} is using its referenced image {}",
            &user.id[..SHORT_DIGITS],
            short(found.id())
        ))),
        _ => Ok(image),
    }
}

/// Every name of an image named by its id.
fn all_names(engine: &Engine, typed: &str, force: bool) -> Result<Vec<Image>> {
    let found = by_id(engine, typed)?;
    let Some(id) = found.first().map(Found::id) else {
        return Err(no_such_image(typed));
    };
    let repositories: BTreeSet<_> = found
        .iter()
        .filter_map(|found| Some(found.reference()?.name().to_owned()))
        .collect();
    if repositories.len() > 1 && !force {
        return Err(conflict(format!(
            "unable to delete {} (must be forced) - image is referenced in multiple repositories",
            short(id)
        )));
    }
    for user in users(engine, id) {
        let (forced, state) = match user.phase {
            Phase::Running => ("cannot be forced", "running"),
            _ if force => continue,
            _ => ("must be forced", "stopped"),
        };
        return Err(conflict(format!(
            "unable to delete {} ({forced}) - image is being used by {state} container {}",
            short(id),
            &user.id[..SHORT_DIGITS]
        )));
    }
    Ok(found.into_iter().map(|found| found.image).collect())
}

/// Ids that lost their last name and that no container uses.
fn without_name(engine: &Engine, names: &[Found], doomed: &[Image]) -> Vec<String> {
    let goes = |found: &&Found| doomed.iter().any(|image| image.name == found.image.name);
    let ids: BTreeSet<&str> = names.iter().filter(goes).map(Found::id).collect();
    ids.into_iter()
        .filter(|id| !names.iter().any(|found| found.id() == *id && !goes(&found)))
        .filter(|id| users(engine, id).is_empty())
        .map(str::to_owned)
        .collect()
}

fn users(engine: &Engine, id: &str) -> Vec<Arc<Record>> {
    let mut users = list::all(engine);
    users.retain(|record| record.image.id == id);
    // Running ones first: they are the stronger reason.
    users.sort_by_key(|record| record.phase != Phase::Running);
    users
}

fn familiar(name: &str) -> String {
    lite_core::Reference::parse(name)
        .map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn conflict(text: String) -> Error {
    Kind::FailedPrecondition.error(format!("conflict: {text}"))
}
