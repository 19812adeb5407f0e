//! Gives an image one more name.

use lite_core::{Kind, Reference, Result};

use super::{find, put};
use crate::engine::Engine;
use crate::events::Event;

/// Makes `target` a name of the image `source`; another image loses it.
///
/// # Errors
/// NotFound; InvalidArgument for a name that is none, or that has a digest.
pub async fn tag_image(engine: &Engine, source: &str, target: &str) -> Result<()> {
    let reference = Reference::parse(target).map_err(|err| {
        Kind::InvalidArgument.error(format!(
            "Error parsing reference: {target:?} is not a valid repository/tag: {err}"
        ))
    })?;
    if target.contains('@') {
        return Err(Kind::InvalidArgument.error("refusing to create a tag with a digest reference"));
    }
    let (owner, typed) = (engine.clone(), source.to_owned());
    let name = reference.to_string();
    let id = lite_core::blocking(move || {
        let found = find(&owner, &typed)?;
        put(&owner, name, found.image.target.clone())?;
        Ok(found.id().to_owned())
    })
    .await?;
    engine.emit(Event::now("image", "tag", &id).with("name", reference.familiar()));
    Ok(())
}
