//! Snapshots: stacked file systems by key, made of overlayfs.
//!
//! A snapshot's files are `snapshots/<number>/fs`, with `work` beside it while
//! it is active; the number is its row's and never used twice. The record is
//! written first and removed first, so a directory without one is litter of an
//! unclean end: `Snapshots::new` removes it, and mends a record whose directory a
//! power cut has taken. Nothing is mounted here;
//! callers get mount descriptions.

mod disk;
mod repair;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::error::{Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{LabelUpdate, Labels, check_labels};
use crate::leases;
use crate::namespace::Namespace;
use crate::namespaces;
use crate::time::to_nanos;
use crate::values::Mount;

pub use disk::Usage;

/// The snapshotter that exists.
pub const OVERLAYFS: &str = "overlayfs";

/// A label of a snapshot to be prepared: the name that it will be committed
/// as. If that exists already, there is nothing to prepare.
pub const TARGET_LABEL: &str = "containerd.io/snapshot.ref";

/// What a snapshot can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// Read-only, no children.
    View,
    /// Writable, no children.
    Active,
    /// Unchanging, may have children, is not mounted itself.
    Committed,
}

impl SnapshotKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "view" => Ok(Self::View),
            "active" => Ok(Self::Active),
            "committed" => Ok(Self::Committed),
            other => {
                Err(Kind::DataLoss
                    .error(format!("snapshot kind {other:?} in the metadata database")))
            }
        }
    }
}

/// A snapshot's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its key, or its name when it is committed.
    pub name: String,
    /// The name of the committed snapshot below; empty if none.
    pub parent: String,
    /// What it is.
    pub kind: SnapshotKind,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its labels changed.
    pub updated_at: SystemTime,
    /// Its labels.
    pub labels: Labels,
}

impl Fields for SnapshotInfo {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["name"] => Some(self.name.clone()),
            ["kind"] => Some(self.kind.as_str().to_owned()),
            ["parent"] => (!self.parent.is_empty()).then(|| self.parent.clone()),
            ["labels", key @ ..] => label_field(&self.labels, key),
            _ => None,
        }
    }
}

/// The snapshots of all tenants.
#[derive(Clone)]
pub struct Snapshots {
    shared: Arc<Shared>,
    lease: Option<String>,
}

struct Shared {
    db: Database,
    root: PathBuf,
    /// The kernel has the overlay option `index`, which must be off: an upper
    /// directory may be mounted again after its lower ones were copied.
    has_index: bool,
}

/// A row with its number.
struct Record {
    number: i64,
    parent: Option<i64>,
    usage: Usage,
    info: SnapshotInfo,
}

const SELECT: &str = "SELECT s.number, s.parent, s.name, p.name AS parent_name, s.kind, s.labels, s.size, s.inodes, s.created_at, s.updated_at
    FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent";

impl Snapshots {
    /// Opens the snapshots in `root`, removing directories without a record.
    ///
    /// # Errors
    /// InvalidArgument for a path that overlay's options cannot carry.
    pub(crate) fn new(db: Database, root: PathBuf) -> Result<Self> {
        if root
            .to_str()
            .is_none_or(|root| root.contains([':', ',', '\\']))
        {
            return Err(Kind::InvalidArgument.error(format!(
                "snapshot directory {}: a path with ':', ',' or '\\' cannot be an overlay option",
                root.display()
            )));
        }
        crate::core::make_dir(&root)?;
        let has_index = Path::new("/sys/module/overlay/parameters/index").exists();
        let shared = Shared {
            db,
            root,
            has_index,
        };
        shared.repair()?;
        Ok(Self {
            shared: Arc::new(shared),
            lease: None,
        })
    }

