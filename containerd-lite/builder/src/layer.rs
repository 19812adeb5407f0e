//! From a snapshot that a step has written to a committed layer: fixed times, a blob, the snapshot under its chainID.

use lite_core::{Because as _, Core, Digest, Kind, Labels, Namespace, Result};

use crate::SNAPSHOTTER;
use crate::cache::{Layer, Outcome};
use crate::copy::fix_times;

/// A written snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Its key.
    pub key: &'a str,
    /// The chainID below it; empty over nothing.
    pub parent: &'a str,
    /// When the step began: what changed since then gets the time `time_s`. Both in seconds since 1970.
    pub since_s: i64,
    /// The time of what the step wrote.
    pub time_s: i64,
}

/// Commits what the step wrote. A step that wrote nothing makes no layer.
///
/// # Errors
/// Those of the stores.
pub fn commit(core: &Core, ns: &Namespace, lease: &str, written: Written<'_>) -> Result<Outcome> {
    let snapshots = core.snapshots.leased(Some(lease));
    let upper = snapshots.upper_dir(ns, SNAPSHOTTER, written.key)?;
    let context = || format!("fix times in {}", upper.display());
    let is_empty = std::fs::read_dir(&upper).op(context)?.next().is_none();
    if is_empty {
        snapshots.remove(ns, SNAPSHOTTER, written.key)?;
        return Ok(Outcome { layer: None });
    }
    fix_times(&upper, written.since_s, written.time_s).op(context)?;
    let made = lite_core::diff::of_snapshot(core, ns, Some(lease), SNAPSHOTTER, written.key)?;
    let chain = chain_id(written.parent, &made.diff_id);
    let committed = snapshots.commit(ns, SNAPSHOTTER, chain.as_str(), written.key, &Labels::new());
    match committed {
        // The same step, done elsewhere meanwhile: theirs is as good.
        Err(err) if err.kind() == Kind::AlreadyExists => {
            snapshots.remove(ns, SNAPSHOTTER, written.key)?;
        }
        committed => committed?,
    }
    Ok(Outcome {
        layer: Some(Layer {
            diff_id: made.diff_id.to_string(),
            digest: made.blob.digest.to_string(),
            size: made.blob.size,
            media_type: made.blob.media_type,
            chain_id: chain.to_string(),
        }),
    })
}

/// The image specification's chainID of `diff_id` on top of `parent`.
fn chain_id(parent: &str, diff_id: &Digest) -> Digest {
    if parent.is_empty() {
        return diff_id.clone();
    }
    Digest::of(format!("{parent} {diff_id}").as_bytes())
}
