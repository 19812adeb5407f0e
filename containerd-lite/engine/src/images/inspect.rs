//! Shows an image as Docker's JSON.

use std::collections::BTreeSet;

use lite_core::Result;
use serde_json::Value;

use super::{catalog, find, size};
use crate::engine::Engine;
use crate::inspect::image::{Inputs, json};
use crate::rfc3339;

/// The image as `docker image inspect` shows it.
///
/// # Errors
/// NotFound; those of storage.
pub async fn inspect_image(engine: &Engine, image: &str) -> Result<Value> {
    let (engine, typed) = (engine.clone(), image.to_owned());
    lite_core::blocking(move || {
        let found = find(&engine, &typed)?;
        let names = catalog(&engine)?;
        let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for other in names.iter().filter(|other| other.id() == found.id()) {
            let Some(reference) = other.reference() else {
                continue;
            };
            if reference.tag().is_some() {
                tags.insert(reference.familiar());
            }
            digests.insert(format!(
                "{}@{}",
                reference.familiar_name(),
                other.image.target.digest.as_str()
            ));
        }
        let target = &found.image.target;
        let layers: Vec<_> = found
            .resolved
            .diff_ids
            .iter()
            .map(|id| id.as_str().to_owned())
            .collect();
        Ok(json(&Inputs {
            id: found.id(),
            tags: &tags.into_iter().collect::<Vec<_>>(),
            digests: &digests.into_iter().collect::<Vec<_>>(),
            descriptor: (&target.media_type, target.digest.as_str(), target.size),
            configuration: &found.resolved.image_config,
            size: size(&engine, &found.resolved),
            layers: &layers,
            tagged_at: &rfc3339::format(found.image.updated_at),
        }))
    })
    .await
}
