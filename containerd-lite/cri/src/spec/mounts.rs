//! What a container sees beside its image: what every container has, then its
//! pod's files, then what was asked for.

use serde_json::{Value, json};

use super::Inputs;
use crate::config::{Mode, Mount, Propagation};

/// All mounts in their order. One that was asked for takes the place of ours
/// at the same path.
pub(super) fn all(inputs: &Inputs<'_>) -> Vec<Value> {
    let mut mounts = defaults(inputs);
    let asked = &inputs.config.mounts;
    mounts.retain(|mount| {
        let path = mount["destination"].as_str().unwrap_or_default();
        !asked.iter().any(|own| tidy(&own.container_path) == path)
    });
    // What lies above comes before what lies below.
    let mut own = inputs.mounts.to_vec();
    own.sort_by_key(|mount| {
        let path = mount["destination"].as_str().unwrap_or_default();
        path.split('/').filter(|part| !part.is_empty()).count()
    });
    mounts.extend(own);
    mounts
}

/// A path without its last slash.
fn tidy(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        tidy => tidy,
    }
}

fn defaults(inputs: &Inputs<'_>) -> Vec<Value> {
    let privileged = inputs.config.security.privileged;
    let read_only: &[&str] = if privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let plain = ["nosuid", "noexec", "nodev"];
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &plain),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/mqueue", "mqueue", "mqueue", &plain),
        mount("/sys", "sysfs", "sysfs", read_only),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", read_only),
    ];
    let on_host_ipc = inputs.pod.config.security.namespaces.ipc == Mode::Node;
    let shm = if on_host_ipc {
        "/dev/shm".to_owned()
    } else {
        inputs.place.file("shm").display().to_string()
    };
    mounts.push(mount(
        "/dev/shm",
        "bind",
        &shm,
        &["rbind", "rprivate", "rw"],
    ));
    let access = if inputs.config.security.readonly_rootfs {
        "ro"
    } else {
        "rw"
    };
    for name in ["hostname", "hosts", "resolv.conf"] {
        let source = inputs.place.file(name).display().to_string();
        let at = format!("/etc/{name}");
        mounts.push(mount(&at, "bind", &source, &["rbind", "rprivate", access]));
    }
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// A mount that was asked for, of `source`, which exists.
pub(crate) fn asked(mount: &Mount, source: &str) -> Value {
    let mut options = vec!["rbind"];
    options.push(match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    });
    options.push(match (mount.readonly, mount.recursive_readonly) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    });
    let mut object = json!({
        "destination": mount.container_path,
        "type": "bind",
        "source": source,
        "options": options,
    });
    for (name, mappings) in [("uidMappings", &mount.uids), ("gidMappings", &mount.gids)] {
        if !mappings.is_empty() {
            let ids = mappings.iter();
            object[name] = ids
                .map(|ids| json!({ "containerID": ids.container, "hostID": ids.host, "size": ids.length }))
                .collect();
        }
    }
    object
}
