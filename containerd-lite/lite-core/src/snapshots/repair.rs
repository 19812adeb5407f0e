//! Directories and records brought together when the store opens.
//!
//! A process that was killed leaves directories without a record, which go. A
//! power cut on a file system that does not keep the order of things can leave
//! records without a directory, which are mended or forgotten, by name.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::{Record, SELECT, Shared, SnapshotKind, disk, forget, read};
use crate::db::row;
use crate::error::{Because as _, Result};
use crate::namespace::Namespace;

impl Shared {
    /// Does it, as far as it can be done.
    pub(super) fn repair(&self) -> Result<()> {
        let known = self.db.read(numbers)?;
        let mut there = HashSet::new();
        let context = || format!("list {}", self.root.display());
        for entry in std::fs::read_dir(&self.root).op(context)? {
            let entry = entry.op(context)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            match number {
                Some(number) if known.contains_key(&number) => {
                    if self.is_complete(number, known[&number]) {
                        there.insert(number);
                    }
                }
                _ => {
                    tracing::info!(path = %entry.path().display(), "removing a snapshot's files that have no record");
                    disk::remove(&entry.path())?;
                }
            }
        }
        // Children before their parents.
        let lost = known.keys().filter(|number| !there.contains(number));
        let mut lost: Vec<i64> = lost.copied().collect();
        lost.sort_unstable_by(|one, other| other.cmp(one));
        lost.into_iter().try_for_each(|number| self.mend(number))
    }

    /// Whether everything that mounting it needs is there.
    fn is_complete(&self, number: i64, kind: SnapshotKind) -> bool {
        let work = self.dir(number).join("work");
        self.files(number).is_dir() && (kind != SnapshotKind::Active || work.is_dir())
    }

    /// A snapshot without a directory, or with half of one. One that was just prepared is made again:
    /// nothing in it was acknowledged. A layer is forgotten, and unpacked again by
    /// the next pull, unless others stand on it.
    fn mend(&self, number: i64) -> Result<()> {
        self.db.write(|tx| {
            let Some((ns, snapshotter, record)) = find(tx, number)? else {
                return Ok(());
            };
            let (name, kind) = (&record.info.name, record.info.kind);
            if kind != SnapshotKind::Committed {
                tracing::warn!(snapshot = name, "a snapshot's directory is gone; it is made again, empty");
                if self.files(number).is_dir() {
                    // Only what overlay works in is missing.
                    return disk::make_work(&self.dir(number));
                }
                let like = record.parent.map(|below| self.files(below));
                let like = like.as_deref().filter(|dir| dir.exists());
                return disk::make(&self.dir(number), like, kind == SnapshotKind::Active);
            }
            let used = tx
                .prepare_cached("SELECT 1 FROM snapshots WHERE parent = ?1")?
                .exists([number])?;
            if used {
                tracing::error!(snapshot = name, "a layer's directory is gone, and others stand on it: remove them and pull the image again");
                return Ok(());
            }
            tracing::warn!(snapshot = name, "a layer's directory is gone; the next pull of its image unpacks it again");
            forget(tx, &ns, &snapshotter, name)
        })
    }
}

fn numbers(tx: &Connection) -> Result<HashMap<i64, SnapshotKind>> {
    let mut query = tx.prepare("SELECT number, kind FROM snapshots")?;
    let all = row::all(query.query([])?, |row| {
        let kind = SnapshotKind::parse(&row.get::<_, String>("kind")?)?;
        Ok((row.get("number")?, kind))
    })?;
    Ok(all.into_iter().collect())
}

fn find(tx: &Connection, number: i64) -> Result<Option<(Namespace, String, Record)>> {
    let mut query = tx.prepare_cached(&format!("{SELECT} WHERE s.number = ?1"))?;
    let Some(record) = row::first(query.query([number])?, read)? else {
        return Ok(None);
    };
    let mut query =
        tx.prepare_cached("SELECT namespace, snapshotter FROM snapshots WHERE number = ?1")?;
    row::first(query.query([number])?, |row| {
        let ns = Namespace::parse(&row.get::<_, String>("namespace")?)?;
        Ok((ns, row.get("snapshotter")?, record))
    })
}
