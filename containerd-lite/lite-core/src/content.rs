//! The content store: blobs named by digest, and the ingests that make them.
//!
//! A blob is one file, `content/blobs/sha256/<hex>`, whoever stored it; a
//! tenant sees it once it has committed it itself, and keeps its own labels for
//! it. An ingest is the file `content/ingest/<id>` and a record; it is written
//! by one writer at a time, survives a restart and resumes where it was. On
//! commit it is synced, verified and renamed into place before the record says
//! that the blob exists, so a record never lacks its file. Files without a
//! record are litter of an unclean end and go when the store opens; a record
//! whose file a broken disk has lost goes as well, and is named.

mod ingest;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::digest::Digest;
use crate::error::{Because as _, Error, Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{LabelUpdate, Labels};
use crate::leases;
use crate::namespace::Namespace;
use crate::time::{from_nanos, to_nanos};

pub use ingest::Ingest;

/// What a tenant knows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentInfo {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When this tenant committed it.
    pub created_at: SystemTime,
    /// When its labels changed.
    pub updated_at: SystemTime,
    /// This tenant's labels for it.
    pub labels: Labels,
}

impl Fields for ContentInfo {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["digest"] => Some(self.digest.to_string()),
            ["size"] => Some(self.size.to_string()),
            ["labels", key @ ..] => label_field(&self.labels, key),
            _ => None,
        }
    }
}

/// An ingest as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestStatus {
    /// The name its writer chose.
    pub reference: String,
    /// Bytes written so far.
    pub offset: u64,
    /// Bytes expected, when known.
    pub total: Option<u64>,
    /// The digest expected, when known.
    pub expected: Option<Digest>,
    /// When it began.
    pub started_at: SystemTime,
    /// When it was last written.
    pub updated_at: SystemTime,
}

impl Fields for IngestStatus {
    fn field(&self, path: &[&str]) -> Option<String> {
        (path == ["ref"]).then(|| self.reference.clone())
    }
}

/// A stored blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// At its start.
    pub file: File,
    /// In bytes.
    pub size: u64,
}

/// The blobs of all tenants.
#[derive(Clone)]
pub struct ContentStore(Arc<Shared>);

struct Shared {
    db: Database,
    root: PathBuf,
    /// The ingests that have a writer.
    writing: Mutex<HashSet<(Namespace, String)>>,
    /// Read while a commit puts a file in place and records it; written while
    /// files that have no record are removed.
    removal: RwLock<()>,
}

