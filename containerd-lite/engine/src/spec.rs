//! The runtime-spec configuration of a container: one pure function of the
//! container's configuration, its user and the facts of the host, with
//! Docker's defaults for everything nobody asked to change.

use std::path::Path;

use serde_json::{Value, json};

use crate::environment;
use crate::record::Config;
use crate::seccomp;
use crate::user::User;

/// What the host is like, as far as a spec depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Controllers are on the unified hierarchy.
    pub cgroup2: bool,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Go's name of the machine: `amd64`.
    pub arch: String,
}

/// Everything a spec is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The container's configuration.
    pub config: &'a Config,
    /// Who the main process runs as.
    pub user: &'a User,
    /// The host.
    pub host: &'a HostFacts,
    /// `/<parent>/<id>`.
    pub cgroups_path: &'a str,
    /// Where `hosts`, `hostname` and `resolv.conf` of this container are.
    pub files: &'a Path,
}

/// The capabilities of a container that asked for nothing else.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Paths that read as empty inside.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that cannot be written inside.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Size of `/dev/shm`.
pub const SHM_BYTES: u64 = 64 << 20;

/// The whole `config.json`.
#[must_use]
pub fn build(inputs: &Inputs<'_>) -> Value {
    let Inputs {
        config,
        host,
        cgroups_path,
        ..
    } = *inputs;
    json!({
        "ociVersion": "1.2.0",
        "process": process(inputs),
        "root": { "path": "rootfs", "readonly": false },
        "hostname": config.hostname,
        "mounts": mounts(inputs),
        "linux": {
            // With its own network namespace a container may open low ports
            // and send pings without a capability; nobody else is affected.
            "sysctl": {
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.ipv4.ping_group_range": "0 2147483647",
            },
            "resources": { "devices": device_rules() },
            "cgroupsPath": cgroups_path,
            "namespaces": namespaces(host),
            "seccomp": seccomp::resolve(&seccomp::Facts {
                arch: &host.arch,
                kernel: host.kernel,
                caps: &CAPABILITIES,
            }),
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
        },
    })
}

fn process(inputs: &Inputs<'_>) -> Value {
    let config = inputs.config;
    let env = environment::of_process(&config.env, &config.hostname, config.tty);
    process_json(&Process {
        args: &config.argv(),
        env: &env,
        cwd: &config.workdir,
        user: inputs.user,
        tty: config.tty,
        window: None,
    })
}

/// One process to run: the main one, or one that is exec'd.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// Command line.
    pub args: &'a [String],
    /// Whole environment.
    pub env: &'a [String],
    /// Working directory; empty means `/`.
    pub cwd: &'a str,
    /// Identity.
    pub user: &'a User,
    /// With a terminal.
    pub tty: bool,
    /// The terminal's size, where a client has one.
    pub window: Option<Window>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Width.
    pub columns: u32,
    /// Height.
    pub rows: u32,
}

/// A runtime-spec process with Docker's capabilities.
#[must_use]
pub fn process_json(process: &Process<'_>) -> Value {
    let user = process.user;
    // Capabilities of a process that is not root must come from its files:
    // it keeps the bounding set, but has none in effect.
    let effective: &[&str] = if user.uid == 0 { &CAPABILITIES } else { &[] };
    let mut object = json!({
        "terminal": process.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": process.args,
        "env": process.env,
        "cwd": if process.cwd.is_empty() { "/" } else { process.cwd },
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": effective,
            "permitted": effective,
        },
        "oomScoreAdj": 0,
    });
    if let Some(Window { columns, rows }) = process.window.filter(|_| process.tty) {
        object["consoleSize"] = json!({ "height": rows, "width": columns });
    }
    object
}

fn mounts(inputs: &Inputs<'_>) -> Value {
    let own_file = |name: &str, at: &str| {
        json!({
            "destination": at,
            "type": "bind",
            "source": inputs.files.join(name),
            "options": ["rbind", "rprivate"],
        })
    };
    let shm = format!("size={SHM_BYTES}");
    json!([
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5"
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"]
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"]
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"]
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm]
        ),
        own_file("resolv.conf", "/etc/resolv.conf"),
        own_file("hostname", "/etc/hostname"),
        own_file("hosts", "/etc/hosts"),
    ])
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn namespaces(host: &HostFacts) -> Vec<Value> {
    let mut kinds = vec!["mount", "network", "uts", "pid", "ipc"];
    // On v1 a private cgroup namespace would hide the controllers' paths from
    // programs that look themselves up, so Docker shares the host's there.
    if host.cgroup2 {
        kinds.push("cgroup");
    }
    kinds
        .into_iter()
        .map(|kind| json!({ "type": kind }))
        .collect()
}

/// Nothing, then null, zero, full, random, urandom, tty and console; the
/// runtime adds terminals and the right to make nodes by itself.
fn device_rules() -> Vec<Value> {
    let allow = |major: u32, minor: u32| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules
        .extend([(1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1)].map(|(a, b)| allow(a, b)));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn built(cgroup2: bool, change: impl FnOnce(&mut Config, &mut User)) -> Value {
        let mut config = sample().config;
        let mut user = User {
            uid: 0,
            gid: 0,
            groups: vec![0, 10],
        };
        change(&mut config, &mut user);
        let host = HostFacts {
            cgroup2,
            kernel: (6, 1),
            arch: "amd64".to_owned(),
        };
        build(&Inputs {
            config: &config,
            user: &user,
            host: &host,
            cgroups_path: "/containerd-lite/0123",
            files: Path::new("/var/lib/containerd-lite/containers/0123"),
        })
    }

    #[test]
    fn a_plain_container() {
        let mut spec = built(false, |_, _| {});
        // The profile has tests of its own.
        let calls = spec["linux"]["seccomp"]["syscalls"].take();
        assert!(calls.as_array().unwrap().len() > 10);
        insta::assert_snapshot!(serde_json::to_string_pretty(&spec).unwrap());
    }

    #[test]
    fn the_runtime_spec_library_reads_it() {
        let text = serde_json::to_string(&built(true, |config, _| config.tty = true)).unwrap();
        let spec: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().terminal(), Some(true));
    }

    #[test]
    fn a_terminal_brings_term() {
        let spec = built(false, |config, _| config.tty = true);
        assert_eq!(spec["process"]["terminal"], true);
        assert!(
            spec["process"]["env"]
                .as_array()
                .unwrap()
                .contains(&json!("TERM=xterm"))
        );
    }

    #[test]
    fn a_user_who_is_not_root_has_no_capability_in_effect() {
        let spec = built(false, |config, user| {
            config.workdir = "/srv".to_owned();
            *user = User {
                uid: 33,
                gid: 34,
                groups: vec![34],
            };
        });
        let caps = &spec["process"]["capabilities"];
        assert_eq!(caps["effective"], json!([]));
        assert_eq!(caps["permitted"], json!([]));
        assert_eq!(caps["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(spec["process"]["cwd"], "/srv");
    }

    #[test]
    fn only_the_unified_hierarchy_gets_a_cgroup_namespace() {
        let has = |spec: &Value| {
            spec["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!({"type": "cgroup"}))
        };
        assert!(has(&built(true, |_, _| {})));
        assert!(!has(&built(false, |_, _| {})));
    }
}
