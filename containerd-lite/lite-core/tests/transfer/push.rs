//! Pushes to Debian's docker-registry, and what a pull has of them.

use lite_core::pull::pull;
use lite_core::push::{Arrived, PushProgress, What, push};
use lite_core::{Descriptor, Image, Kind, Platform, Reference, Result};
use tokio::sync::mpsc;

use crate::fixture::image::Layout;
use crate::fixture::registry::DockerRegistry;
use crate::stores::Stores;

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

async fn pulled(stores: &Stores, name: &str) -> Image {
    let (progress, _) = mpsc::channel(1);
    let platform = Platform::host();
    let reference = reference(name);
    pull(&stores.core, &stores.ns, &reference, &platform, progress)
        .await
        .expect("pull")
        .image
}

/// What came of a push, and how each blob arrived.
async fn pushed(
    stores: &Stores,
    target: &Descriptor,
    name: &str,
    what: What,
) -> (Result<Descriptor>, Vec<Arrived>) {
    let (progress, mut news) = mpsc::channel(1000);
    let core = &stores.core;
    let client = &core.registry;
    let done = push(
        client,
        core,
        &stores.ns,
        target,
        &reference(name),
        &what,
        progress,
    )
    .await;
    let mut arrived = Vec::new();
    while let Some(step) = news.recv().await {
        if let PushProgress::Done { how, .. } = step {
            arrived.push(how);
        }
    }
    (done, arrived)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_is_mounted_in_its_registry_and_sent_to_another() {
    let layout = Layout::demo();
    let (registry, other) = (DockerRegistry::with(&layout), DockerRegistry::start());
    let stores = Stores::new();
    let image = pulled(&stores, &format!("{}/demo:latest", registry.address)).await;

    // One platform is here, the other is in the registry under this name only.
    let own = format!("{}/demo:again", registry.address);
    let (done, arrived) = pushed(&stores, &image.target, &own, What::All).await;
    assert_eq!(done.expect("push"), image.target);
    assert!(
        arrived.iter().all(|how| *how == Arrived::Existed),
        "{arrived:?}"
    );

    let copy = format!("{}/copy:v1", registry.address);
    let (done, arrived) = pushed(&stores, &image.target, &copy, What::Available).await;
    let only = done.expect("push");
    assert_ne!(only, image.target);
    assert!(
        arrived
            .iter()
            .all(|how| *how == Arrived::Mounted("demo".to_owned())),
        "{arrived:?}"
    );

    let elsewhere = format!("{}/a/b/copy:v1", other.address);
    let (done, _) = pushed(&stores, &image.target, &elsewhere, What::All).await;
    let err = done.expect_err("a platform is missing");
    assert_eq!(err.kind(), Kind::FailedPrecondition);
    assert!(lite_core::chain(&err).contains("pull all platforms or push one"));

    let what = What::Platform(Platform::host());
    let (done, arrived) = pushed(&stores, &image.target, &elsewhere, what).await;
    assert_eq!(done.expect("push"), only);
    assert!(
        arrived.iter().all(|how| *how == Arrived::Sent),
        "{arrived:?}"
    );
    let fresh = Stores::new();
    assert_eq!(pulled(&fresh, &elsewhere).await.target.digest, only.digest);
}
