//! The runtime-spec configuration of a `RUN`: what the engine gives every container, with the process and the mounts of the
//! step. Pure.

use std::path::Path;

use serde_json::{Value, json};

use crate::ops::RunOp;

/// A bind mount of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
}

/// The network namespace of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network<'a> {
    /// The host's.
    Host,
    /// A new one, with loopback alone.
    Own,
    /// The one that is pinned to this file.
    At(&'a Path),
}

/// A numeric identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a step's spec is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The spec of a plain container.
    pub template: &'a Value,
    /// The step.
    pub op: &'a RunOp,
    /// Variables of secrets.
    pub secret_env: &'a [String],
    /// Who runs it.
    pub user: &'a Identity,
    /// What it sees besides.
    pub binds: &'a [Bind],
    /// Memory file systems: target, and size in bytes.
    pub tmpfs: &'a [(String, Option<u64>)],
    /// Its network.
    pub network: Network<'a>,
    /// Its cgroup.
    pub cgroups_path: &'a str,
}

/// Makes the spec.
#[must_use]
pub fn build(inputs: &Inputs<'_>) -> Value {
    let mut spec = inputs.template.clone();
    let user = inputs.user;
    let process = &mut spec["process"];
    process["terminal"] = json!(false);
    process["args"] = json!(inputs.op.argv);
    process["cwd"] = json!(inputs.op.cwd);
    process["user"] = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.groups});
    let env: Vec<&String> = inputs
        .op
        .env
        .iter()
        .chain(&inputs.op.unkeyed_env)
        .chain(inputs.secret_env)
        .collect();
    process["env"] = json!(env);
    if user.uid != 0 {
        process["capabilities"]["effective"] = json!([]);
        process["capabilities"]["permitted"] = json!([]);
    }
    spec["linux"]["cgroupsPath"] = json!(inputs.cgroups_path);
    network(&mut spec, inputs.network);
    mounts(&mut spec, inputs);
    spec
}

fn network(spec: &mut Value, network: Network<'_>) {
    if let Network::At(path) = network {
        let kinds = spec["linux"]["namespaces"].as_array_mut();
        for kind in kinds.into_iter().flatten() {
            if kind["type"] == "network" {
                kind["path"] = json!(path);
            }
        }
    }
    if network == Network::Host {
        if let Some(kinds) = spec["linux"]["namespaces"].as_array_mut() {
            kinds.retain(|kind| kind["type"] != "network");
        }
        // These are settings of a network namespace, which is not the step's own.
        if let Some(sysctl) = spec["linux"]["sysctl"].as_object_mut() {
            sysctl.retain(|name, _| !name.starts_with("net."));
        }
    }
}

/// The template's mounts but for a container's own files, then the step's, those nearer to the root first.
fn mounts(spec: &mut Value, inputs: &Inputs<'_>) {
    let Some(list) = spec["mounts"].as_array_mut() else {
        return;
    };
    list.retain(|mount| mount["type"] != "bind");
    let mut own: Vec<Value> = Vec::new();
    for bind in inputs.binds {
        let access = if bind.read_only { "ro" } else { "rw" };
        own.push(json!({
            "destination": bind.target, "type": "bind", "source": bind.source,
            "options": ["rbind", "rprivate", access],
        }));
    }
    for (target, size) in inputs.tmpfs {
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
        options.extend(size.map(|bytes| format!("size={bytes}")));
        own.push(
            json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}),
        );
    }
    own.sort_by_key(|mount| mount["destination"].as_str().unwrap_or_default().len());
    list.extend(own);
}

/// Where a spec mounts something: what the runtime makes there is no part of the layer.
#[must_use]
pub fn targets(spec: &Value) -> Vec<String> {
    let mounts = spec["mounts"].as_array().into_iter().flatten();
    mounts
        .filter_map(|mount| mount["destination"].as_str())
        .map(|path| crate::paths::join("/", path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    #[test]
    fn a_step_is_a_container_with_its_own_process() {
        let template = json!({
            "process": {"args": ["x"], "capabilities": {"effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}},
            "mounts": [
                {"destination": "/proc", "type": "proc"},
                {"destination": "/etc/hosts", "type": "bind", "source": "/c/hosts"},
            ],
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "network"}],
                "sysctl": {"net.ipv4.x": "0", "kernel.y": "1"},
            },
        });
        let op = RunOp {
            argv: vec!["/bin/sh".to_owned()],
            env: vec!["A=1".to_owned()],
            unkeyed_env: vec!["P=2".to_owned()],
            cwd: "/w".to_owned(),
            user: String::new(),
            mounts: Vec::new(),
            network: ops::Network::Host,
            insecure: false,
            script: None,
        };
        let bind = Bind {
            source: "/s".to_owned(),
            target: "/a/b".to_owned(),
            read_only: true,
        };
        let spec = build(&Inputs {
            template: &template,
            op: &op,
            secret_env: &["S=3".to_owned()],
            user: &Identity {
                uid: 5,
                gid: 6,
                groups: vec![6],
            },
            binds: &[bind],
            tmpfs: &[("/a".to_owned(), Some(9))],
            network: Network::Host,
            cgroups_path: "/p/b",
        });
        assert_eq!(spec["process"]["env"], json!(["A=1", "P=2", "S=3"]));
        assert_eq!(spec["process"]["capabilities"]["effective"], json!([]));
        assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}]));
        assert_eq!(spec["linux"]["sysctl"], json!({"kernel.y": "1"}));
        assert_eq!(targets(&spec), ["/proc", "/a", "/a/b"]);
        assert_eq!(
            spec["mounts"][2]["options"],
            json!(["rbind", "rprivate", "ro"])
        );
    }
}
