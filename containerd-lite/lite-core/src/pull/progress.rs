//! What a pull tells while it runs.

use tokio::sync::mpsc;

use crate::digest::{Descriptor, Digest};
use crate::unpack::UnpackProgress;

/// One piece of news from a pull.
#[derive(Debug, Clone)]
pub enum PullProgress {
    /// The reference stands for this index or manifest.
    Resolved {
        /// It.
        target: Descriptor,
    },
    /// A blob is in another state, or more of it is here.
    Blob {
        /// Which.
        digest: Digest,
        /// What it is to the image.
        role: BlobRole,
        /// Its state now.
        state: BlobState,
        /// Bytes that are here.
        offset: u64,
        /// Bytes that it has.
        total: u64,
    },
    /// A layer is being unpacked or was.
    Unpack(UnpackProgress),
}

/// What a blob is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobRole {
    /// A list of manifests by platform.
    Index,
    /// Configuration and layers.
    Manifest,
    /// What the image runs by default, and its diffIDs.
    Config,
    /// Files.
    Layer,
}

impl BlobRole {
    /// The name that ingests of this role begin with, as containerd's do, so
    /// that its clients and a pull meet at the same ingest.
    pub(crate) fn ref_prefix(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
        }
    }
}

/// How far a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobState {
    /// It was here before.
    Exists,
    /// Somebody else is fetching it.
    Waiting,
    /// Bytes are arriving.
    Downloading,
    /// It is here and verified.
    Downloaded,
}

/// The sending end of a bounded channel of [`PullProgress`].
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    to: Option<mpsc::Sender<PullProgress>>,
}

impl Reporter {
    pub(crate) fn new(to: mpsc::Sender<PullProgress>) -> Self {
        Self { to: Some(to) }
    }

    /// Tells nobody.
    pub(crate) fn silent() -> Self {
        Self { to: None }
    }

    /// A change of state: waits until there is room for it.
    pub(crate) async fn state(&self, news: PullProgress) {
        if let Some(to) = &self.to {
            // An error means that nobody listens any more.
            let _ = to.send(news).await;
        }
    }

    /// A count that a later one corrects: dropped when there is no room.
    pub(crate) fn count(&self, news: PullProgress) {
        if let Some(to) = &self.to {
            let _ = to.try_send(news);
        }
    }

    /// From the thread that unpacks, which may wait.
    pub(crate) fn unpacking(&self, step: UnpackProgress) {
        if let Some(to) = &self.to {
            let _ = to.blocking_send(PullProgress::Unpack(step));
        }
    }
}
