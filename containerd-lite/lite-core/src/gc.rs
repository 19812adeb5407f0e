//! Garbage collection: mark what is reachable, sweep the rest.
//!
//! Roots, in every tenant: images; containers; leases that have not expired,
//! with what they hold; blobs and snapshots labelled `containerd.io/gc.root`;
//! ingests that are being written or are young. From there references go by
//! labels (`containerd.io/gc.ref.content…`, `containerd.io/gc.ref.snapshot.<snapshotter>…`)
//! and from a snapshot to its parent.
//!
//! Marking and the removal of records are one write of the database, so
//! nothing can become referenced in between. Files go afterwards; a crash
//! before that leaves files without a record, which opening removes.

mod mark;

use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use crate::content::{self, ContentStore};
use crate::core::Core;
use crate::db::row;
use crate::digest::Digest;
use crate::error::Result;
use crate::events::Events;
use crate::namespace::Namespace;
use crate::snapshots;
use crate::time::{from_nanos, parse_rfc3339};

/// The label that ends a lease by itself: an RFC 3339 time.
pub const EXPIRE: &str = "containerd.io/gc.expire";

/// The label that makes a blob or snapshot a root.
pub const ROOT: &str = "containerd.io/gc.root";

/// The label of a lease that holds its resources, but not what they refer to.
pub const FLAT: &str = "containerd.io/gc.flat";

/// The label of a lease for work that does not outlive this process: such a
/// lease ends when the stores are opened again.
pub(crate) const OF_PROCESS: &str = "containerd-lite/of-process";

/// An ingest that nobody writes or leases is given up after this time.
const INGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs, counted once for each tenant that lost one.
    pub blobs: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of disk that became free.
    pub bytes: u64,
}

/// What is left to remove from the disk once the records are gone.
#[derive(Default)]
struct Swept {
    collected: Collected,
    blobs: Vec<Digest>,
    ingests: Vec<i64>,
    snapshots: Vec<i64>,
    /// To be told of: each tenant's loss.
    lost_blobs: Vec<(Namespace, Digest)>,
    lost_snapshots: Vec<(Namespace, String, String)>,
}

impl Swept {
    fn tell(&self, events: &Events) {
        for (ns, digest) in &self.lost_blobs {
            events.content_deleted(ns, digest.as_str());
        }
        for (ns, snapshotter, name) in &self.lost_snapshots {
            events.snapshot_removed(ns, snapshotter, name);
        }
    }
}

/// Removes everything that no root reaches.
///
/// # Errors
/// Those of the database and the file system. What was removed until then
/// stays removed.
pub fn collect(core: &Core) -> Result<Collected> {
    let mut swept = core.content.while_no_commit(|| {
        let mut swept = core.db.write(|tx| sweep(tx, &core.content))?;
        swept.tell(&core.events);
        for digest in std::mem::take(&mut swept.blobs) {
            swept.collected.bytes += core.content.remove_file(&digest)?;
        }
        Ok(swept)
    })?;
    for id in swept.ingests {
        swept.collected.bytes += core.content.remove_ingest_file(id)?;
    }
    for number in swept.snapshots {
        swept.collected.bytes += core.snapshots.remove_files(number)?;
    }
    Ok(swept.collected)
}

fn sweep(tx: &Connection, content: &ContentStore) -> Result<Swept> {
    let now = SystemTime::now();
    remove_expired_leases(tx, now)?;
    let marked = mark::marked(tx)?;
    let mut swept = Swept::default();
    for (ns, digest) in blobs(tx)? {
        if !marked.has_blob(ns.as_str(), digest.as_str()) {
            content::forget_blob(tx, &ns, &digest)?;
            swept.collected.blobs += 1;
            swept.lost_blobs.push((ns, digest.clone()));
            if !content::known_anywhere(tx, &digest)? {
                swept.blobs.push(digest);
            }
        }
    }
    for (number, ns, snapshotter, name) in all_snapshots(tx)? {
        if !marked.has_snapshot(ns.as_str(), &snapshotter, &name) {
            snapshots::forget(tx, &ns, &snapshotter, &name)?;
            swept.collected.snapshots += 1;
            swept.snapshots.push(number);
            swept.lost_snapshots.push((ns, snapshotter, name));
        }
    }
    for (id, ns, reference, old) in unleased_ingests(tx, now)? {
        // One without a byte, as a failed pull leaves them, is nothing to resume.
        if (old || content.is_empty_ingest(id)) && !content.is_written(&ns, &reference) {
            content::forget_ingest(tx, &ns, &reference)?;
            swept.ingests.push(id);
        }
    }
    Ok(swept)
}

fn remove_expired_leases(tx: &Connection, now: SystemTime) -> Result<()> {
    let mut query = tx.prepare("SELECT namespace, id, labels FROM leases")?;
    let leases = row::all(query.query([])?, |row| {
        Ok((
            row.get::<_, String>("namespace")?,
            row.get::<_, String>("id")?,
            row::labels(row, "labels")?,
        ))
    })?;
    for (ns, id, labels) in leases {
        // An expiry that cannot be read does not end a lease.
        let expired = labels
            .get(EXPIRE)
            .and_then(|text| parse_rfc3339(text))
            .is_some_and(|end| end < now);
        if expired {
            tx.execute(
                "DELETE FROM leases WHERE namespace = ?1 AND id = ?2",
                [ns, id],
            )?;
        }
    }
    Ok(())
}

fn blobs(tx: &Connection) -> Result<Vec<(Namespace, Digest)>> {
    let mut query = tx.prepare("SELECT namespace, digest FROM blobs")?;
    row::all(query.query([])?, |row| {
        Ok((namespace(row)?, row::digest(row, "digest")?))
    })
}

/// Youngest first: children go before their parents.
fn all_snapshots(tx: &Connection) -> Result<Vec<(i64, Namespace, String, String)>> {
    let mut query = tx.prepare(
        "SELECT number, namespace, snapshotter, name FROM snapshots ORDER BY number DESC",
    )?;
    row::all(query.query([])?, |row| {
        Ok((
            row.get("number")?,
            namespace(row)?,
            row.get("snapshotter")?,
            row.get("name")?,
        ))
    })
}

/// Ingests that no lease holds, and whether their time is over.
fn unleased_ingests(
    tx: &Connection,
    now: SystemTime,
) -> Result<Vec<(i64, Namespace, String, bool)>> {
    let mut query = tx.prepare(
        "SELECT id, namespace, ref, started_at FROM ingests i WHERE NOT EXISTS (
            SELECT 1 FROM lease_resources l
            WHERE l.namespace = i.namespace AND l.type = 'ingests' AND l.id = i.ref)",
    )?;
    let mut found = Vec::new();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let old = from_nanos(row.get("started_at")?) + INGEST_LIFE < now;
        found.push((row.get("id")?, namespace(row)?, row.get("ref")?, old));
    }
    Ok(found)
}

fn namespace(row: &rusqlite::Row<'_>) -> Result<Namespace> {
    Namespace::parse(&row.get::<_, String>("namespace")?)
}

#[cfg(test)]
mod tests;