    /// The same store; what is created through it belongs to `lease`.
    #[must_use]
    pub fn leased(&self, lease: Option<&str>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            lease: lease.map(str::to_owned),
        }
    }

    /// Makes a writable snapshot `key` over `parent` (empty: over nothing).
    ///
    /// # Errors
    /// AlreadyExists for the key, or for the label [`TARGET_LABEL`]'s snapshot;
    /// NotFound for the parent; InvalidArgument if that is not committed.
    pub fn prepare(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        parent: &str,
        labels: &Labels,
    ) -> Result<Vec<Mount>> {
        self.create(ns, snapshotter, key, parent, labels, SnapshotKind::Active)
    }

    /// Makes a read-only snapshot `key` of `parent`.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn view(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        parent: &str,
        labels: &Labels,
    ) -> Result<Vec<Mount>> {
        self.create(ns, snapshotter, key, parent, labels, SnapshotKind::View)
    }

    /// How to mount an active snapshot or a view.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition for a committed one.
    pub fn mounts(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
        check_snapshotter(snapshotter)?;
        self.shared.db.read(|tx| {
            let found = find(tx, ns, snapshotter, key)?;
            if found.info.kind == SnapshotKind::Committed {
                return Err(Kind::FailedPrecondition.error(format!(
                    "requested snapshot {key} not active or view: failed precondition"
                )));
            }
            self.shared.describe(tx, &found)
        })
    }

    /// Makes the active snapshot `key` the committed one `name`, with `labels`
    /// only, and measures it.
    ///
    /// # Errors
    /// NotFound; AlreadyExists for the name; FailedPrecondition if it is not
    /// active.
    pub fn commit(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        name: &str,
        key: &str,
        labels: &Labels,
    ) -> Result<()> {
        check_snapshotter(snapshotter)?;
        check_name(name)?;
        check_labels(labels)?;
        // Measured before the write begins: a large tree takes long.
        let before = self.shared.db.read(|tx| find(tx, ns, snapshotter, key))?;
        let usage = disk::usage(&self.shared.files(before.number))?;
        let now = to_nanos(SystemTime::now());
        self.shared.db.write(|tx| {
            let found = find(tx, ns, snapshotter, key)?;
            if found.info.kind != SnapshotKind::Active || found.number != before.number {
                return Err(Kind::FailedPrecondition.error(format!(
                    "snapshot {key:?} is not active: failed precondition"
                )));
            }
            if name != key && exists(tx, ns, snapshotter, name)? {
                return Err(already(name));
            }
            tx.execute(
                "UPDATE snapshots SET name = ?2, kind = 'committed', labels = ?3, size = ?4,
                    inodes = ?5, created_at = ?6, updated_at = ?6 WHERE number = ?1",
                params![
                    found.number,
                    name,
                    row::to_json(labels),
                    row::to_column(usage.size),
                    row::to_column(usage.inodes),
                    now
                ],
            )?;
            leases::release(tx, ns, &resource(snapshotter), key)?;
            leases::hold(tx, ns, self.lease.as_deref(), &resource(snapshotter), name)
        })?;
        self.shared
            .db
            .events()
            .snapshot_committed(ns, snapshotter, key, name);
        Ok(())
    }

    /// Removes a snapshot and its files.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition if it has children.
    pub fn remove(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<()> {
        check_snapshotter(snapshotter)?;
        let number = self.shared.db.write(|tx| {
            let found = find(tx, ns, snapshotter, key)?;
            if tx
                .prepare_cached("SELECT 1 FROM snapshots WHERE parent = ?1")?
                .exists([found.number])?
            {
                return Err(Kind::FailedPrecondition.error(format!(
                    "cannot remove snapshot {key:?} with child: failed precondition"
                )));
            }
            forget(tx, ns, snapshotter, key)?;
            Ok(found.number)
        })?;
        self.shared
            .db
            .events()
            .snapshot_removed(ns, snapshotter, key);
        self.remove_files(number).map(|_| ())
    }

    /// # Errors
    /// NotFound.
    pub fn stat(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<SnapshotInfo> {
        check_snapshotter(snapshotter)?;
        self.shared
            .db
            .read(|tx| Ok(find(tx, ns, snapshotter, key)?.info))
    }

    /// Replaces labels as `update` says and returns the record after it.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for its labels.
    pub fn update(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        labels: &Labels,
        update: &LabelUpdate,
    ) -> Result<SnapshotInfo> {
        check_snapshotter(snapshotter)?;
        self.shared.db.write(|tx| {
            let Record {
                number, mut info, ..
            } = find(tx, ns, snapshotter, key)?;
            info.labels = update.apply(std::mem::take(&mut info.labels), labels)?;
            info.updated_at = SystemTime::now();
            tx.execute(
                "UPDATE snapshots SET labels = ?2, updated_at = ?3 WHERE number = ?1",
                params![
                    number,
                    row::to_json(&info.labels),
                    to_nanos(info.updated_at)
                ],
            )?;
            Ok(info)
        })
    }

    /// Those that `filters` accept, by name.
    ///
    /// # Errors
    /// InvalidArgument for the snapshotter.
    pub fn list(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        filters: &Filters,
    ) -> Result<Vec<SnapshotInfo>> {
        check_snapshotter(snapshotter)?;
        let mut all = self.shared.db.read(|tx| {
            let mut query = tx.prepare_cached(&format!(
                "{SELECT} WHERE s.namespace = ?1 AND s.snapshotter = ?2 ORDER BY s.name"
            ))?;
            row::all(query.query([ns.as_str(), snapshotter])?, |row| {
                Ok(read(row)?.info)
            })
        })?;
        all.retain(|info| filters.accept(info));
        Ok(all)
    }

    /// What the snapshot itself holds, without its parents: measured for an
    /// active one, recorded at commit for a committed one.
    ///
    /// # Errors
    /// NotFound.
    pub fn usage(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<Usage> {
        check_snapshotter(snapshotter)?;
        let found = self.shared.db.read(|tx| find(tx, ns, snapshotter, key))?;
        match found.info.kind {
            SnapshotKind::Active => disk::usage(&self.shared.files(found.number)),
            SnapshotKind::View | SnapshotKind::Committed => Ok(found.usage),
        }
    }

    /// The directory that holds what is written to an active snapshot, in
    /// overlay's form.
    ///
    /// # Errors
    /// NotFound; FailedPrecondition if it is not active.
    pub fn upper_dir(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<PathBuf> {
        check_snapshotter(snapshotter)?;
        let found = self.shared.db.read(|tx| find(tx, ns, snapshotter, key))?;
        if found.info.kind != SnapshotKind::Active {
            return Err(Kind::FailedPrecondition.error(format!(
                "snapshot {key:?} is not active: failed precondition"
            )));
        }
        Ok(self.shared.files(found.number))
    }

    /// The directories of the committed snapshot `name` and those below it,
    /// nearest first. An empty name has none.
    ///
    /// # Errors
    /// NotFound; InvalidArgument if it is not committed.
    pub(crate) fn layer_dirs(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        name: &str,
    ) -> Result<Vec<PathBuf>> {
        let numbers = self
            .shared
            .db
            .read(|tx| match parent_of(tx, ns, snapshotter, name)? {
                None => Ok(Vec::new()),
                top => ancestors(tx, top),
            })?;
        Ok(numbers
            .into_iter()
            .map(|number| self.shared.files(number))
            .collect())
    }

    /// The directory of snapshot `key`, with all that belongs to it.
    ///
    /// # Errors
    /// NotFound.
    pub fn directory(&self, ns: &Namespace, snapshotter: &str, key: &str) -> Result<PathBuf> {
        check_snapshotter(snapshotter)?;
        let found = self.shared.db.read(|tx| find(tx, ns, snapshotter, key))?;
        Ok(self.shared.dir(found.number))
    }

    /// The directories of snapshot `key`, whatever its kind, and those below it,
    /// nearest first: of all below, and with its own on top.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) fn stack(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
    ) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        check_snapshotter(snapshotter)?;
        let (number, below) = self.shared.db.read(|tx| {
            let found = find(tx, ns, snapshotter, key)?;
            Ok((found.number, ancestors(tx, found.parent)?))
        })?;
        let files = |number: i64| self.shared.files(number);
        let below: Vec<PathBuf> = below.into_iter().map(files).collect();
        let whole = std::iter::once(files(number))
            .chain(below.iter().cloned())
            .collect();
        Ok((below, whole))
    }

    /// Makes an existing snapshot belong to this store's lease.
    ///
    /// # Errors
    /// NotFound.
    pub(crate) fn claim(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        name: &str,
    ) -> Result<SnapshotInfo> {
        check_snapshotter(snapshotter)?;
        self.shared.db.write(|tx| {
            let found = find(tx, ns, snapshotter, name)?;
            leases::hold(tx, ns, self.lease.as_deref(), &resource(snapshotter), name)?;
            Ok(found.info)
        })
    }

    /// Removes the files of a snapshot whose record is gone; returns their size.
    pub(crate) fn remove_files(&self, number: i64) -> Result<u64> {
        disk::remove(&self.shared.dir(number))
    }

    fn create(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        parent: &str,
        labels: &Labels,
        kind: SnapshotKind,
    ) -> Result<Vec<Mount>> {
        check_snapshotter(snapshotter)?;
        check_name(key)?;
        check_labels(labels)?;
        let now = to_nanos(SystemTime::now());
        let mounts = self.shared.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            if exists(tx, ns, snapshotter, key)? {
                return Err(already(key));
            }
            if let Some(target) = labels.get(TARGET_LABEL)
                && exists(tx, ns, snapshotter, target)?
            {
                leases::hold(
                    tx,
                    ns,
                    self.lease.as_deref(),
                    &resource(snapshotter),
                    target,
                )?;
                return Ok(None);
            }
            let below = parent_of(tx, ns, snapshotter, parent)?;
            tx.execute(
                "INSERT INTO snapshots
                    (namespace, snapshotter, name, parent, kind, labels, created_at, updated_at)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
                params![
                    ns.as_str(),
                    snapshotter,
                    key,
                    below,
                    kind.as_str(),
                    row::to_json(labels),
                    now
                ],
            )?;
            let number = tx.last_insert_rowid();
            leases::hold(tx, ns, self.lease.as_deref(), &resource(snapshotter), key)?;
            let like = below.map(|below| self.shared.files(below));
            disk::make(
                &self.shared.dir(number),
                like.as_deref(),
                kind == SnapshotKind::Active,
            )?;
            self.shared
                .describe(tx, &find(tx, ns, snapshotter, key)?)
                .map(Some)
        })?;
        if mounts.is_some() {
            let events = self.shared.db.events();
            events.snapshot_prepared(ns, snapshotter, key, parent);
        }
        mounts.ok_or_else(|| {
            let target = labels
                .get(TARGET_LABEL)
                .map(String::as_str)
                .unwrap_or_default();
            Kind::AlreadyExists.error(format!("target snapshot {target:?}: already exists"))
        })
    }
}

