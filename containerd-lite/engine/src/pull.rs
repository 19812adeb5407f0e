//! Pulls an image from a registry and unpacks it.

use lite_core::UnpackProgress;
use lite_core::pull::{self, BlobState, PullProgress};
use lite_core::{Credentials, Kind, Platform, Reference, Result};
use tokio::sync::mpsc;

use crate::accounts;
use crate::engine::Engine;

/// News of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullNews {
    /// One blob or layer.
    Progress {
        /// Its digest.
        id: String,
        /// Docker's words for what is happening.
        status: &'static str,
        /// Bytes that are here.
        current: u64,
        /// Bytes there will be; zero when not known.
        total: u64,
    },
    /// The last message: the image is there.
    Done {
        /// The normalised reference.
        reference: String,
        /// Digest of what it points to.
        digest: String,
        /// False when all was there already.
        downloaded: bool,
    },
}

/// News that waits for a client that does not read; counts are dropped then,
/// changes of state wait.
const WAITING: usize = 64;

/// Pulls `reference`, as typed, for `platform` (empty: this machine's), in
/// the name of whoever has `credentials`. The pull ends when the receiver is dropped; what has arrived is kept for the
/// next one.
///
/// # Errors
/// InvalidArgument for reference and platform; all else comes as the last
/// message.
pub fn pull(
    engine: &Engine,
    reference: &str,
    platform: &str,
    credentials: Option<Credentials>,
) -> Result<mpsc::Receiver<Result<PullNews>>> {
    let reference = Reference::parse(reference).map_err(|err| {
        Kind::InvalidArgument
            .error("invalid reference format")
            .because(err)
    })?;
    let platform = match platform {
        "" => Platform::host(),
        typed => Platform::parse(typed).ok_or_else(|| {
            Kind::InvalidArgument.error(format!(
                "platform {typed:?}: expected os/arch or os/arch/variant"
            ))
        })?,
    };
    let (news, receiver) = mpsc::channel(WAITING);
    let engine = engine.clone();
    let client = accounts::client(&engine, reference.domain(), credentials);
    tokio::spawn(async move {
        let (progress, raw) = mpsc::channel(WAITING);
        let (core, ns) = (engine.core(), engine.ns());
        let work = pull::pull_with(&client, core, ns, &reference, &platform, progress);
        let forwarded = forward(raw, &news);
        let outcome = tokio::select! {
            (outcome, ()) = async { tokio::join!(work, forwarded) } => outcome,
            () = news.closed() => return,
        };
        if let Err(err) = &outcome
            && leaves_litter(err.kind())
        {
            engine.sweep().await;
        }
        let last = outcome.map(|pulled| PullNews::Done {
            reference: pulled.image.name.clone(),
            digest: pulled.image.target.digest.as_str().to_owned(),
            downloaded: pulled.downloaded,
        });
        let _ = news.send(last).await;
    });
    Ok(receiver)
}

/// Whether what has arrived is of no use to the next pull. A registry that is
/// away comes back, and then the pull goes on where it stopped.
fn leaves_litter(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Unavailable | Kind::Cancelled | Kind::DeadlineExceeded
    )
}

async fn forward(mut raw: mpsc::Receiver<PullProgress>, news: &mpsc::Sender<Result<PullNews>>) {
    while let Some(progress) = raw.recv().await {
        let Some(told) = tell(progress) else { continue };
        if news.send(Ok(told)).await.is_err() {
            return;
        }
    }
}

fn tell(progress: PullProgress) -> Option<PullNews> {
    Some(match progress {
        PullProgress::Resolved { .. } => return None,
        PullProgress::Blob {
            digest,
            state,
            offset,
            total,
            ..
        } => PullNews::Progress {
            id: digest.as_str().to_owned(),
            status: match state {
                BlobState::Exists => "Already exists",
                BlobState::Waiting => "Waiting",
                BlobState::Downloading => "Downloading",
                BlobState::Downloaded => "Download complete",
            },
            current: offset,
            total,
        },
        PullProgress::Unpack(step) => unpacking(step),
    })
}

fn unpacking(step: UnpackProgress) -> PullNews {
    let (layer, status) = match step {
        UnpackProgress::Exists { layer } => (layer, "Already exists"),
        UnpackProgress::Started { layer } => (layer, "Extracting"),
        UnpackProgress::Done { layer, .. } => (layer, "Pull complete"),
    };
    PullNews::Progress {
        id: layer.as_str().to_owned(),
        status,
        current: 0,
        total: 0,
    }
}
