//! The stores' services through a real client on a real socket: what a unit
//! test of a store cannot see.
#![expect(clippy::unwrap_used, reason = "a test's set-up may fail the test")]

use std::collections::HashMap;

use containerd_lite::api::containers::ContainersApi;
use containerd_lite::api::content::ContentApi;
use containerd_lite::api::diff::DiffApi;
use containerd_lite::api::images::ImagesApi;
use containerd_lite::api::snapshots::SnapshotsApi;
use containerd_lite::collector::Collector;
use hyper_util::rt::TokioIo;
use lite_core::{Core, CoreConfig, Digest};
use prost_types::FieldMask;
use proto::containerd::services::containers::v1 as containers;
use proto::containerd::services::content::v1 as content;
use proto::containerd::services::diff::v1 as diff;
use proto::containerd::services::images::v1 as images;
use proto::containerd::services::snapshots::v1 as snapshots;
use proto::containerd::types::Descriptor;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::RoutesBuilder;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Code, Request, Status, Streaming};

struct Daemon {
    dir: tempfile::TempDir,
    channel: Channel,
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
        let collector = Collector::start(core.clone());
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(content::content_server::ContentServer::new(
                ContentApi::new(core.content.clone(), collector.clone()),
            ))
            .add_service(images::images_server::ImagesServer::new(ImagesApi::new(
                core.images.clone(),
                collector.clone(),
            )))
            .add_service(snapshots::snapshots_server::SnapshotsServer::new(
                SnapshotsApi::new(core.snapshots.clone()),
            ))
            .add_service(diff::diff_server::DiffServer::new(DiffApi::new(
                core.content.clone(),
            )))
            .add_service(containers::containers_server::ContainersServer::new(
                ContainersApi::new(core.containers.clone(), collector),
            ));
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
        Self { dir, channel }
    }

    fn content(&self) -> content::content_client::ContentClient<Channel> {
        content::content_client::ContentClient::new(self.channel.clone())
    }

    /// Opens a write stream; requests are sent one by one.
    async fn writer(&self, first: content::WriteContentRequest) -> Result<Writer, Status> {
        let (requests, receiver) = tokio::sync::mpsc::channel(4);
        requests.send(first).await.unwrap();
        let answers = self
            .content()
            .write(call(ReceiverStream::new(receiver)))
            .await?
            .into_inner();
        Ok(Writer { requests, answers })
    }

    async fn store(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut writer = self
            .writer(write(content::WriteAction::Commit, bytes, 0, Some(&digest)))
            .await
            .unwrap();
        writer.answer().await.unwrap();
        digest
    }
}

struct Writer {
    requests: tokio::sync::mpsc::Sender<content::WriteContentRequest>,
    answers: Streaming<content::WriteContentResponse>,
}

