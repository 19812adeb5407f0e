//! What a transfer tells its client, in the words that containerd's clients show.

use lite_core::pull::{BlobRole, BlobState, PullProgress};
use lite_core::push::{Arrived, PushProgress};
use lite_core::{Descriptor, UnpackProgress};
use proto::containerd::types::transfer as wire;
use tokio::sync::mpsc;

use crate::api::streaming::Channel;
use crate::api::wire::{signed, to_descriptor};

const PROGRESS: &str = "containerd.types.transfer.Progress";

/// The way to the client; without a stream nothing is told.
pub(super) struct Progress(Option<Channel>);

impl Progress {
    pub(super) fn over(channel: Option<Channel>) -> Self {
        Self(channel)
    }

    async fn tell(&self, news: wire::Progress) {
        if let Some(channel) = &self.0 {
            // A client that looks no more still wants its image.
            let _ = channel.send(PROGRESS, &news).await;
        }
    }

    /// One event of something by name.
    pub(super) async fn said(&self, event: &str, name: &str) {
        self.tell(wire::Progress {
            event: event.to_owned(),
            name: name.to_owned(),
            ..wire::Progress::default()
        })
        .await;
    }

    /// Tells of a pull until it is over.
    pub(super) async fn of_pull(&self, image: String, mut news: mpsc::Receiver<PullProgress>) {
        while let Some(step) = news.recv().await {
            let told = match step {
                PullProgress::Resolved { target } => wire::Progress {
                    event: "resolved".to_owned(),
                    name: image.clone(),
                    desc: Some(to_descriptor(target)),
                    ..wire::Progress::default()
                },
                PullProgress::Blob {
                    digest,
                    role,
                    state,
                    offset,
                    total,
                } => wire::Progress {
                    event: word(state).to_owned(),
                    name: format!("{}-{digest}", kind(role)),
                    parents: vec![image.clone()],
                    progress: signed(offset),
                    total: signed(total),
                    ..wire::Progress::default()
                },
                PullProgress::Unpack(step) => {
                    let (event, layer) = match step {
                        UnpackProgress::Started { layer } => ("extracting", layer),
                        UnpackProgress::Exists { layer } | UnpackProgress::Done { layer, .. } => {
                            ("extracted", layer)
                        }
                    };
                    wire::Progress {
                        event: event.to_owned(),
                        name: format!("layer-{layer}"),
                        parents: vec![image.clone()],
                        ..wire::Progress::default()
                    }
                }
            };
            self.tell(told).await;
        }
    }

    /// Tells of a push until it is over.
    pub(super) async fn of_push(&self, image: &str, mut news: mpsc::Receiver<PushProgress>) {
        let about = |event: &str, name: String, progress: u64, total: u64| wire::Progress {
            event: event.to_owned(),
            name,
            parents: vec![image.to_owned()],
            progress: signed(progress),
            total: signed(total),
            ..wire::Progress::default()
        };
        while let Some(step) = news.recv().await {
            let told = match step {
                PushProgress::Target(target) => {
                    with(about("pushing content", image.to_owned(), 0, 0), target)
                }
                PushProgress::Sending {
                    digest,
                    offset,
                    total,
                } => about("uploading", format!("layer-{digest}"), offset, total),
                PushProgress::Done { digest, total, how } => {
                    let event = match how {
                        Arrived::Existed | Arrived::Foreign => "already exists",
                        Arrived::Mounted(_) => "mounted",
                        Arrived::Sent => "complete",
                    };
                    about(event, format!("layer-{digest}"), total, total)
                }
                PushProgress::Manifest(manifest) => {
                    let (name, size) = (format!("manifest-{}", manifest.digest), manifest.size);
                    with(about("complete", name, size, size), manifest)
                }
            };
            self.tell(told).await;
        }
    }
}

fn with(mut news: wire::Progress, descriptor: Descriptor) -> wire::Progress {
    news.desc = Some(to_descriptor(descriptor));
    news
}

fn word(state: BlobState) -> &'static str {
    match state {
        BlobState::Exists => "already exists",
        BlobState::Waiting => "waiting",
        BlobState::Downloading => "downloading",
        BlobState::Downloaded => "complete",
    }
}

fn kind(role: BlobRole) -> &'static str {
    match role {
        BlobRole::Index => "index",
        BlobRole::Manifest => "manifest",
        BlobRole::Config => "config",
        BlobRole::Layer => "layer",
    }
}
