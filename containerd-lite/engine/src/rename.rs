//! Gives a container another name.

use lite_core::{Kind, Result};

use crate::engine::Engine;
use crate::events::Event;
use crate::names::Name;

/// Renames the container; the old name is free when this returns.
///
/// # Errors
/// NotFound; AlreadyExists for the name; InvalidArgument for one that cannot be.
pub async fn rename(engine: &Engine, container: &str, name: &str) -> Result<()> {
    let handle = engine.find(container)?;
    let record = handle.record();
    let invalid = |text: String| Kind::InvalidArgument.error(text);
    if name.is_empty() {
        return Err(invalid("new name cannot be empty".to_owned()));
    }
    let new = Name::parse(name.strip_prefix('/').unwrap_or(name))
        .map_err(|err| invalid(err.to_string()))?;
    if new.as_str() == record.name {
        return Err(invalid(
            "Error when allocating new name: new name is the same as the current name".to_owned(),
        ));
    }
    engine.take_name(&new, &record.id)?;
    let (chosen, label) = (new.as_str().to_owned(), new.as_str().to_owned());
    let changed = handle.change(move |record| record.name = chosen).await;
    if let Err(err) = changed {
        engine.free_name(&label);
        return Err(err);
    }
    engine.free_name(&record.name);
    let event = Event::of_container(&handle.record(), "rename")
        .with("oldName", format!("/{}", record.name));
    engine.emit(event);
    Ok(())
}
