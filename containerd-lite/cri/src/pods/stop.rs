//! Ends a pod: its containers, its network, its namespaces. Its record stays.

use std::sync::Arc;

use lite_core::{Kind, Result};

use super::pause;
use crate::connect;
use crate::containers;
use crate::events::{Event, What};
use crate::hub::Cri;
use crate::namespaces::Place;
use crate::record::{Attached, PodRecord, PodState};

/// Stops the pod `id`; doing it again, or for one that is gone, is fine.
///
/// # Errors
/// What shims, plugins and the kernel say; what is left then is done by the
/// next call.
pub async fn stop(cri: &Cri, id: &str) -> Result<()> {
    let record = match cri.pod(id) {
        Err(err) if err.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    let cri = cri.clone();
    // On its own task: a caller that leaves half way must not leave half a pod.
    let work = tokio::spawn(async move { now(&cri, &record.id).await });
    work.await
        .map_err(|join| Kind::Internal.error("stop pod").because(join))?
}

/// As [`stop`], without a caller that could leave.
pub(crate) async fn now(cri: &Cri, id: &str) -> Result<()> {
    let _turn = cri.turn(id).await;
    let record = match cri.pod(id) {
        Err(err) if err.kind() == Kind::NotFound => return Ok(()),
        found => found?,
    };
    let was_ready = record.state == PodState::Ready;
    take_down(cri, &record).await?;
    if was_ready || record.attached != Attached::Nothing || record.pause != 0 {
        let stopped = PodRecord {
            state: PodState::NotReady,
            attached: Attached::Nothing,
            pause: 0,
            ..PodRecord::clone(&record)
        };
        cri.store_pod(stopped).await?;
        cri.emit(Event::now(What::Stopped, id, id));
    }
    Ok(())
}

/// Ends what the pod has; what is not there is fine.
///
/// # Errors
/// As [`stop`].
pub(crate) async fn take_down(cri: &Cri, record: &Arc<PodRecord>) -> Result<()> {
    let ending = cri
        .containers_of(&record.id)
        .into_iter()
        .map(|container| async move { containers::stop(cri, &container.id, 0).await });
    for ended in futures_util::future::join_all(ending).await {
        ended?;
    }
    pause::end(cri, &record.id).await?;
    let place = Place::at(cri.pod_dir(&record.id));
    connect::disconnect(cri, record, &place).await?;
    lite_core::blocking(move || place.remove()).await
}
