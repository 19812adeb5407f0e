//! Exports, read by the import and by skopeo.

use std::process::Command;

use lite_core::export::{Exported, export};
use lite_core::import::import;
use lite_core::pull::pull;
use lite_core::{Image, Platform, Reference};
use tokio::sync::mpsc;

use crate::fixture::image::Layout;
use crate::fixture::registry::DockerRegistry;
use crate::stores::Stores;

fn exported(stores: &Stores, images: &[Exported], platform: Option<&Platform>) -> Vec<u8> {
    let mut archive = Vec::new();
    export(&stores.core, &stores.ns, images, platform, &mut archive).expect("export");
    archive
}

async fn pulled(stores: &Stores) -> Image {
    let registry = DockerRegistry::with(&Layout::demo());
    let (progress, _) = mpsc::channel(1);
    let name = Reference::parse(&format!("{}/demo:latest", registry.address)).expect("reference");
    let platform = Platform::host();
    let done = pull(&stores.core, &stores.ns, &name, &platform, progress).await;
    done.expect("pull").image
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_imported_under_all_of_its_names() {
    let stores = Stores::new();
    let image = pulled(&stores).await;
    let names = ["docker.io/library/a:1", "docker.io/library/b:2"].map(str::to_owned);
    let one = Exported {
        target: image.target.clone(),
        names: names.to_vec(),
    };
    // The other platform of the index was never pulled.
    let archive = exported(&stores, std::slice::from_ref(&one), None);
    assert_eq!(archive, exported(&stores, std::slice::from_ref(&one), None));
    let fresh = Stores::new();
    let images = import(&fresh.core, &fresh.ns, archive.as_slice())
        .await
        .expect("import");
    let mut found: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    assert_eq!(images[0].target.digest, image.target.digest);
    fresh.files_of(&images[0]).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_both_forms_of_an_export() {
    let stores = Stores::new();
    let image = pulled(&stores).await;
    let one = Exported {
        target: image.target,
        names: vec!["docker.io/library/a:1".to_owned()],
    };
    let host = Platform::host();
    let archive = exported(&stores, &[one], Some(&host));
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("image.tar");
    std::fs::write(&file, archive).expect("write");
    for source in ["docker-archive", "oci-archive"] {
        let out = Command::new("skopeo")
            .args(["inspect", "--config"])
            .arg(format!("{source}:{}", file.display()))
            .output()
            .expect("skopeo (Debian package skopeo)");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{source}: {said}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("rootfs"));
    }
}
