//! What a container has changed over its image.

use bytes::Bytes;
use lite_core::Result;
use lite_core::diff::{self, Change};
use tokio::sync::mpsc;

use crate::engine::{Engine, SNAPSHOTTER};
use crate::events::Event;
use crate::{pipe, spec};

/// The paths that were added, changed or deleted, in the order of names.
///
/// # Errors
/// NotFound; those of the file system.
pub async fn diff(engine: &Engine, container: &str) -> Result<Vec<Change>> {
    let record = engine.find(container)?.record();
    let engine = engine.clone();
    lite_core::blocking(move || {
        let stubs = spec::stubs(&record);
        diff::changes(engine.core(), engine.ns(), SNAPSHOTTER, &record.id, &stubs)
    })
    .await
}

/// The whole file system of a container, without what is mounted in it, as an
/// archive.
///
/// # Errors
/// NotFound; what goes wrong later comes as the last piece.
pub fn export(engine: &Engine, container: &str) -> Result<mpsc::Receiver<Result<Bytes>>> {
    let record = engine.find(container)?.record();
    engine.emit(Event::of_container(&record, "export"));
    let engine = engine.clone();
    Ok(pipe::produce(move |output| {
        diff::archive(engine.core(), engine.ns(), SNAPSHOTTER, &record.id, output)
    }))
}
