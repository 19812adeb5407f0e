//! Removes an image: all of its names. What containers use of it stays until
//! they are gone, as their snapshots stand on its own.

use lite_core::{Kind, Result};

use super::look_up;
use crate::hub::Cri;

/// Removes the image that `typed` names; one that is not here is fine.
///
/// # Errors
/// InvalidArgument for a name that says nothing; those of storage.
pub async fn remove(cri: &Cri, typed: &str) -> Result<()> {
    let (cri, typed) = (cri.clone(), typed.to_owned());
    lite_core::blocking(move || {
        let Some(image) = look_up(&cri, &typed)? else {
            return Ok(());
        };
        for name in &image.names {
            match cri.core().images.delete(cri.ns(), name) {
                // Somebody else was faster.
                Err(err) if err.kind() == Kind::NotFound => {}
                done => done?,
            }
        }
        lite_core::gc::collect(cri.core()).map(drop)
    })
    .await
}
