//! Pods: what containers share.
//!
//! A pod is namespaces that are pinned to files, an address, and a few files
//! that its containers have mounted. It needs no process, unless its containers
//! share a process namespace: that ends with its first process, so a [`pause`]
//! holds it then. The shim comes with the first container.
//!
//! 1. [`run`](mod@run) makes one, by an intent in the database, the work, and
//!    its outcome.
//! 2. [`stop`](mod@stop) ends its containers and gives its network back.
//! 3. [`remove`](mod@remove) forgets it.
//! 4. [`update`](mod@update) notes new limits, [`list`](mod@list) shows those that a filter accepts.

pub(crate) mod files;
pub(crate) mod pause;

mod list;
mod remove;
mod run;
pub(crate) mod stop;
mod update;

pub(crate) use list::has_labels;
pub use list::{PodFilter, get, list};
pub use remove::remove;
pub use run::run;
pub(crate) use run::undo;
pub use stop::stop;
pub use update::update;

use lite_core::{AnyValue, Result, Sandbox};

use crate::record::{EXTENSION, PodRecord, encode};

/// What the store's record says of who made it.
const SANDBOXER: &str = "cri";

/// A pod's record as the core has it.
///
/// # Errors
/// Those of [`encode`].
pub(crate) fn to_sandbox(record: &PodRecord) -> Result<Sandbox> {
    let document = AnyValue {
        type_url: EXTENSION.to_owned(),
        value: encode(record)?,
    };
    Ok(Sandbox {
        id: record.id.clone(),
        runtime: record.handler.clone(),
        sandboxer: SANDBOXER.to_owned(),
        labels: record.config.labels.clone(),
        extensions: [(EXTENSION.to_owned(), document)].into(),
        ..Sandbox::default()
    })
}