impl ContentStore {
    /// Opens the store in `root`, removing files that have no record.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub(crate) fn new(db: Database, root: PathBuf) -> Result<Self> {
        let shared = Shared {
            db,
            root,
            writing: Mutex::default(),
            removal: RwLock::default(),
        };
        for dir in [shared.blobs(), shared.ingests()] {
            make_to_last(&dir)?;
        }
        let store = Self(Arc::new(shared));
        store.repair()?;
        Ok(store)
    }

    /// # Errors
    /// NotFound.
    pub fn info(&self, ns: &Namespace, digest: &Digest) -> Result<ContentInfo> {
        self.0.db.read(|tx| find(tx, ns, digest))
    }

    /// Those that `filters` accept, by digest.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<ContentInfo>> {
        let mut all = self.0.db.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT digest, size, labels, created_at, updated_at FROM blobs WHERE namespace = ?1 ORDER BY digest",
            )?;
            row::all(query.query([ns.as_str()])?, read_info)
        })?;
        all.retain(|info| filters.accept(info));
        Ok(all)
    }

    /// Replaces labels as `update` says and returns the record after it.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for its labels.
    pub fn update(
        &self,
        ns: &Namespace,
        digest: &Digest,
        labels: &Labels,
        update: &LabelUpdate,
    ) -> Result<ContentInfo> {
        self.0.db.write(|tx| {
            let mut info = find(tx, ns, digest)?;
            info.labels = update.apply(std::mem::take(&mut info.labels), labels)?;
            info.updated_at = SystemTime::now();
            tx.execute(
                "UPDATE blobs SET labels = ?3, updated_at = ?4 WHERE namespace = ?1 AND digest = ?2",
                params![ns.as_str(), digest.as_str(), row::to_json(&info.labels), to_nanos(info.updated_at)],
            )?;
            Ok(info)
        })
    }

    /// Adds `labels` to those the blob has.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn add_labels(
        &self,
        ns: &Namespace,
        digest: &Digest,
        labels: &Labels,
    ) -> Result<ContentInfo> {
        self.update(
            ns,
            digest,
            labels,
            &LabelUpdate::Keys(labels.keys().cloned().collect()),
        )
    }

    /// Removes the blob from this tenant, and its file when it was the last.
    ///
    /// # Errors
    /// NotFound.
    pub fn delete(&self, ns: &Namespace, digest: &Digest) -> Result<()> {
        let _alone = self
            .0
            .removal
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let last = self.0.db.write(|tx| {
            find(tx, ns, digest)?;
            forget_blob(tx, ns, digest)?;
            Ok(!known_anywhere(tx, digest)?)
        })?;
        self.0.db.events().content_deleted(ns, digest.as_str());
        if last {
            self.remove_file(digest).map(|_| ())
        } else {
            Ok(())
        }
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// NotFound; DataLoss if its file is gone or has another size.
    pub fn open(&self, ns: &Namespace, digest: &Digest) -> Result<Blob> {
        let info = self.info(ns, digest)?;
        let path = self.0.blob(digest);
        let file = File::open(&path).map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => Kind::DataLoss
                .error(format!("blob {digest} is recorded, but its file is gone"))
                .because(err),
            _ => Error::io(format!("open blob {digest}"), err),
        })?;
        let size = file.metadata().op(|| format!("open blob {digest}"))?.len();
        if size != info.size {
            return Err(Kind::DataLoss.error(format!(
                "blob {digest} has {size} bytes on disk, {} recorded",
                info.size
            )));
        }
        Ok(Blob { file, size })
    }

    /// Reads a whole blob of at most `limit` bytes and verifies its digest.
    ///
    /// # Errors
    /// As [`Self::open`]; ResourceExhausted if it is larger; DataLoss if
    /// its bytes are not those of the digest.
    pub fn read(&self, ns: &Namespace, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let blob = self.open(ns, digest)?;
        if blob.size > limit {
            return Err(Kind::ResourceExhausted.error(format!(
                "blob {digest} has {} bytes, more than the {limit} allowed here",
                blob.size
            )));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        blob.file
            .take(limit)
            .read_to_end(&mut bytes)
            .op(|| format!("read blob {digest}"))?;
        if Digest::of(&bytes) != *digest {
            return Err(Kind::DataLoss.error(format!(
                "blob {digest} is damaged: its bytes have another digest"
            )));
        }
        Ok(bytes)
    }

    /// # Errors
    /// NotFound.
    pub fn status(&self, ns: &Namespace, reference: &str) -> Result<IngestStatus> {
        let found = self.0.db.read(|tx| ingest::find(tx, ns, reference))?;
        let found = found.ok_or_else(|| ingest::not_found(reference))?;
        Ok(self.status_of(found))
    }

    /// The ingests that `filters` accept, by reference.
    ///
    /// # Errors
    /// Those of the database.
    pub fn statuses(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<IngestStatus>> {
        let found = self.0.db.read(|tx| ingest::list(tx, ns))?;
        let all = found.into_iter().map(|record| self.status_of(record));
        Ok(all.filter(|status| filters.accept(status)).collect())
    }

    /// Drops an ingest and its bytes.
    ///
    /// # Errors
    /// NotFound; Unavailable while it is being written.
    pub fn abort(&self, ns: &Namespace, reference: &str) -> Result<()> {
        let _writer = ingest::Writing::claim(self, ns, reference)?;
        let found = self.0.db.read(|tx| ingest::find(tx, ns, reference))?;
        let found = found.ok_or_else(|| ingest::not_found(reference))?;
        // The space first: with a full disk the database cannot be written.
        remove_if_there(&self.0.ingest(found.id))?;
        self.0.db.write(|tx| ingest::forget(tx, ns, reference))
    }

    fn status_of(&self, record: ingest::Record) -> IngestStatus {
        let file = fs::metadata(self.0.ingest(record.id)).ok();
        IngestStatus {
            offset: file.as_ref().map(fs::Metadata::len).unwrap_or_default(),
            updated_at: file
                .and_then(|file| file.modified().ok())
                .unwrap_or(record.started_at),
            reference: record.reference,
            total: record.total,
            expected: record.expected,
            started_at: record.started_at,
        }
    }

    /// Runs `work` while no commit is between its file and its record.
    pub(crate) fn while_no_commit<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _alone = self
            .0
            .removal
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Whether somebody writes this ingest now.
    pub(crate) fn is_written(&self, ns: &Namespace, reference: &str) -> bool {
        let writing = self
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        writing.contains(&(ns.clone(), reference.to_owned()))
    }

    /// Whether this ingest holds no byte yet.
    pub(crate) fn is_empty_ingest(&self, id: i64) -> bool {
        fs::metadata(self.0.ingest(id)).map_or(true, |file| file.len() == 0)
    }

    /// Removes a blob's file and returns the bytes it had. The caller has
    /// removed the last record of it, and no commit runs.
    pub(crate) fn remove_file(&self, digest: &Digest) -> Result<u64> {
        remove_if_there(&self.0.blob(digest))
    }

    /// Removes the bytes of an ingest whose record is gone.
    pub(crate) fn remove_ingest_file(&self, id: i64) -> Result<u64> {
        remove_if_there(&self.0.ingest(id))
    }

    /// Brings files and records together: files without a record go, and so do
    /// records of blobs without a file, as a power cut on some file systems
    /// leaves them. What such a blob was part of is fetched again by a pull.
    fn repair(&self) -> Result<()> {
        let (blobs, ingests): (HashSet<String>, HashSet<String>) = self.0.db.read(|tx| {
            let mut blobs = tx.prepare("SELECT DISTINCT substr(digest, 8) FROM blobs")?;
            let mut ingests = tx.prepare("SELECT CAST(id AS TEXT) FROM ingests")?;
            Ok((
                row::all(blobs.query([])?, |row| Ok(row.get(0)?))?
                    .into_iter()
                    .collect(),
                row::all(ingests.query([])?, |row| Ok(row.get(0)?))?
                    .into_iter()
                    .collect(),
            ))
        })?;
        let there = self.remove_litter(&self.0.blobs(), &blobs)?;
        let begun = self.remove_litter(&self.0.ingests(), &ingests)?;
        for id in ingests.difference(&begun) {
            // Its end or its beginning was cut short: there is nothing to go on with.
            self.0.db.write(|tx| ingest::forget_id(tx, id))?;
        }
        for hex in blobs.difference(&there) {
            tracing::warn!(digest = %format!("sha256:{hex}"), "a blob's file is gone; a pull of what needs it fetches it again");
            let digest = Digest::parse(&format!("sha256:{hex}"))?;
            self.0.db.write(|tx| {
                let mut query = tx.prepare("SELECT namespace FROM blobs WHERE digest = ?1")?;
                let owners = row::all(query.query([digest.as_str()])?, |row| {
                    Namespace::parse(&row.get::<_, String>("namespace")?)
                })?;
                owners
                    .iter()
                    .try_for_each(|owner| forget_blob(tx, owner, &digest))
            })?;
        }
        Ok(())
    }

    /// Removes the files of `dir` whose names are not `known`; returns the others.
    fn remove_litter(&self, dir: &Path, known: &HashSet<String>) -> Result<HashSet<String>> {
        let mut there = HashSet::new();
        for entry in fs::read_dir(dir).op(|| format!("list {}", dir.display()))? {
            let entry = entry.op(|| format!("list {}", dir.display()))?;
            match entry.file_name().into_string() {
                Ok(name) if known.contains(&name) => {
                    there.insert(name);
                }
                _ => {
                    tracing::info!(path = %entry.path().display(), "removing a file that has no record");
                    remove_if_there(&entry.path())?;
                }
            }
        }
        Ok(there)
    }
}

impl Shared {
    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn ingest(&self, id: i64) -> PathBuf {
        self.ingests().join(id.to_string())
    }
}

/// Ends a tenant's record of a blob and every lease's hold on it.
pub(crate) fn forget_blob(tx: &Connection, ns: &Namespace, digest: &Digest) -> Result<()> {
    tx.execute(
        "DELETE FROM blobs WHERE namespace = ?1 AND digest = ?2",
        [ns.as_str(), digest.as_str()],
    )?;
    leases::release(tx, ns, "content", digest.as_str())
}

/// Ends an ingest's record and every lease's hold on it.
pub(crate) fn forget_ingest(tx: &Connection, ns: &Namespace, reference: &str) -> Result<()> {
    ingest::forget(tx, ns, reference)
}

/// Whether any tenant has the blob.
pub(crate) fn known_anywhere(tx: &Connection, digest: &Digest) -> Result<bool> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1 LIMIT 1")?
        .exists([digest.as_str()])?)
}

