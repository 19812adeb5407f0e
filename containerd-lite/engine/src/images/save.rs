//! Images as one archive: an OCI layout and a docker-archive in one.

use std::collections::BTreeMap;

use bytes::Bytes;
use lite_core::export::{self, Exported};
use lite_core::{Kind, Platform, Reference, Result};
use tokio::sync::mpsc;

use super::{by_id, by_reference, catalog, no_such_image};
use crate::engine::Engine;
use crate::events::Event;
use crate::pipe;

/// The images called `names`: by reference, by id, or by a repository, which
/// means all of its tags. With `platform` only what is for that one.
///
/// # Errors
/// NotFound; InvalidArgument; what goes wrong later comes as the last piece.
pub async fn save_images(
    engine: &Engine,
    names: &[String],
    platform: &str,
) -> Result<mpsc::Receiver<Result<Bytes>>> {
    let platform = match platform {
        "" => None,
        typed => Some(Platform::parse(typed).ok_or_else(|| {
            Kind::InvalidArgument.error(format!(
                "platform {typed:?}: expected os/arch or os/arch/variant"
            ))
        })?),
    };
    let images = {
        let (engine, names) = (engine.clone(), names.to_vec());
        lite_core::blocking(move || wanted(&engine, &names)).await?
    };
    for image in &images {
        let id = image.target.digest.as_str();
        engine.emit(Event::now("image", "save", id).with("name", image.names.join(",")));
    }
    let engine = engine.clone();
    Ok(pipe::produce(move |output| {
        export::export(
            engine.core(),
            engine.ns(),
            &images,
            platform.as_ref(),
            output,
        )
    }))
}

/// Each image once, with all the names under which it is wanted.
fn wanted(engine: &Engine, typed: &[String]) -> Result<Vec<Exported>> {
    let mut found: BTreeMap<String, Exported> = BTreeMap::new();
    let mut add = |target: &lite_core::Descriptor, name: Option<String>| {
        let image = found
            .entry(target.digest.to_string())
            .or_insert_with(|| Exported {
                target: target.clone(),
                names: Vec::new(),
            });
        if let Some(name) = name
            && !image.names.contains(&name)
        {
            image.names.push(name);
        }
    };
    for typed in typed {
        let tags = repository(engine, typed)?;
        if !tags.is_empty() {
            for (name, target) in tags {
                add(&target, Some(name));
            }
        } else if let Some(image) = by_reference(engine, typed)? {
            add(&image.target, Some(image.name));
        } else {
            let named = by_id(engine, typed)?;
            let first = named.first().ok_or_else(|| no_such_image(typed))?;
            add(&first.image.target, None);
        }
    }
    Ok(found.into_values().collect())
}

/// All tags of a repository that was typed without one.
fn repository(engine: &Engine, typed: &str) -> Result<Vec<(String, lite_core::Descriptor)>> {
    let last = typed.rsplit('/').next().unwrap_or_default();
    let (Ok(reference), false) = (Reference::parse(typed), last.contains([':', '@'])) else {
        return Ok(Vec::new());
    };
    let of_it = catalog(engine)?.into_iter().filter_map(|found| {
        let other = found.reference()?;
        let fits = other.name() == reference.name() && other.tag().is_some();
        fits.then_some((found.image.name, found.image.target))
    });
    Ok(of_it.collect())
}
