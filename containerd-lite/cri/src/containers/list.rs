//! Shows containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use lite_core::Result;

use crate::hub::Cri;
use crate::pods::has_labels;
use crate::record::{ContainerRecord, ContainerState};

/// Which containers are wanted; what is empty accepts all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// An id, or its beginning.
    pub id: String,
    /// A pod's id, or its beginning.
    pub pod: String,
    /// One state.
    pub state: Option<ContainerState>,
    /// Labels that a container must have.
    pub labels: BTreeMap<String, String>,
}

impl ContainerFilter {
    fn accepts(&self, container: &ContainerRecord) -> bool {
        container.id.starts_with(&self.id)
            && container.pod.starts_with(&self.pod)
            && self.state.is_none_or(|state| state == container.state)
            && has_labels(&container.config.labels, &self.labels)
    }
}

/// The containers that `filter` accepts, newest last.
#[must_use]
pub fn list(cri: &Cri, filter: &ContainerFilter) -> Vec<Arc<ContainerRecord>> {
    let mut containers = cri.containers();
    containers.retain(|container| filter.accepts(container));
    containers.sort_by_key(|container| container.created_at);
    containers
}

/// The container `id`.
///
/// # Errors
/// NotFound.
pub fn get(cri: &Cri, id: &str) -> Result<Arc<ContainerRecord>> {
    cri.container(id)
}
