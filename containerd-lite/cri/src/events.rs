//! What happens to containers, for whoever wants to know at once.

use std::time::SystemTime;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was made.
    Created,
    /// It was started.
    Started,
    /// It has ended.
    Stopped,
    /// It is gone.
    Deleted,
}

/// Something that happened to a container or a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// The container; the pod's own id for the pod itself.
    pub container: String,
    /// Its pod.
    pub pod: String,
    /// When.
    pub at: SystemTime,
}

impl Event {
    /// It happened just now.
    pub(crate) fn now(what: What, container: &str, pod: &str) -> Self {
        Self {
            what,
            container: container.to_owned(),
            pod: pod.to_owned(),
            at: SystemTime::now(),
        }
    }
}
