//! What a container shares with its pod, with others, and with the host.

use serde_json::{Value, json};

use super::Inputs;
use crate::config::Mode;
use crate::namespaces::Place;
use crate::record::PodRecord;

/// The namespaces of the pod itself: pinned, or the host's.
pub(crate) fn shared(pod: &PodRecord, place: &Place) -> Vec<Value> {
    let options = &pod.config.security.namespaces;
    let mut kinds = Vec::new();
    let mut join = |kind: &str, file: &str| {
        kinds.push(json!({ "type": kind, "path": place.namespace(file) }));
    };
    if !pod.on_host_network() {
        join("network", "net");
        join("uts", "uts");
    }
    if options.ipc != Mode::Node {
        join("ipc", "ipc");
    }
    kinds
}

/// All namespaces of a container.
pub(super) fn of_container(inputs: &Inputs<'_>) -> Vec<Value> {
    let security = &inputs.config.security;
    let mut kinds = vec![json!({ "type": "mount" })];
    kinds.extend(shared(inputs.pod, inputs.place));
    let of_process = |pid: u32| json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") });
    match security.namespaces.pid {
        Mode::Node => {}
        Mode::Container => kinds.push(json!({ "type": "pid" })),
        Mode::Target => kinds.extend(inputs.target.map(of_process)),
        Mode::Pod if inputs.pod.pause != 0 => kinds.push(of_process(inputs.pod.pause)),
        // The pod has no processes to share: it was made for containers that
        // have their own.
        Mode::Pod => kinds.push(json!({ "type": "pid" })),
    }
    if inputs.host.cgroup2 && !security.privileged {
        kinds.push(json!({ "type": "cgroup" }));
    }
    kinds
}
