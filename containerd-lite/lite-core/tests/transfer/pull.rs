//! Pulls from Debian's docker-registry, and from a server that misbehaves.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lite_core::pull::{BlobState, PullProgress, Pulled, pull, pull_with};
use lite_core::{Digest, Filters, Kind, Platform, Result, UnpackProgress, chain, gc};
use registry::{Client, Config, Reference, RetryPolicy};
use serde_json::json;
use tokio::sync::mpsc;

use crate::fixture::image::{Entry, Layout, tar_of};
use crate::fixture::misbehaving::{Reply, Server, serve_layout};
use crate::fixture::registry::DockerRegistry;
use crate::stores::Stores;

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

fn digest(value: &serde_json::Value) -> Digest {
    Digest::parse(value["digest"].as_str().expect("digest")).expect("digest")
}

/// A channel whose receiver is gone.
fn nobody() -> mpsc::Sender<PullProgress> {
    let (progress, _) = mpsc::channel(1);
    progress
}

/// Pulls with nobody listening to the progress.
async fn pull_quietly(stores: &Stores, name: &str) -> Result<Pulled> {
    let progress = nobody();
    pull(
        &stores.core,
        &stores.ns,
        &reference(name),
        &Platform::host(),
        progress,
    )
    .await
}

/// Pulls with little patience.
async fn pull_hastily(
    stores: &Stores,
    name: &str,
    progress: mpsc::Sender<PullProgress>,
) -> Result<Pulled> {
    let client = Client::new(Config {
        retry: RetryPolicy {
            attempts: 2,
            first_pause: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..Config::default()
    })
    .expect("client");
    pull_with(
        &client,
        &stores.core,
        &stores.ns,
        &reference(name),
        &Platform::host(),
        progress,
    )
    .await
}

/// A layer that no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let file: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes / 8)
    .flatten()
    .collect();
    tar_of(&[Entry::File("noise", &file)])
}

