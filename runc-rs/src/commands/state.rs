//! `state`: the container as JSON.

use std::path::Path;

use crate::commands::{Globals, say};
use crate::failure::{Context, Result};
use crate::state::{Record, StateDocument, Status, annotations};

pub(super) fn run(globals: &Globals, id: &str) -> Result<()> {
    let (place, record) = globals.container(id)?;
    let status = place.status(&record)?;
    let text = document(&record, status, true)?;
    say(&format!("{}\n", String::from_utf8_lossy(&text)))
}

/// The state as runc prints it (`full`), or as hooks get it.
pub(crate) fn document(record: &Record, status: Status, full: bool) -> Result<Vec<u8>> {
    let document = shape(record, status, full.then(String::new));
    let text = if full {
        serde_json::to_vec_pretty(&document)
    } else {
        serde_json::to_vec(&document)
    };
    text.context(|| "print state".to_owned())
}

/// One container for `state`, `list` and hooks.
pub(super) fn shape(record: &Record, status: Status, owner: Option<String>) -> StateDocument<'_> {
    let rootfs: &Path = &record.config.rootfs;
    StateDocument {
        oci_version: record.spec.version(),
        id: &record.id,
        pid: if status == Status::Stopped {
            0
        } else {
            record.init_process_pid
        },
        status: status.word(),
        bundle: record.bundle(),
        rootfs: owner.is_some().then_some(rootfs),
        created: owner.is_some().then_some(record.created.as_str()),
        annotations: annotations(&record.spec),
        owner,
    }
}
