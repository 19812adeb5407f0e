//! `spec`: a config.json to start from, runc's.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::SpecArgs;
use crate::failure::{Context, Failure, Result};

pub(super) fn run(args: &SpecArgs) -> Result<()> {
    let dir = if args.bundle.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &args.bundle
    };
    let file = dir.join("config.json");
    let v2 = crate::host::cgroups().is_ok_and(|host| host.layout() == cgroup::Layout::V2);
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
    {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(format!(
            "file {} exists. Remove it first",
            file.display()
        ))),
        Err(e) => Err(Failure::because(format!("create {}", file.display()), e)),
        Ok(mut out) => out
            .write_all(default_config(args.rootless, v2).as_bytes())
            .context(|| format!("write {}", file.display())),
    }
}

/// The default config as text. Fields come in runc's order, indented by tabs. A cgroup namespace is in it on `cgroup_v2`, where
/// the container's cgroups are mounted by it.
pub(crate) fn default_config(rootless: bool, cgroup_v2: bool) -> String {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let process = json!([
        ["terminal", true],
        ["user", [["uid", 0], ["gid", 0]]],
        ["args", ["sh"]],
        [
            "env",
            [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ]
        ],
        ["cwd", "/"],
        [
            "capabilities",
            [["bounding", caps], ["effective", caps], ["permitted", caps]]
        ],
        [
            "rlimits",
            [[["type", "RLIMIT_NOFILE"], ["hard", 1024], ["soft", 1024]]]
        ],
        ["noNewPrivileges", true]
    ]);
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if cgroup_v2 {
        namespaces.push("cgroup");
    }
    if rootless {
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!([["type", kind]]))
        .collect();
    let masked = json!([
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi"
    ]);
    let read_only = json!([
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger"
    ]);
    let mut linux = Vec::new();
    if rootless {
        let (uid, gid) = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let map = |host: u32| json!([[["containerID", 0], ["hostID", host], ["size", 1]]]);
        linux.push(json!(["uidMappings", map(uid)]));
        linux.push(json!(["gidMappings", map(gid)]));
    } else {
        linux.push(json!([
            "resources",
            [["devices", [[["allow", false], ["access", "rwm"]]]]]
        ]));
    }
    linux.push(json!(["namespaces", namespaces]));
    linux.push(json!(["maskedPaths", masked]));
    linux.push(json!(["readonlyPaths", read_only]));
    let all = json!([
        ["ociVersion", super::SPEC_VERSION],
        ["process", process],
        ["root", [["path", "rootfs"], ["readonly", true]]],
        ["hostname", "runc"],
        ["mounts", mounts(rootless)],
        ["linux", linux]
    ]);
    let mut out = String::new();
    print(&all, 0, &mut out);
    out
}

fn mounts(rootless: bool) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut fields = vec![
            json!(["destination", destination]),
            json!(["type", kind]),
            json!(["source", source]),
        ];
        if !options.is_empty() {
            fields.push(json!(["options", options]));
        }
        Value::Array(fields)
    };
    let strict = ["nosuid", "noexec", "nodev"];
    let pts: &[&str] = &[
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let sys = if rootless {
        mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        )
    } else {
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        )
    };
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        // The group of terminals is mapped to nobody when there is one id only.
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            if rootless { &pts[..5] } else { pts },
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &strict),
        sys,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

/// Prints JSON in which an array of pairs of a name and a value stands for an object, so that fields keep their order.
fn print(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"\t".repeat(depth));
    };
    let Value::Array(items) = value else {
        out.push_str(&value.to_string());
        return;
    };
    let field = |item: &Value| -> Option<(String, Value)> {
        match item.as_array().map(Vec::as_slice) {
            Some([Value::String(name), value]) => Some((name.clone(), value.clone())),
            _ => None,
        }
    };
    let fields: Option<Vec<(String, Value)>> = items.iter().map(field).collect();
    let is_object = fields.is_some() && !items.is_empty();
    out.push(if is_object { '{' } else { '[' });
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        indent(out, depth + 1);
        match fields.as_ref().and_then(|fields| fields.get(at)) {
            Some((name, value)) => {
                out.push_str(&format!("{}: ", Value::from(name.as_str())));
                print(value, depth + 1, out);
            }
            None => print(item, depth + 1, out),
        }
    }
    if !items.is_empty() {
        indent(out, depth);
    }
    out.push(if is_object { '}' } else { ']' });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_config_is_runcs() {
        insta::assert_snapshot!(default_config(false, true));
        let v1 = default_config(false, false);
        assert!(!v1.contains(r#""cgroup"\n\t\t\t}"#) && v1.contains("/sys/fs/cgroup"));
    }

    #[test]
    fn the_rootless_config_is_valid() {
        let spec: oci_spec::runtime::Spec =
            serde_json::from_str(&default_config(true, true)).unwrap();
        assert!(spec.linux().as_ref().unwrap().uid_mappings().is_some());
    }
}
