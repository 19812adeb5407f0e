//! A container's mounts: Docker's own, and over them the user's.

use serde_json::{Value, json};

use super::{INIT, Inputs, SHM_BYTES, Space};
use crate::mounts::oci;
use crate::record::Record;

/// All mounts in their order. A mount of the user takes the place of Docker's
/// at the same path.
pub(super) fn all(inputs: &Inputs<'_>) -> Vec<Value> {
    let mut mounts = defaults(inputs);
    mounts.retain(|mount| {
        let path = mount["destination"].as_str().unwrap_or_default();
        !inputs.mounts.iter().any(|own| own.destination == path)
    });
    mounts.extend(inputs.mounts.iter().map(oci));
    if let Some(init) = inputs.init {
        mounts.push(json!({
            "destination": INIT,
            "type": "bind",
            "source": init,
            "options": ["bind", "ro"],
        }));
    }
    mounts
}

/// Where a runtime may have made a file or directory to mount on.
#[must_use]
pub(crate) fn stubs(record: &Record) -> Vec<String> {
    let own = record.mounts.iter().map(|mount| mount.destination.clone());
    let places = [
        "/proc",
        "/dev/pts",
        "/dev/mqueue",
        "/dev/shm",
        "/dev/console",
        "/sys/fs/cgroup",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
        INIT,
    ];
    own.chain(places.map(str::to_owned)).collect()
}

fn defaults(inputs: &Inputs<'_>) -> Vec<Value> {
    let host = inputs.host_config;
    let read_only: &[&str] = if inputs.rights.privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let cgroup: &[&str] = if inputs.rights.privileged {
        &["rw", "nosuid", "noexec", "nodev"]
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/sys", "sysfs", "sysfs", read_only),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
    ];
    match &inputs.spaces.ipc {
        Space::Host => {
            if inputs.host.mqueue {
                mounts.push(bind("/dev/mqueue", "/dev/mqueue"));
            }
            mounts.push(bind("/dev/shm", "/dev/shm"));
        }
        Space::Own | Space::At(_) => {
            let plain = ["nosuid", "noexec", "nodev"];
            mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &plain));
            if host.ipc != "none" {
                let size = format!("size={}", host.shm_bytes.unwrap_or(SHM_BYTES));
                let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
                mounts.push(mount("/dev/shm", "tmpfs", "shm", &options));
            }
        }
    }
    for (name, at) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        let source = inputs.files.join(name);
        mounts.push(bind(at, &source.display().to_string()));
    }
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn bind(destination: &str, source: &str) -> Value {
    mount(destination, "bind", source, &["rbind", "rprivate"])
}
