//! Takes everything of a container away. Its log is the kubelet's.

use lite_core::{Kind, OVERLAYFS, Result};

use super::{image_volumes, stop};
use crate::events::{Event, What};
use crate::hub::{Cri, absent_is_fine};

/// Removes the container `id`, which is killed first where it runs; one that
/// is gone is fine.
///
/// # Errors
/// Those of [`stop`](super::stop()), and of removing files.
pub async fn remove(cri: &Cri, id: &str) -> Result<()> {
    let record = match cri.container(id) {
        Err(err) if err.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    let cri = cri.clone();
    // On its own task: a caller that leaves half way must not leave half of it.
    let work = tokio::spawn(async move {
        stop(&cri, &record.id, 0).await?;
        let _turn = cri.turn(&record.id).await;
        let was_there = cri.container(&record.id).is_ok();
        {
            let (cri, record) = (cri.clone(), record.clone());
            lite_core::blocking(move || {
                let id = &record.id;
                image_volumes::remove(&cri, id, &record.config.mounts)?;
                absent_is_fine(cri.core().snapshots.remove(cri.ns(), OVERLAYFS, id))?;
                // Left by a shim that was killed.
                let _ = std::fs::remove_file(cri.session_socket(id));
                Ok(())
            })
            .await?;
        }
        cri.forget_container(&record).await?;
        if was_there {
            cri.emit(Event::now(What::Deleted, &record.id, &record.pod));
        }
        Ok(())
    });
    work.await
        .map_err(|join| Kind::Internal.error("remove container").because(join))?
}
