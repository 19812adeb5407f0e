//! Streams, transfers and diffs, as newer clients use them, over gRPC.
#![expect(clippy::unwrap_used, reason = "a test's set-up may fail the test")]

use containerd_lite::api::diff::DiffApi;
use containerd_lite::api::streaming::{StreamingApi, Streams};
use containerd_lite::api::transfer::TransferApi;
use hyper_util::rt::TokioIo;
use lite_core::{Core, CoreConfig, Digest, Filters, Labels, Namespace, OVERLAYFS};
use prost::Message;
use prost_types::Any;
use proto::containerd::services::diff::v1 as diff;
use proto::containerd::services::streaming::v1 as streaming;
use proto::containerd::services::transfer::v1 as transfer;
use proto::containerd::types;
use proto::containerd::types::transfer as parties;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::RoutesBuilder;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Code, Request, Status};

struct Daemon {
    core: Core,
    channel: Channel,
    _dir: tempfile::TempDir,
}

impl Daemon {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("sock");
        let config = CoreConfig {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            address: address.clone(),
            shim_dirs: Vec::new(),
            shim_debug: false,
            registry: lite_core::RegistryConfig::default(),
        };
        let core = lite_core::blocking(move || Core::open(config))
            .await
            .unwrap();
        let streams = Streams::default();
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(streaming::streaming_server::StreamingServer::new(
                StreamingApi::new(streams.clone()),
            ))
            .add_service(transfer::transfer_server::TransferServer::new(
                TransferApi::new(core.clone(), streams),
            ))
            .add_service(diff::diff_server::DiffServer::new(DiffApi::new(
                core.content.clone(),
            )));
        let listener = UnixListenerStream::new(UnixListener::bind(&address).unwrap());
        tokio::spawn(
            Server::builder()
                .add_routes(routes.routes())
                .serve_with_incoming(listener),
        );
        let connect = tower::service_fn(move |_: Uri| {
            let address = address.clone();
            async move { UnixStream::connect(address).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://local")
            .connect_with_connector(connect)
            .await
            .unwrap();
        Self {
            core,
            channel,
            _dir: dir,
        }
    }

    /// Opens the stream `id` and waits until it is known.
    async fn open(&self, id: &str) -> Open {
        let (to, receiver) = mpsc::channel(4);
        let init = streaming::StreamInit { id: id.to_owned() };
        to.send(any("containerd.services.streaming.v1.StreamInit", &init))
            .await
            .unwrap();
        let mut client = streaming::streaming_client::StreamingClient::new(self.channel.clone());
        let request = call(ReceiverStream::new(receiver));
        let mut from = client.stream(request).await.unwrap().into_inner();
        from.message().await.unwrap().expect("the stream is ready");
        Open { to, from }
    }

    async fn transfer(&self, source: Any, destination: Any, progress: &str) -> Result<(), Status> {
        let mut client = transfer::transfer_client::TransferClient::new(self.channel.clone());
        let request = transfer::TransferRequest {
            source: Some(source),
            destination: Some(destination),
            options: Some(transfer::TransferOptions {
                progress_stream: progress.to_owned(),
            }),
        };
        client.transfer(call(request)).await.map(drop)
    }

    fn names(&self) -> Vec<String> {
        let all = self
            .core
            .images
            .list(&Namespace::default(), &Filters::default());
        all.unwrap().into_iter().map(|image| image.name).collect()
    }
}

struct Open {
    to: mpsc::Sender<Any>,
    from: tonic::Streaming<Any>,
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let ns = Namespace::default().to_string().parse().unwrap();
    request.metadata_mut().insert("containerd-namespace", ns);
    request
}

fn any(kind: &str, message: &impl Message) -> Any {
    Any {
        type_url: kind.to_owned(),
        value: message.encode_to_vec(),
    }
}

fn party(kind: &str, message: &impl Message) -> Any {
    any(&format!("containerd.types.transfer.{kind}"), message)
}

fn store(name: &str) -> Any {
    let store = parties::ImageStore {
        name: name.to_owned(),
        ..Default::default()
    };
    party("ImageStore", &store)
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A docker-archive of one image, larger than the window of a stream.
fn archive() -> Vec<u8> {
    let layer = tar_of(&[("file", &vec![7; 300_000])]);
    let config = serde_json::json!({
        "architecture": lite_core::Platform::host().architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).as_str()]},
    })
    .to_string();
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["demo:1"], "Layers": ["layer.tar"],
    }])
    .to_string();
    tar_of(&[
        ("config.json", config.as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// Sends `bytes` as containerd's clients do: never beyond the window.
async fn send(open: Open, bytes: Vec<u8>) {
    let Open { to, mut from } = open;
    let mut window = 0;
    for piece in bytes.chunks(10_000) {
        while window < piece.len() {
            let update = from.message().await.unwrap().expect("a window");
            let update = parties::WindowUpdate::decode(update.value.as_slice()).unwrap();
            window += usize::try_from(update.update).unwrap();
        }
        window -= piece.len();
        let data = parties::Data {
            data: piece.to_vec(),
        };
        to.send(party("Data", &data)).await.unwrap();
    }
    // To go away at once would be to break off.
    drop(to);
    while let Ok(Some(_)) = from.message().await {}
}

/// Receives all bytes, a small window at a time.
async fn receive(mut open: Open) -> Vec<u8> {
    let mut all = Vec::new();
    let grant = parties::WindowUpdate { update: 5_000 };
    loop {
        // The sender may have come to its end.
        let _ = open.to.send(party("WindowUpdate", &grant)).await;
        let end = all.len() + 5_000;
        while all.len() < end {
            let Some(message) = open.from.message().await.unwrap() else {
                return all;
            };
            all.extend(
                parties::Data::decode(message.value.as_slice())
                    .unwrap()
                    .data,
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_imported_tagged_and_exported_over_streams() {
    let daemon = Daemon::start().await;
    let (incoming, progress) = (daemon.open("in").await, daemon.open("news").await);
    let sending = tokio::spawn(send(incoming, archive()));
    let from = parties::ImageImportStream {
        stream: "in".to_owned(),
        ..Default::default()
    };
    daemon
        .transfer(party("ImageImportStream", &from), store(""), "news")
        .await
        .unwrap();
    sending.await.unwrap();
    let mut news = progress.from;
    let first = news.message().await.unwrap().expect("news");
    let first = parties::Progress::decode(first.value.as_slice()).unwrap();
    assert_eq!(
        (first.event.as_str(), first.name.as_str()),
        ("saved", "docker.io/library/demo:1")
    );

    let (one, two) = ("docker.io/library/demo:1", "docker.io/library/demo:2");
    daemon.transfer(store(one), store(two), "").await.unwrap();
    assert_eq!(daemon.names(), [one, two]);

    let receiving = tokio::spawn(receive(daemon.open("out").await));
    let to = parties::ImageExportStream {
        stream: "out".to_owned(),
        ..Default::default()
    };
    daemon
        .transfer(store(two), party("ImageExportStream", &to), "")
        .await
        .unwrap();
    let exported = receiving.await.unwrap();
    let mut exported = tar::Archive::new(exported.as_slice());
    let paths: Vec<String> = exported
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    for wanted in ["index.json", "manifest.json", "oci-layout"] {
        assert!(paths.iter().any(|path| path == wanted), "{paths:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_what_is_not_offered_is_named() {
    let daemon = Daemon::start().await;
    let err = daemon.transfer(store("a"), store("b"), "").await;
    assert_eq!(err.unwrap_err().code(), Code::NotFound);
    let err = daemon.transfer(store("a"), store("b"), "nowhere").await;
    let err = err.unwrap_err();
    assert_eq!(err.code(), Code::NotFound);
    assert!(err.message().contains("nowhere"));
    let other = any("some.Thing", &parties::Data::default());
    let err = daemon.transfer(other, store("b"), "").await.unwrap_err();
    assert_eq!(err.code(), Code::Unimplemented);
    assert!(err.message().contains("some.Thing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_snapshots_differ_in_becomes_a_layer() {
    let daemon = Daemon::start().await;
    let (core, ns) = (daemon.core.clone(), Namespace::default());
    let none = Labels::new();
    core.snapshots
        .prepare(&ns, OVERLAYFS, "base", "", &none)
        .unwrap();
    core.snapshots
        .commit(&ns, OVERLAYFS, "lower", "base", &none)
        .unwrap();
    let view = core
        .snapshots
        .view(&ns, OVERLAYFS, "view", "lower", &none)
        .unwrap();
    let active = core
        .snapshots
        .prepare(&ns, OVERLAYFS, "active", "lower", &none)
        .unwrap();
    let upper = core.snapshots.upper_dir(&ns, OVERLAYFS, "active").unwrap();
    std::fs::write(upper.join("new"), "x").unwrap();
    let wire = |mounts: Vec<lite_core::Mount>| -> Vec<types::Mount> {
        let to_wire = |mount: lite_core::Mount| types::Mount {
            r#type: mount.kind,
            source: mount.source,
            target: mount.target,
            options: mount.options,
        };
        mounts.into_iter().map(to_wire).collect()
    };
    let request = diff::DiffRequest {
        left: wire(view),
        right: wire(active),
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        r#ref: "r".to_owned(),
        ..Default::default()
    };
    let mut client = diff::diff_client::DiffClient::new(daemon.channel.clone());
    let made = client.diff(call(request)).await.unwrap().into_inner();
    let made = made.diff.expect("a layer");
    let digest = Digest::parse(&made.digest).unwrap();
    let bytes = core.content.read(&ns, &digest, 1 << 20).unwrap();
    let mut layer = tar::Archive::new(bytes.as_slice());
    let paths: Vec<String> = layer
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(paths, ["new"]);
}