impl Shared {
    fn dir(&self, number: i64) -> PathBuf {
        self.root.join(number.to_string())
    }

    fn files(&self, number: i64) -> PathBuf {
        self.dir(number).join("fs")
    }

    /// The mounts of a snapshot: a bind where one directory is all there is,
    /// else an overlay of it and its ancestors, nearest first.
    fn describe(&self, tx: &Connection, record: &Record) -> Result<Vec<Mount>> {
        let active = record.info.kind == SnapshotKind::Active;
        let below = ancestors(tx, record.parent)?;
        match (active, below.as_slice()) {
            (_, []) => return Ok(vec![Mount::bind(&self.files(record.number), active)]),
            (false, [only]) => return Ok(vec![Mount::bind(&self.files(*only), false)]),
            _ => {}
        }
        let mut options = Vec::new();
        if self.has_index {
            options.push("index=off".to_owned());
        }
        if active {
            options.push(format!(
                "workdir={}",
                self.dir(record.number).join("work").display()
            ));
            options.push(format!("upperdir={}", self.files(record.number).display()));
        }
        let lower: Vec<String> = below
            .iter()
            .map(|number| self.files(*number).display().to_string())
            .collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        Ok(vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options,
        }])
    }
}

/// Ends a snapshot's record and every lease's hold on it.
pub(crate) fn forget(tx: &Connection, ns: &Namespace, snapshotter: &str, name: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM snapshots WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3",
        [ns.as_str(), snapshotter, name],
    )?;
    leases::release(tx, ns, &resource(snapshotter), name)
}