impl Writer {
    async fn send(
        &mut self,
        request: content::WriteContentRequest,
    ) -> Result<content::WriteContentResponse, Status> {
        self.requests.send(request).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Result<content::WriteContentResponse, Status> {
        self.answers
            .message()
            .await
            .map(|answer| answer.expect("an answer"))
    }
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", "default".parse().unwrap());
    request
}

fn write(
    action: content::WriteAction,
    data: &[u8],
    offset: i64,
    expected: Option<&Digest>,
) -> content::WriteContentRequest {
    content::WriteContentRequest {
        action: action.into(),
        r#ref: "ref".to_owned(),
        expected: expected.map(ToString::to_string).unwrap_or_default(),
        offset,
        data: data.to_vec().into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_blob_is_written_resumed_committed_and_read() {
    use content::WriteAction::{Commit, Stat, Write};
    let daemon = Daemon::start().await;
    let digest = Digest::of(b"hello world");
    let mut first = daemon.writer(write(Stat, b"", 0, None)).await.unwrap();
    assert_eq!(first.answer().await.unwrap().offset, 0);
    assert_eq!(
        first
            .send(write(Write, b"hello", 0, None))
            .await
            .unwrap()
            .offset,
        5
    );
    // Another writer has to wait, and the client decides by the code.
    let mut second = daemon.writer(write(Stat, b"", 0, None)).await.unwrap();
    assert_eq!(second.answer().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(
        first
            .send(write(Write, b"x", 3, None))
            .await
            .unwrap_err()
            .code(),
        Code::OutOfRange
    );
    drop((first, second));

    let mut resumed = loop {
        let mut writer = daemon.writer(write(Stat, b"", 0, None)).await.unwrap();
        match writer.answer().await {
            Ok(answer) => break (assert_eq!(answer.offset, 5), writer).1,
            // The server has not seen yet that the first one is gone.
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        resumed
            .send(write(Write, b" world", 5, None))
            .await
            .unwrap()
            .digest,
        digest.as_str()
    );
    let mut commit = write(Commit, b"", 11, Some(&digest));
    commit.labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
    assert_eq!(resumed.send(commit).await.unwrap().digest, digest.as_str());
    assert!(
        resumed.answers.message().await.unwrap().is_none(),
        "a commit ends the stream"
    );

    let mut again = daemon
        .writer(write(Stat, b"", 0, Some(&digest)))
        .await
        .unwrap();
    assert_eq!(
        again.answer().await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let read = content::ReadContentRequest {
        digest: digest.to_string(),
        offset: 6,
        size: 3,
    };
    let mut pieces = daemon
        .content()
        .read(call(read))
        .await
        .unwrap()
        .into_inner();
    let piece = pieces.message().await.unwrap().unwrap();
    assert_eq!((piece.offset, piece.data.as_ref()), (6, b"wor".as_slice()));
    let info = daemon
        .content()
        .info(call(content::InfoRequest {
            digest: digest.to_string(),
        }))
        .await
        .unwrap();
    assert_eq!(info.into_inner().info.unwrap().labels["a"], "b");
}

#[tokio::test]
async fn a_commit_of_the_wrong_digest_is_refused() {
    let daemon = Daemon::start().await;
    let wanted = Digest::of(b"right");
    let mut writer = daemon
        .writer(write(
            content::WriteAction::Commit,
            b"wrong",
            0,
            Some(&wanted),
        ))
        .await
        .unwrap();
    let status = writer.answer().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains(wanted.as_str())
            && status.message().contains(Digest::of(b"wrong").as_str())
    );
}

#[tokio::test]
async fn a_call_without_a_namespace_is_refused() {
    let daemon = Daemon::start().await;
    let status = daemon
        .content()
        .info(content::InfoRequest {
            digest: Digest::of(b"").to_string(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("namespace is required"));
}

#[tokio::test]
async fn labels_of_an_image_change_without_its_target() {
    let daemon = Daemon::start().await;
    let digest = daemon.store(b"manifest").await;
    let mut client = images::images_client::ImagesClient::new(daemon.channel.clone());
    let target = Descriptor {
        media_type: "m".to_owned(),
        digest: digest.to_string(),
        size: 8,
        ..Default::default()
    };
    let image = images::Image {
        name: "i".to_owned(),
        target: Some(target.clone()),
        ..Default::default()
    };
    client
        .create(call(images::CreateImageRequest {
            image: Some(image.clone()),
            ..Default::default()
        }))
        .await
        .unwrap();
    let again = client
        .create(call(images::CreateImageRequest {
            image: Some(image),
            ..Default::default()
        }))
        .await;
    assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);
    let labelled = images::Image {
        name: "i".to_owned(),
        labels: HashMap::from([("a.b".to_owned(), "c".to_owned())]),
        ..Default::default()
    };
    let mask = FieldMask {
        paths: vec!["labels.a.b".to_owned()],
    };
    let update = images::UpdateImageRequest {
        image: Some(labelled),
        update_mask: Some(mask),
        ..Default::default()
    };
    let updated = client
        .update(call(update))
        .await
        .unwrap()
        .into_inner()
        .image
        .unwrap();
    assert_eq!(
        (updated.target, updated.labels["a.b"].as_str()),
        (Some(target), "c")
    );
    let gone = client
        .delete(call(images::DeleteImageRequest {
            name: "i".to_owned(),
            sync: true,
            target: None,
        }))
        .await;
    gone.unwrap();
    let status = daemon
        .content()
        .info(call(content::InfoRequest {
            digest: digest.to_string(),
        }))
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        Code::NotFound,
        "a synchronous removal collects"
    );
}

#[tokio::test]
async fn a_layer_is_applied_to_prepared_mounts() {
    let daemon = Daemon::start().await;
    std::fs::create_dir(daemon.dir.path().join("tree")).unwrap();
    std::fs::write(daemon.dir.path().join("tree/file"), "text").unwrap();
    let tar = std::process::Command::new("tar")
        .arg("-C")
        .arg(daemon.dir.path().join("tree"))
        .args(["-c", "."])
        .output()
        .unwrap()
        .stdout;
    let digest = daemon.store(&tar).await;
    let mut client = snapshots::snapshots_client::SnapshotsClient::new(daemon.channel.clone());
    let prepare = snapshots::PrepareSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: "k".to_owned(),
        ..Default::default()
    };
    let mounts = client
        .prepare(call(prepare))
        .await
        .unwrap()
        .into_inner()
        .mounts;
    let layer = Descriptor {
        digest: digest.to_string(),
        size: i64::try_from(tar.len()).unwrap(),
        ..Default::default()
    };
    let apply = diff::ApplyRequest {
        diff: Some(layer),
        mounts: mounts.clone(),
        ..Default::default()
    };
    let applied = diff::diff_client::DiffClient::new(daemon.channel.clone())
        .apply(call(apply))
        .await
        .unwrap();
    assert_eq!(
        applied.into_inner().applied.unwrap().digest,
        digest.as_str()
    );
    assert_eq!(
        std::fs::read_to_string(format!("{}/file", mounts[0].source)).unwrap(),
        "text"
    );
}

#[tokio::test]
async fn containers_are_listed_as_a_stream() {
    let daemon = Daemon::start().await;
    let mut client = containers::containers_client::ContainersClient::new(daemon.channel.clone());
    for id in ["a", "b"] {
        let runtime = Some(containers::container::Runtime {
            name: "r".to_owned(),
            options: None,
        });
        let container = containers::Container {
            id: id.to_owned(),
            runtime,
            ..Default::default()
        };
        client
            .create(call(containers::CreateContainerRequest {
                container: Some(container),
            }))
            .await
            .unwrap();
    }
    let filters = vec!["id==b".to_owned()];
    let mut listed = client
        .list_stream(call(containers::ListContainersRequest { filters }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        listed
            .message()
            .await
            .unwrap()
            .unwrap()
            .container
            .unwrap()
            .id,
        "b"
    );
    assert!(listed.message().await.unwrap().is_none());
    let nameless = containers::Container {
        id: "c".to_owned(),
        ..Default::default()
    };
    let status = client
        .create(call(containers::CreateContainerRequest {
            container: Some(nameless),
        }))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
