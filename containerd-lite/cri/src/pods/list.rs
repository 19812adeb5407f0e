//! Shows pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use lite_core::Result;

use crate::hub::Cri;
use crate::record::{PodRecord, PodState};

/// Which pods are wanted; what is empty accepts all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFilter {
    /// An id, or its beginning.
    pub id: String,
    /// Only those that are, or are not, ready.
    pub ready: Option<bool>,
    /// Labels that a pod must have.
    pub labels: BTreeMap<String, String>,
}

impl PodFilter {
    fn accepts(&self, pod: &PodRecord) -> bool {
        pod.id.starts_with(&self.id)
            && self
                .ready
                .is_none_or(|ready| ready == (pod.state == PodState::Ready))
            && has_labels(&pod.config.labels, &self.labels)
    }
}

/// Whether `has` has all that `wanted` wants.
pub(crate) fn has_labels(
    has: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| has.get(key) == Some(value))
}

/// The pods that `filter` accepts, newest last. One that is being made is none
/// yet.
#[must_use]
pub fn list(cri: &Cri, filter: &PodFilter) -> Vec<Arc<PodRecord>> {
    let mut pods = cri.pods();
    pods.retain(|pod| pod.state != PodState::Creating && filter.accepts(pod));
    pods.sort_by_key(|pod| pod.created_at);
    pods
}

/// The pod `id`.
///
/// # Errors
/// NotFound.
pub fn get(cri: &Cri, id: &str) -> Result<Arc<PodRecord>> {
    cri.pod(id)
}