/// The type under which a lease holds snapshots.
pub(crate) fn resource(snapshotter: &str) -> String {
    format!("snapshots/{snapshotter}")
}

fn check_snapshotter(snapshotter: &str) -> Result<()> {
    match snapshotter {
        OVERLAYFS => Ok(()),
        "" => Err(Kind::InvalidArgument.error("snapshotter argument missing: invalid argument")),
        other => Err(Kind::InvalidArgument
            .error(format!("snapshotter not loaded: {other}: invalid argument"))),
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Kind::InvalidArgument.error("snapshot key must not be empty: invalid argument"));
    }
    Ok(())
}

fn already(name: &str) -> crate::Error {
    Kind::AlreadyExists.error(format!("snapshot {name:?}: already exists"))
}

fn parent_of(
    tx: &Connection,
    ns: &Namespace,
    snapshotter: &str,
    parent: &str,
) -> Result<Option<i64>> {
    if parent.is_empty() {
        return Ok(None);
    }
    let found = find(tx, ns, snapshotter, parent).map_err(|err| {
        if err.kind() == Kind::NotFound {
            Kind::NotFound.error(format!(
                "parent snapshot {parent} does not exist: not found"
            ))
        } else {
            err
        }
    })?;
    if found.info.kind != SnapshotKind::Committed {
        return Err(Kind::InvalidArgument.error(format!(
            "parent {parent:?} is not a committed snapshot: invalid argument"
        )));
    }
    Ok(Some(found.number))
}

