//! Packs images out of busybox: the same input gives the same bytes.
//!
//! 1. [`busybox_layer`] is a small root file system as a tar.
//! 2. [`Image`] is layers and a configuration.
//! 3. [`Image::docker_archive`] is what `docker save` would write of it, and
//!    [`Image::oci_layout`] the OCI image layout, both as one tar.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::repository;
use crate::tar::Tar;

/// What makes an image: layers from the lowest up, and the `config` part of
/// its configuration (`Cmd`, `Env`, …).
#[derive(Clone)]
pub struct Image {
    /// Uncompressed layer tars.
    pub layers: Vec<Vec<u8>>,
    /// The part of the image configuration that says how to run it.
    pub config: Value,
}

impl Image {
    /// Busybox, which runs a shell unless told otherwise.
    #[must_use]
    pub fn busybox() -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            layers: vec![busybox_layer()],
            config: json!({"Cmd": ["sh"], "Env": [path]}),
        }
    }

    /// The same with one more layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Tar) -> Self {
        self.layers.push(layer.finish());
        self
    }

    /// The same with `key` of the configuration replaced.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// The image configuration, whose digest is the image's id.
    #[must_use]
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        to_bytes(&json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
    }

    /// The image's id: `sha256:…` of its configuration.
    #[must_use]
    pub fn id(&self) -> String {
        digest(&self.configuration())
    }

    /// A tar as `docker save` writes it, under these names.
    #[must_use]
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let configuration = self.configuration();
        let config_name = format!("{}.json", hex(&configuration));
        let mut archive = Tar::new().file(&config_name, 0o644, &configuration);
        let mut layer_names = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", hex(layer));
            archive = archive.dir(&hex(layer), 0o755).file(&name, 0o644, layer);
            layer_names.push(name);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": layer_names}]);
        archive
            .file("manifest.json", 0o644, &to_bytes(&manifest))
            .finish()
    }

    /// A tar of an OCI image layout that holds it under `reference`.
    #[must_use]
    pub fn oci_layout(&self, reference: &str) -> Vec<u8> {
        let manifest = self.oci_manifest();
        let top = descriptor(OCI_MANIFEST, &manifest);
        layout(
            reference,
            top,
            self.oci_blobs().into_iter().chain([manifest]),
        )
    }

    fn oci_manifest(&self) -> Vec<u8> {
        let layers = self
            .layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer));
        to_bytes(&json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.configuration()),
            "layers": layers.collect::<Vec<_>>(),
        }))
    }

    fn oci_blobs(&self) -> Vec<Vec<u8>> {
        let mut blobs = self.layers.clone();
        blobs.push(self.configuration());
        blobs
    }
}

/// A tar of an OCI image layout with one image for each architecture.
#[must_use]
pub fn oci_layout_of(reference: &str, images: &[(&str, Image)]) -> Vec<u8> {
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    for (architecture, image) in images {
        let manifest = image.oci_manifest();
        let mut entry = descriptor(OCI_MANIFEST, &manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(entry);
        blobs.extend(image.oci_blobs());
        blobs.push(manifest);
    }
    let index =
        to_bytes(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}));
    let top = descriptor(OCI_INDEX, &index);
    blobs.push(index);
    layout(reference, top, blobs)
}

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn layout(reference: &str, mut top: Value, blobs: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    top["annotations"] = json!({
        "org.opencontainers.image.ref.name": reference,
        "io.containerd.image.name": reference,
    });
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    let mut archive = Tar::new()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", 0o644, &to_bytes(&index))
        .dir("blobs", 0o755)
        .dir("blobs/sha256", 0o755);
    let mut written = BTreeSet::new();
    for blob in blobs {
        let name = hex(&blob);
        if written.insert(name.clone()) {
            archive = archive.file(&format!("blobs/sha256/{name}"), 0o644, &blob);
        }
    }
    archive.finish()
}

/// A root file system with busybox under all of its names, users and a /tmp.
///
/// # Panics
/// When busybox is not installed.
#[must_use]
pub fn busybox_layer() -> Vec<u8> {
    let mut tar = Tar::new()
        .dir("bin", 0o755)
        .file("bin/busybox", 0o755, &busybox());
    for applet in busybox_applets() {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    for dir in [
        "dev",
        "etc",
        "home",
        "home/user",
        "proc",
        "sys",
        "usr",
        "usr/bin",
        "var",
    ] {
        tar = tar.dir(dir, 0o755);
    }
    tar.symlink("usr/bin/env", "../../bin/env")
        .dir("root", 0o700)
        .dir("tmp", 0o1777)
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .file(
            "etc/group",
            0o644,
            b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
        )
        .finish()
}

/// The bytes of a statically linked busybox.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn busybox() -> Vec<u8> {
    fs::read(busybox_path()).expect("busybox can be read")
}

/// The system's busybox, or the one that `tests/setup/packages.sh` unpacked
/// where the system's is linked dynamically and would not run in an image.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn busybox_path() -> PathBuf {
    let unpacked = repository::bin_dir().join("../../tools/busybox");
    let mut candidates = ["/usr/bin/busybox".into(), "/bin/busybox".into(), unpacked].into_iter();
    let found = candidates.find(|path: &PathBuf| fs::read(path).is_ok_and(|elf| is_static(&elf)));
    found.expect("there is a static busybox (tests/setup/packages.sh run)")
}

/// A dynamic program names its loader near its beginning.
fn is_static(elf: &[u8]) -> bool {
    let head = &elf[..elf.len().min(4096)];
    elf.starts_with(b"\x7fELF") && !head.windows(8).any(|window| window == b"ld-linux")
}

fn busybox_applets() -> Vec<String> {
    let out = Command::new(busybox_path())
        .arg("--list")
        .output()
        .expect("busybox can be run");
    let list = String::from_utf8(out.stdout).expect("applet names are ASCII");
    list.lines()
        .filter(|name| *name != "busybox")
        .map(str::to_owned)
        .collect()
}

/// `sha256:…` of these bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// The SHA-256 of these bytes in hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value can be written")
}
