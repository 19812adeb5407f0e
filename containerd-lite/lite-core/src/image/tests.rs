use serde_json::json;

use super::*;
use crate::core::CoreConfig;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn core() -> (tempfile::TempDir, Core, Namespace) {
    let dir = tempfile::tempdir().unwrap();
    let config = CoreConfig {
        root: dir.path().join("root"),
        state: dir.path().join("state"),
        address: dir.path().join("sock"),
        shim_dirs: Vec::new(),
        shim_debug: false,
        registry: registry::Config::default(),
    };
    let core = Core::open(config).unwrap();
    (dir, core, Namespace::default())
}

fn put(core: &Core, ns: &Namespace, media_type: &str, bytes: &[u8]) -> Descriptor {
    let mut ingest = core.content.ingest(ns, None, "put", None).unwrap();
    ingest.write(bytes).unwrap();
    match ingest.commit(None, None, &Labels::new()) {
        Ok(_) => {}
        Err(err) => assert_eq!(err.kind(), Kind::AlreadyExists),
    }
    Descriptor::of(media_type, bytes)
}

fn entry(descriptor: &Descriptor) -> serde_json::Value {
    json!({"mediaType": descriptor.media_type, "digest": descriptor.digest.as_str(), "size": descriptor.size})
}

/// A manifest of one layer for `architecture`.
fn manifest(core: &Core, ns: &Namespace, architecture: &str) -> Descriptor {
    let diff_id = Digest::of(architecture.as_bytes());
    let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]}});
    let config = put(core, ns, CONFIG, config.to_string().as_bytes());
    let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"layer");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": entry(&config), "layers": [entry(&layer)]});
    put(core, ns, MANIFEST, manifest.to_string().as_bytes())
}

fn index(core: &Core, ns: &Namespace, platforms: &[(&Descriptor, &str)]) -> Descriptor {
    let manifests: Vec<_> = platforms
        .iter()
        .map(|(descriptor, architecture)| {
            let mut entry = entry(descriptor);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    put(
        core,
        ns,
        INDEX,
        json!({"schemaVersion": 2, "manifests": manifests})
            .to_string()
            .as_bytes(),
    )
}

#[test]
fn an_index_leads_to_the_platforms_image() {
    let (_dir, core, ns) = core();
    let (amd64, arm64) = (manifest(&core, &ns, "amd64"), manifest(&core, &ns, "arm64"));
    let index = index(&core, &ns, &[(&amd64, "amd64"), (&arm64, "arm64")]);
    let resolved = resolve(&core, &ns, &index, &Platform::parse("linux/arm64").unwrap()).unwrap();
    assert_eq!(
        (resolved.manifest.digest, resolved.layers.len()),
        (arm64.digest, 1)
    );
    assert_eq!(resolved.chain_id, Some(Digest::of(b"arm64")));
    let err = resolve(&core, &ns, &index, &Platform::parse("linux/s390x").unwrap()).unwrap_err();
    assert_eq!(err.kind(), Kind::NotFound);
    let err = resolve(&core, &ns, &amd64, &Platform::parse("linux/arm64").unwrap()).unwrap_err();
    assert_eq!(err.kind(), Kind::NotFound);
}

#[test]
fn labels_lead_to_all_children() {
    let (_dir, core, ns) = core();
    let amd64 = manifest(&core, &ns, "amd64");
    let absent = Descriptor::of(MANIFEST, b"absent");
    let index = index(&core, &ns, &[(&amd64, "amd64"), (&absent, "arm64")]);
    label_children(&core, &ns, &index).unwrap();
    let labels = core.content.info(&ns, &index.digest).unwrap().labels;
    assert_eq!(
        labels["containerd.io/gc.ref.content.m.0"],
        amd64.digest.as_str()
    );
    assert_eq!(
        labels["containerd.io/gc.ref.content.m.1"],
        absent.digest.as_str()
    );
    let labels = core.content.info(&ns, &amd64.digest).unwrap().labels;
    let children = children(&core, &ns, &amd64).unwrap();
    assert_eq!(
        labels["containerd.io/gc.ref.content.config"],
        children[0].digest.as_str()
    );
    assert_eq!(
        labels["containerd.io/gc.ref.content.l.0"],
        children[1].digest.as_str()
    );
}

#[test]
fn chain_ids_are_the_specs() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let chain = chain_ids(&[a.clone(), b.clone()]);
    assert_eq!(
        chain,
        [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]
    );
    assert_eq!(chain_ids(&[]), []);
}

#[test]
fn hostile_documents_are_refused() {
    let (_dir, core, ns) = core();
    let digest = Digest::of(b"x");
    let deep = "[".repeat(100_000);
    let both = format!(
        r#"{{"manifests":[],"config":{{"mediaType":"x","digest":"{digest}","size":1}},"layers":[]}}"#
    );
    let negative = format!(r#"{{"config":{{"digest":"{digest}","size":-1}}}}"#);
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"schemaVersion":1}"#,
        r#"{"config":{"digest":"sha256:../..","size":1}}"#,
        &deep,
        &both,
        &negative,
    ] {
        let target = put(&core, &ns, MANIFEST, text.as_bytes());
        let err = resolve(&core, &ns, &target, &Platform::host()).unwrap_err();
        assert_eq!(
            err.kind(),
            Kind::InvalidArgument,
            "{}",
            &text[..text.len().min(80)]
        );
        assert!(crate::error::chain(&err).contains(target.digest.as_str()));
    }
    let mut wrong_size = manifest(&core, &ns, "amd64");
    wrong_size.size += 1;
    assert_eq!(
        resolve(&core, &ns, &wrong_size, &Platform::host())
            .unwrap_err()
            .kind(),
        Kind::InvalidArgument
    );
}
