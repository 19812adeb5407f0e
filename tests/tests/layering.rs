//! Who may depend on what, held against `cargo metadata`.

use std::process::Command;

use serde_json::Value;
use tests::repository;

/// The packages of the workspace, and which of them each may use. A package
/// that is not in this table does not belong to the design yet.
const MAY_USE: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("ttrpc-wire", &["proto"]),
    ("kernel", &[]),
    ("cgroup", &["kernel"]),
    ("runc-rs", &["kernel", "cgroup"]),
    ("shim", &["proto", "ttrpc-wire", "kernel", "cgroup"]),
    ("registry", &[]),
    ("lite-core", &["proto", "ttrpc-wire", "kernel", "registry"]),
    ("builder", &["lite-core", "kernel"]),
    ("network", &["kernel"]),
    ("cni", &["kernel"]),
    ("streaming", &[]),
    ("engine", &["lite-core", "builder", "network", "kernel"]),
    (
        "cri",
        &["lite-core", "network", "cni", "streaming", "kernel"],
    ),
    (
        "containerd-lite",
        &["proto", "ttrpc-wire", "lite-core", "engine", "cri"],
    ),
    ("ctl", &["proto"]),
    // For CRI alone: no client of it is packaged that could say every field.
    ("tests", &["proto"]),
];

/// What is sharp outside the workspace (system calls, async, wire types,
/// storage), and the only packages that may touch it. `build` and `dev`
/// dependencies are held to it too, but for tokio in tests of a package
/// that has no other use for it.
const SHARP: &[(&str, &[&str])] = &[
    ("libc", &["kernel"]),
    // Safe calls that nix has not: extended attributes and *at(2) for layers,
    // builds and image files, peer credentials and terminals for the shim.
    ("rustix", &["kernel", "shim", "lite-core", "builder"]),
    ("libseccomp", &["runc-rs"]),
    (
        "tokio",
        &[
            "ttrpc-wire",
            "shim",
            "registry",
            "lite-core",
            "builder",
            "network",
            "cni",
            "streaming",
            "engine",
            "cri",
            "containerd-lite",
            "ctl",
            "tests",
        ],
    ),
    ("tonic", &["proto", "containerd-lite", "ctl", "tests"]),
    ("tonic-prost", &["proto"]),
    ("reqwest", &["registry"]),
    ("rusqlite", &["lite-core"]),
];

#[test]
fn packages_use_only_what_the_design_allows() {
    assert_eq!(forbidden(&metadata()), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_found() {
    let metadata = serde_json::json!({"packages": [
        {"name": "ctl", "dependencies": [{"name": "lite-core", "path": "/x"}, {"name": "tonic"}]},
        {"name": "runc-rs", "dependencies": [{"name": "tokio"}, {"name": "kernel", "path": "/x"}]},
        {"name": "helper", "dependencies": []},
    ]});
    assert_eq!(
        forbidden(&metadata),
        [
            "ctl -> lite-core",
            "runc-rs -> tokio",
            "helper is not in the table"
        ]
    );
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(repository::root())
        .output()
        .expect("cargo can be run");
    assert!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

/// The edges that the tables forbid, as `user -> used`.
fn forbidden(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let user = package["name"].as_str().unwrap_or_default();
        let Some((_, own)) = MAY_USE.iter().find(|(name, _)| *name == user) else {
            found.push(format!("{user} is not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let ours = !dependency["path"].is_null();
            let sharp = SHARP.iter().find(|(name, _)| *name == used);
            if (ours && !own.contains(&used))
                || sharp.is_some_and(|(_, users)| !users.contains(&user))
            {
                found.push(format!("{user} -> {used}"));
            }
        }
    }
    found
}