fn layer_of(layout: &Layout) -> Digest {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).expect("index"))
            .expect("json");
    let manifest = layout
        .path()
        .join("blobs/sha256")
        .join(digest(&index["manifests"][0]).hex());
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(manifest).expect("manifest")).expect("json");
    digest(&manifest["layers"][0])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_platform_of_an_index_is_pulled_and_unpacked() {
    let layout = Layout::demo();
    let registry = DockerRegistry::with(&layout);
    let stores = Stores::new();
    let name = format!("{}/demo:latest", registry.address);
    let (progress, mut news) = mpsc::channel(1000);
    let platform = Platform::host();
    let pulled = pull(
        &stores.core,
        &stores.ns,
        &reference(&name),
        &platform,
        progress,
    )
    .await
    .expect("pull");
    assert!(pulled.downloaded);
    assert_eq!(pulled.image.name, name);

    let (mut downloaded, mut unpacked, mut resolved) = (0, 0, false);
    while let Some(step) = news.recv().await {
        match step {
            PullProgress::Resolved { target } => resolved = target == pulled.image.target,
            PullProgress::Blob {
                state: BlobState::Downloaded,
                offset,
                total,
                ..
            } => {
                assert_eq!(offset, total);
                downloaded += 1;
            }
            PullProgress::Unpack(UnpackProgress::Done { .. }) => unpacked += 1,
            _ => {}
        }
    }
    assert!(resolved);
    // Index, manifest, configuration, two layers; nothing of the other platform.
    assert_eq!((downloaded, unpacked), (5, 2));
    assert_eq!(
        stores
            .core
            .content
            .list(&stores.ns, &Filters::default())
            .expect("list")
            .len(),
        5
    );

    stores.wait_for_no_lease();
    let collected = gc::collect(&stores.core).expect("collect");
    assert_eq!(
        (collected.blobs, collected.snapshots),
        (0, 0),
        "the image keeps all of its own"
    );
    stores.files_of(&pulled.image).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_schema2_is_pulled() {
    let layout = Layout::demo();
    let registry = DockerRegistry::start();
    registry.push(&layout, "owner/v2s2:old", &["--format", "v2s2"]);
    let stores = Stores::new();
    let pulled = pull_quietly(&stores, &format!("{}/owner/v2s2:old", registry.address))
        .await
        .expect("pull");
    assert_eq!(
        pulled.image.target.media_type,
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    stores.files_of(&pulled.image).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_already_costs_one_head() {
    let layout = Layout::demo();
    let dir = layout.path().to_owned();
    let server = Server::start(move |seen, _| serve_layout(&dir, seen)).await;
    let stores = Stores::new();
    let name = format!("{}/demo", server.address);
    assert!(pull_quietly(&stores, &name).await.expect("pull").downloaded);
    let before = server.seen().len();
    assert!(
        !pull_quietly(&stores, &name)
            .await
            .expect("again")
            .downloaded
    );
    let methods: Vec<_> = server.seen()[before..]
        .iter()
        .map(|seen| seen.method.clone())
        .collect();
    assert_eq!(methods, ["HEAD"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_blob_is_fetched_again() {
    let layout = Layout::demo();
    let dir = layout.path().to_owned();
    let server = Server::start(move |seen, _| serve_layout(&dir, seen)).await;
    let stores = Stores::new();
    let name = format!("{}/demo", server.address);
    let image = pull_quietly(&stores, &name).await.expect("pull").image;
    let all = stores
        .core
        .content
        .list(&stores.ns, &Filters::default())
        .expect("list");
    let largest = all.iter().max_by_key(|info| info.size).expect("a layer");
    let file = stores
        .core
        .config
        .root
        .join("content/blobs/sha256")
        .join(largest.digest.hex());
    fs::remove_file(&file).expect("lose a blob");
    assert!(
        pull_quietly(&stores, &name)
            .await
            .expect("again")
            .downloaded
    );
    assert!(file.exists());
    stores.files_of(&image).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_image_is_one_clear_line_and_leaves_nothing() {
    let registry = DockerRegistry::start();
    let host = &registry.address;
    let stores = Stores::new();
    let err = pull_quietly(&stores, &format!("{host}/nope"))
        .await
        .expect_err("absent");
    assert_eq!(err.kind(), Kind::NotFound);
    assert_eq!(
        chain(&err),
        format!(
            "pull {host}/nope:latest: manifest {host}/nope:latest not found in registry {host}"
        )
    );
    stores.assert_nothing_but_litter();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_named() {
    let host = Server::start(|_, _| Reply::ok("")).await.address.clone();
    let stores = Stores::new();
    let err = pull_hastily(&stores, &format!("{host}/a"), nobody())
        .await
        .expect_err("away");
    assert_eq!(err.kind(), Kind::Unavailable);
    assert_eq!(
        chain(&err),
        format!(
            "pull {host}/a:latest: registry {host} is unreachable: Connection refused (os error 111)"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there_is_told_with_those_that_are() {
    let layout = Layout::demo();
    let registry = DockerRegistry::with(&layout);
    let stores = Stores::new();
    let platform = Platform::parse("linux/riscv64").expect("platform");
    let name = reference(&format!("{}/demo", registry.address));
    let err = pull(&stores.core, &stores.ns, &name, &platform, nobody())
        .await
        .expect_err("platform");
    assert_eq!(err.kind(), Kind::NotFound);
    let line = chain(&err);
    assert!(
        line.contains("no image for linux/riscv64, only for linux/arm64/v8, linux/amd64"),
        "{line}"
    );
    stores.assert_nothing_but_litter();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_other_bytes_is_named_and_fetched_anew_later() {
    let layout = Layout::single(&noise(100_000));
    let registry = DockerRegistry::with(&layout);
    let layer = layer_of(&layout);
    let file = registry.blob_file(&registry::Digest::parse(layer.as_str()).expect("digest"));
    let good = fs::read(&file).expect("blob");
    let mut bad = good.clone();
    bad[50_000] ^= 1;
    fs::write(&file, &bad).expect("corrupt");

    let stores = Stores::new();
    let name = format!("{}/demo", registry.address);
    let err = pull_quietly(&stores, &name).await.expect_err("corrupt");
    assert_eq!(err.kind(), Kind::DataLoss);
    let line = chain(&err);
    assert!(
        line.contains(layer.as_str()) && line.contains(Digest::of(&bad).as_str()),
        "{line}"
    );
    assert!(!stores.has(&layer));
    let ingests = stores
        .core
        .content
        .statuses(&stores.ns, &Filters::default())
        .expect("statuses");
    // Another blob's ingest may have been cut off with the pull, to be resumed.
    assert!(
        ingests
            .iter()
            .all(|ingest| ingest.expected.as_ref() != Some(&layer)),
        "{ingests:?}"
    );

    fs::write(&file, &good).expect("repair");
    let image = pull_quietly(&stores, &name).await.expect("pull").image;
    assert!(stores.files_of(&image).read("noise").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_no_archive_is_named_and_the_image_gets_no_name() {
    let layout = Layout::single(b"this is not a tar archive");
    let registry = DockerRegistry::with(&layout);
    let stores = Stores::new();
    let err = pull_quietly(&stores, &format!("{}/demo", registry.address))
        .await
        .expect_err("no tar");
    let line = chain(&err);
    assert!(line.contains(layer_of(&layout).as_str()), "{line}");
    stores.assert_nothing_but_litter();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_pull_is_resumed_where_it_stopped() {
    let layout = Layout::single(&noise(400_000));
    let layer = layer_of(&layout);
    let broken = Arc::new(AtomicBool::new(true));
    let (dir, breaks, wanted) = (layout.path().to_owned(), broken.clone(), layer.clone());
    let server = Server::start(move |seen, _| {
        let reply = serve_layout(&dir, seen);
        if breaks.load(Ordering::SeqCst) && seen.path.ends_with(wanted.as_str()) {
            return reply.cut_after(100_000);
        }
        reply
    })
    .await;
    let stores = Stores::new();
    let name = format!("{}/demo", server.address);
    let err = pull_hastily(&stores, &name, nobody())
        .await
        .expect_err("cut");
    assert_eq!(err.kind(), Kind::Unavailable, "{}", chain(&err));
    let held = stores
        .core
        .content
        .status(&stores.ns, &format!("layer-{layer}"))
        .expect("partial")
        .offset;
    assert_eq!(held, 200_000, "two attempts of 100000 bytes");
    assert_eq!(
        stores
            .core
            .images
            .list(&stores.ns, &Filters::default())
            .expect("images"),
        []
    );

    broken.store(false, Ordering::SeqCst);
    let image = pull_hastily(&stores, &name, nobody())
        .await
        .expect("resumed")
        .image;
    assert_eq!(
        server.seen().last().expect("requests").range_start(),
        Some(200_000)
    );
    assert!(stores.files_of(&image).read("noise").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_can_be_taken_up_again() {
    let layout = Layout::single(&noise(400_000));
    let layer = layer_of(&layout);
    let stalled = Arc::new(AtomicBool::new(true));
    let (dir, stalls, wanted) = (layout.path().to_owned(), stalled.clone(), layer.clone());
    let server = Server::start(move |seen, _| {
        let reply = serve_layout(&dir, seen);
        if stalls.load(Ordering::SeqCst) && seen.path.ends_with(wanted.as_str()) {
            return reply.silent_after(100_000);
        }
        reply
    })
    .await;
    let stores = Stores::new();
    let name = format!("{}/demo", server.address);
    let reference_in_store = format!("layer-{layer}");
    let offset = || {
        stores
            .core
            .content
            .status(&stores.ns, &reference_in_store)
            .map_or(0, |status| status.offset)
    };
    tokio::select! {
        pulled = pull_hastily(&stores, &name, nobody()) => panic!("the server stalls: {pulled:?}"),
        () = async { while offset() < 100_000 { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
    }
    // Collection leaves alone what it has brought.
    stores.wait_for_an_interrupted_pull(&format!("{name}:latest"));
    gc::collect(&stores.core).expect("collect");
    let before = server.seen().len();

    stalled.store(false, Ordering::SeqCst);
    let image = pull_hastily(&stores, &name, nobody())
        .await
        .expect("taken up")
        .image;
    assert_eq!(
        server.seen().last().expect("requests").range_start(),
        Some(100_000)
    );
    // Asked again: what the name stands for, and the rest of the layer.
    assert_eq!(server.seen().len() - before, 2);
    assert!(stores.files_of(&image).read("noise").is_some());
    stores.wait_for_no_lease();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_at_once_fetch_each_blob_once() {
    let layout = Layout::demo();
    let dir = layout.path().to_owned();
    let server = Server::start(move |seen, _| serve_layout(&dir, seen)).await;
    let stores = Stores::new();
    let (one, two) = (
        format!("{}/demo:one", server.address),
        format!("{}/demo:two", server.address),
    );
    let (first, second, third) = tokio::join!(
        pull_quietly(&stores, &one),
        pull_quietly(&stores, &one),
        pull_quietly(&stores, &two)
    );
    for pulled in [first, second, third] {
        stores
            .core
            .images
            .get(&stores.ns, &pulled.expect("pull").image.name)
            .expect("named");
    }
    let mut blobs: Vec<_> = server
        .seen()
        .into_iter()
        .map(|seen| seen.path)
        .filter(|path| path.contains("/blobs/"))
        .collect();
    let fetched = blobs.len();
    blobs.sort();
    blobs.dedup();
    assert_eq!((fetched, blobs.len()), (3, 3));
    let image = stores.core.images.get(&stores.ns, &two).expect("named");
    stores.files_of(&image).assert_demo();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_one_clear_line_and_gives_its_space_back() {
    let layout = Layout::new();
    let layers: Vec<_> = (0..3).map(|n| noise(2_000_000 + n * 8)).collect();
    let image = layout.image("amd64", &layers);
    layout.write_index(&[crate::fixture::image::with(
        image,
        "annotations",
        json!({"org.opencontainers.image.ref.name": "demo"}),
    )]);
    let registry = DockerRegistry::with(&layout);
    let stores = Stores::on_small_disk(3 << 20);
    let err = pull_quietly(&stores, &format!("{}/demo", registry.address))
        .await
        .expect_err("full");
    assert_eq!(err.kind(), Kind::ResourceExhausted, "{}", chain(&err));
    let line = chain(&err);
    // Whoever meets it first tells it: a file or the database.
    assert!(
        line.ends_with("No space left on device (os error 28)") || line.contains("disk is full"),
        "{line}"
    );
    let ingests = stores
        .core
        .content
        .statuses(&stores.ns, &Filters::default())
        .expect("statuses");
    assert_eq!(ingests, []);
    stores.assert_nothing_but_litter();
    let left = fs::read_dir(stores.core.config.root.join("content/ingest"))
        .expect("ingest")
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_a_kind_that_is_not_offered_is_refused_by_name() {
    let body = br#"{"schemaVersion":1,"name":"old"}"#;
    let server = Server::start(move |_, _| {
        Reply::ok(&body[..])
            .header(
                "content-type",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            )
            .header("docker-content-digest", Digest::of(body).to_string())
    })
    .await;
    let stores = Stores::new();
    let err = pull_quietly(&stores, &format!("{}/old", server.address))
        .await
        .expect_err("schema 1");
    assert_eq!(err.kind(), Kind::Unimplemented);
    assert!(
        chain(&err).contains("manifest.v1+prettyjws"),
        "{}",
        chain(&err)
    );
    stores.assert_nothing_but_litter();
}
