//! A container's log, which the kubelet rotates: it gives the file another
//! name, and wants output to go on in a new one.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use lite_core::{Because, Kind, Result};

use crate::hub::Cri;
use crate::record::ContainerState;

/// Has the log of the container `id` go on in a new file. The shim looks,
/// before it writes, whether the file it has open is still the one of that
/// name.
///
/// # Errors
/// NotFound; FailedPrecondition unless it runs; those of making the file.
pub async fn reopen(cri: &Cri, id: &str) -> Result<()> {
    let record = cri.container(id)?;
    if record.state != ContainerState::Running {
        return Err(Kind::FailedPrecondition.error(format!("container {id} is not running")));
    }
    if record.log.is_empty() {
        return Ok(());
    }
    let path = record.log.clone();
    lite_core::blocking(move || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        options
            .open(&path)
            .map(drop)
            .op(|| format!("open log {path}"))
    })
    .await
}