fn find(tx: &Connection, ns: &Namespace, digest: &Digest) -> Result<ContentInfo> {
    let mut query = tx
        .prepare_cached("SELECT digest, size, labels, created_at, updated_at FROM blobs WHERE namespace = ?1 AND digest = ?2")?;
    let found = row::first(query.query([ns.as_str(), digest.as_str()])?, read_info)?;
    found.ok_or_else(|| Kind::NotFound.error(format!("content digest {digest}: not found")))
}

fn read_info(row: &Row<'_>) -> Result<ContentInfo> {
    Ok(ContentInfo {
        digest: row::digest(row, "digest")?,
        size: row::size(row, "size")?,
        created_at: from_nanos(row.get("created_at")?),
        updated_at: from_nanos(row.get("updated_at")?),
        labels: row::labels(row, "labels")?,
    })
}

/// Makes a directory and its parents, so that a power cut does not take them away
/// with the blobs in them.
fn make_to_last(dir: &Path) -> Result<()> {
    let context = || format!("make {}", dir.display());
    fs::create_dir_all(dir).op(context)?;
    for parent in dir.ancestors().skip(1).take(3) {
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .op(context)?;
    }
    Ok(())
}

/// Removes a file and returns its size; 0 if there was none.
fn remove_if_there(path: &Path) -> Result<u64> {
    let size = match fs::symlink_metadata(path) {
        Ok(file) => file.len(),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(err) => return Err(Error::io(format!("remove {}", path.display()), err)),
    };
    fs::remove_file(path).op(|| format!("remove {}", path.display()))?;
    Ok(size)
}

#[cfg(test)]
mod tests;
