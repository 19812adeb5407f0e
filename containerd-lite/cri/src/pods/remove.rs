//! Forgets a pod, and its containers with it.

use lite_core::{Kind, Result};

use super::stop;
use crate::containers;
use crate::events::{Event, What};
use crate::hub::Cri;

/// Removes the pod `id`, which is stopped first where it is not; one that is
/// gone is fine.
///
/// # Errors
/// Those of [`stop`](super::stop()), and of removing its containers.
pub async fn remove(cri: &Cri, id: &str) -> Result<()> {
    let record = match cri.pod(id) {
        Err(err) if err.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    let cri = cri.clone();
    // On its own task: a caller that leaves half way must not leave half a pod.
    let work = tokio::spawn(async move {
        stop::now(&cri, &record.id).await?;
        for container in cri.containers_of(&record.id) {
            containers::remove(&cri, &container.id).await?;
        }
        let _turn = cri.turn(&record.id).await;
        let was_there = cri.pod(&record.id).is_ok();
        cri.forget_pod(&record).await?;
        if was_there {
            cri.emit(Event::now(What::Deleted, &record.id, &record.id));
        }
        Ok(())
    });
    work.await
        .map_err(|join| Kind::Internal.error("remove pod").because(join))?
}
