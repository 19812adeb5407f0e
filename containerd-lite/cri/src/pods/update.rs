//! Notes what a pod may use from now on. Its cgroup is the kubelet's, which
//! sets the limits there itself; what is told is kept with the pod.

use lite_core::Result;

use crate::config::Resources;
use crate::hub::Cri;
use crate::record::PodRecord;

/// Notes new limits of the pod `id`; `None` leaves what was said.
///
/// # Errors
/// NotFound; those of the database.
pub async fn update(
    cri: &Cri,
    id: &str,
    resources: Option<Resources>,
    overhead: Option<Resources>,
) -> Result<()> {
    let id = cri.pod(id)?.id.clone();
    let _turn = cri.turn(&id).await;
    let mut record = PodRecord::clone(&*cri.pod(&id)?);
    record.config.resources = resources.or(record.config.resources);
    record.config.overhead = overhead.or(record.config.overhead);
    cri.store_pod(record).await.map(drop)
}