fn ancestors(tx: &Connection, parent: Option<i64>) -> Result<Vec<i64>> {
    let mut query = tx.prepare_cached(
        "WITH RECURSIVE up (number, parent, depth) AS (
            SELECT number, parent, 0 FROM snapshots WHERE number = ?1
            UNION ALL SELECT s.number, s.parent, up.depth + 1 FROM snapshots s JOIN up ON s.number = up.parent)
         SELECT number FROM up ORDER BY depth",
    )?;
    row::all(query.query([parent])?, |row| Ok(row.get(0)?))
}

fn exists(tx: &Connection, ns: &Namespace, snapshotter: &str, name: &str) -> Result<bool> {
    let mut query = tx.prepare_cached(
        "SELECT 1 FROM snapshots WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3",
    )?;
    Ok(query.exists([ns.as_str(), snapshotter, name])?)
}

fn find(tx: &Connection, ns: &Namespace, snapshotter: &str, key: &str) -> Result<Record> {
    let mut query = tx.prepare_cached(&format!(
        "{SELECT} WHERE s.namespace = ?1 AND s.snapshotter = ?2 AND s.name = ?3"
    ))?;
    let found = row::first(query.query([ns.as_str(), snapshotter, key])?, read)?;
    found.ok_or_else(|| Kind::NotFound.error(format!("snapshot {key} does not exist: not found")))
}

fn read(row: &Row<'_>) -> Result<Record> {
    Ok(Record {
        number: row.get("number")?,
        parent: row.get("parent")?,
        usage: Usage {
            size: row::size(row, "size")?,
            inodes: row::size(row, "inodes")?,
        },
        info: SnapshotInfo {
            name: row.get("name")?,
            parent: row
                .get::<_, Option<String>>("parent_name")?
                .unwrap_or_default(),
            kind: SnapshotKind::parse(&row.get::<_, String>("kind")?)?,
            created_at: row::time(row, "created_at")?,
            updated_at: row::time(row, "updated_at")?,
            labels: row::labels(row, "labels")?,
        },
    })
}

#[cfg(test)]
mod tests;
