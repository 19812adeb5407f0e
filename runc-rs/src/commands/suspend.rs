//! `pause` and `resume`.

use crate::commands::Globals;
use crate::failure::{Context, Failure, Result};
use crate::phrases;
use crate::state::Status;

pub(super) fn pause(globals: &Globals, id: &str) -> Result<()> {
    let (place, record) = globals.container(id)?;
    match place.status(&record)? {
        Status::Running | Status::Created => {
            record.cgroup().freeze(true).context(|| "pause".to_owned())
        }
        Status::Paused | Status::Stopped => Err(Failure::new(phrases::NOT_RUNNING)),
    }
}

pub(super) fn resume(globals: &Globals, id: &str) -> Result<()> {
    let (_, record) = globals.container(id)?;
    let cgroup = record.cgroup();
    if !cgroup.is_frozen().context(|| "read freezer".to_owned())? {
        return Err(Failure::new(phrases::NOT_PAUSED));
    }
    cgroup.freeze(false).context(|| "resume".to_owned())
}
