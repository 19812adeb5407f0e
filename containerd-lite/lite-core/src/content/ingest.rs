//! One ingest: from the claim of its reference to the blob's rename.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::PoisonError;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};
use sha2::{Digest as _, Sha256};

use super::{ContentInfo, ContentStore, remove_if_there};
use crate::db::row;
use crate::digest::{Digest, Expected};
use crate::error::{Because as _, Error, Kind, Result};
use crate::labels::{Labels, check_labels};
use crate::leases;
use crate::namespace::Namespace;
use crate::namespaces;
use crate::time::to_nanos;

/// An open ingest. Dropping it keeps what was written, to be resumed.
pub struct Ingest {
    store: ContentStore,
    ns: Namespace,
    lease: Option<String>,
    record: Record,
    body: Body,
    /// Holds the reference until the ingest is dropped.
    _writing: Writing,
}

/// Where the bytes come from.
enum Body {
    Written {
        file: File,
        hasher: Sha256,
        offset: u64,
    },
    /// Another tenant has the blob: nothing needs to be written.
    Adopted { digest: Digest, size: u64 },
}

/// An ingest's row.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) id: i64,
    pub(super) reference: String,
    pub(super) expected: Option<Digest>,
    pub(super) total: Option<u64>,
    pub(super) started_at: SystemTime,
}

/// The sole right to write a reference, for as long as it lives.
pub(super) struct Writing {
    store: ContentStore,
    key: (Namespace, String),
}

impl Writing {
    /// # Errors
    /// Unavailable while somebody else has it.
    pub(super) fn claim(store: &ContentStore, ns: &Namespace, reference: &str) -> Result<Self> {
        let key = (ns.clone(), reference.to_owned());
        let mut writing = store
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !writing.insert(key.clone()) {
            return Err(Kind::Unavailable.error(format!("ref {reference} locked: unavailable")));
        }
        Ok(Self {
            store: store.clone(),
            key,
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.store
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

enum Begun {
    Stored,
    New {
        record: Record,
        adopted: Option<u64>,
    },
}

impl ContentStore {
    /// Begins or resumes the ingest `reference`. Where another tenant has
    /// the expected blob, it is adopted: [`Ingest::offset`] is its size at once.
    ///
    /// # Errors
    /// AlreadyExists if this tenant has the expected blob (the lease then holds
    /// it); Unavailable if the reference is being written; NotFound for the
    /// lease; InvalidArgument for an empty reference.
    pub fn ingest(
        &self,
        ns: &Namespace,
        lease: Option<&str>,
        reference: &str,
        expected: impl Into<Expected>,
    ) -> Result<Ingest> {
        let expected = expected.into();
        if reference.is_empty() {
            return Err(Kind::InvalidArgument.error("ref must not be empty: invalid argument"));
        }
        let writing = Writing::claim(self, ns, reference)?;
        let begun = self
            .0
            .db
            .write(|tx| begin(tx, ns, lease, reference, &expected))?;
        let (record, adopted) = match (begun, expected.digest) {
            (Begun::Stored, digest) => {
                let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
                return Err(Kind::AlreadyExists.error(format!("content {digest}: already exists")));
            }
            (Begun::New { record, adopted }, digest) => (record, adopted.zip(digest)),
        };
        let body = match adopted {
            Some((size, digest)) => Body::Adopted { digest, size },
            None => self.resume(&record)?,
        };
        Ok(Ingest {
            store: self.clone(),
            ns: ns.clone(),
            lease: lease.map(str::to_owned),
            record,
            body,
            _writing: writing,
        })
    }

    /// Opens the ingest's file and hashes what it holds. Bytes that can no
    /// longer become the expected blob are dropped, or the ingest would fail for
    /// ever.
    fn resume(&self, record: &Record) -> Result<Body> {
        let path = self.0.ingest(record.id);
        let context = || format!("open ingest {}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .op(context)?;
        let (mut hasher, mut offset) = hash(&mut file, u64::MAX).op(context)?;
        let complete = record.total.is_some_and(|total| offset >= total);
        if complete
            && record
                .expected
                .as_ref()
                .is_some_and(|expected| *expected != Digest::from_hash(&hasher.clone().finalize()))
        {
            file.set_len(0).op(context)?;
            file.rewind().op(context)?;
            (hasher, offset) = (Sha256::new(), 0);
        }
        Ok(Body::Written {
            file,
            hasher,
            offset,
        })
    }
}

impl Ingest {
    /// Bytes held so far: where to go on.
    pub fn offset(&self) -> u64 {
        match &self.body {
            Body::Written { offset, .. } => *offset,
            Body::Adopted { size, .. } => *size,
        }
    }

    /// When the ingest began.
    pub fn started_at(&self) -> SystemTime {
        self.record.started_at
    }

    /// Bytes expected, when known.
    pub fn total(&self) -> Option<u64> {
        self.record.total
    }

    /// The digest of the bytes held so far.
    pub fn digest(&self) -> Digest {
        match &self.body {
            Body::Written { hasher, .. } => Digest::from_hash(&hasher.clone().finalize()),
            Body::Adopted { digest, .. } => digest.clone(),
        }
    }

    /// Appends `bytes`. When the disk is full or broken, what was written is
    /// dropped, as only that gives the space back.
    ///
    /// # Errors
    /// ResourceExhausted for a full disk, naming it; FailedPrecondition when
    /// more than the expected total is written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.offset().saturating_add(bytes.len() as u64);
        if let Some(total) = self.record.total.filter(|total| end > *total) {
            return Err(Kind::FailedPrecondition.error(format!(
                "ingest {:?}: {end} bytes are more than the {total} expected: failed precondition",
                self.record.reference
            )));
        }
        let Body::Written {
            file,
            hasher,
            offset,
        } = &mut self.body
        else {
            return Err(Kind::FailedPrecondition.error(format!(
                "ingest {:?} is complete: failed precondition",
                self.record.reference
            )));
        };
        if let Err(err) = file.write_all(bytes) {
            return Err(self.lost(err));
        }
        hasher.update(bytes);
        *offset = end;
        Ok(())
    }

    /// Drops all bytes from `offset` on.
    ///
    /// # Errors
    /// OutOfRange if there are fewer.
    pub fn truncate(&mut self, offset: u64) -> Result<()> {
        let held = self.offset();
        if offset == held {
            return Ok(());
        }
        if offset > held {
            return Err(Kind::OutOfRange.error(format!(
                "ingest {:?} has {held} bytes, fewer than {offset}: out of range",
                self.record.reference
            )));
        }
        let context = || format!("truncate ingest {:?}", self.record.reference);
        if matches!(self.body, Body::Adopted { .. }) {
            // The writer insists on its own bytes.
            self.body = self.store.resume(&self.record)?;
            return self.truncate(offset.min(self.offset()));
        }
        if let Body::Written {
            file,
            hasher,
            offset: at,
        } = &mut self.body
        {
            file.set_len(offset).op(context)?;
            (*hasher, *at) = hash(file, offset).op(context)?;
        }
        Ok(())
    }

    /// Verifies size and digest against those given here and those expected
    /// from the start, makes the bytes a blob of this tenant with `labels`, and
    /// ends the ingest. On FailedPrecondition the ingest stays as it was.
    ///
    /// # Errors
    /// FailedPrecondition naming both sizes or both digests; AlreadyExists if
    /// the tenant has the blob by now (the ingest is over then, too);
    /// ResourceExhausted for a full disk.
    pub fn commit(
        &mut self,
        size: Option<u64>,
        digest: Option<&Digest>,
        labels: &Labels,
    ) -> Result<ContentInfo> {
        check_labels(labels)?;
        let (held, found) = (self.offset(), self.digest());
        for wanted in [size, self.record.total].into_iter().flatten() {
            if wanted != held {
                return Err(Kind::FailedPrecondition.error(format!(
                    "{:?} failed size validation: {held} != {wanted}: failed precondition",
                    self.record.reference
                )));
            }
        }
        for wanted in [digest, self.record.expected.as_ref()]
            .into_iter()
            .flatten()
        {
            if *wanted != found {
                return Err(Kind::FailedPrecondition.error(format!(
                    "unexpected commit digest {found}, expected {wanted}: failed precondition"
                )));
            }
        }
        if let Body::Written { file, .. } = &mut self.body
            && let Err(err) = file.sync_all()
        {
            return Err(self.lost(err));
        }
        let now = SystemTime::now();
        let info = ContentInfo {
            digest: found,
            size: held,
            created_at: now,
            updated_at: now,
            labels: labels.clone(),
        };
        let new = self.place_and_record(&info).inspect_err(|err| {
            // What stays an ingest can be committed again.
            if err.kind() != Kind::FailedPrecondition {
                self.take_back(&info.digest);
            }
        })?;
        if new {
            let digest = info.digest.as_str();
            let events = self.store.0.db.events();
            events.content_created(&self.ns, digest, held);
            return Ok(info);
        }
        Err(Kind::AlreadyExists.error(format!("content {}: already exists", info.digest)))
    }

    fn place_and_record(&self, info: &ContentInfo) -> Result<bool> {
        let shared = &self.store.0;
        let _placing = shared
            .removal
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        self.place(&info.digest)?;
        shared.db.write(|tx| self.record_blob(tx, info))
    }

    /// A commit that a broken disk has stopped half-way leaves a file that nobody
    /// knows, unless another tenant has the same blob.
    fn take_back(&self, digest: &Digest) {
        let store = &self.store;
        let removed = store.while_no_commit(|| {
            let known = store.0.db.read(|tx| super::known_anywhere(tx, digest))?;
            if !known {
                store.remove_file(digest)?;
            }
            Ok(())
        });
        if let Err(also) = removed.and_then(|()| self.drop_bytes()) {
            tracing::warn!(error = %crate::error::chain(&also), %digest, "cannot take a blob back");
        }
    }

    /// Drops the ingest and its bytes.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn discard(self) -> Result<()> {
        self.drop_bytes()
    }

    /// Renames the ingest to the blob's name, and makes that last.
    fn place(&self, digest: &Digest) -> Result<()> {
        let shared = &self.store.0;
        let target = shared.blob(digest);
        let context = || format!("store blob {digest}");
        let stored = target.try_exists().op(context)?;
        match &self.body {
            Body::Adopted { .. } if !stored => {
                return Err(Kind::FailedPrecondition
                    .error(format!("blob {digest} was removed by its last owner meanwhile, write it again: failed precondition")));
            }
            Body::Adopted { .. } => return Ok(()),
            Body::Written { .. } => {}
        }
        let from = shared.ingest(self.record.id);
        if stored {
            return remove_if_there(&from).map(|_| ());
        }
        fs::set_permissions(&from, Permissions::from_mode(0o444)).op(context)?;
        fs::rename(&from, &target).op(context)?;
        File::open(shared.blobs())
            .and_then(|dir| dir.sync_all())
            .op(context)
    }

    fn record_blob(&self, tx: &Connection, info: &ContentInfo) -> Result<bool> {
        namespaces::ensure(tx, &self.ns)?;
        let made = tx.execute(
            "INSERT OR IGNORE INTO blobs (namespace, digest, size, labels, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            params![self.ns.as_str(), info.digest.as_str(), row::to_column(info.size), row::to_json(&info.labels), to_nanos(info.created_at)],
        )?;
        forget(tx, &self.ns, &self.record.reference)?;
        leases::hold(
            tx,
            &self.ns,
            self.lease.as_deref(),
            "content",
            info.digest.as_str(),
        )?;
        Ok(made == 1)
    }

    fn lost(&self, err: io::Error) -> Error {
        let root = self.store.0.root.display();
        if let Err(also) = self.drop_bytes() {
            tracing::warn!(error = %crate::error::chain(&also), reference = self.record.reference, "cannot drop the ingest");
        }
        Error::io(
            format!(
                "write {:?} to the file system of {root}",
                self.record.reference
            ),
            err,
        )
    }

    fn drop_bytes(&self) -> Result<()> {
        // The space first: with a full disk the database cannot be written.
        remove_if_there(&self.store.0.ingest(self.record.id))?;
        self.store
            .0
            .db
            .write(|tx| forget(tx, &self.ns, &self.record.reference))
    }
}

fn begin(
    tx: &Connection,
    ns: &Namespace,
    lease: Option<&str>,
    reference: &str,
    expected: &Expected,
) -> Result<Begun> {
    namespaces::ensure(tx, ns)?;
    let mut adopted = None;
    if let Some(digest) = &expected.digest {
        let mut query = tx.prepare_cached("SELECT namespace, size FROM blobs WHERE digest = ?1")?;
        let owners = row::all(query.query([digest.as_str()])?, |row| {
            Ok((row.get::<_, String>("namespace")?, row::size(row, "size")?))
        })?;
        if owners.iter().any(|(owner, _)| owner == ns.as_str()) {
            leases::hold(tx, ns, lease, "content", digest.as_str())?;
            return Ok(Begun::Stored);
        }
        adopted = owners
            .first()
            .map(|(_, size)| *size)
            .filter(|size| expected.size.is_none_or(|wanted| wanted == *size));
    }
    let record = match find(tx, ns, reference)? {
        Some(mut old) => {
            old.expected = expected.digest.clone().or(old.expected);
            old.total = expected.size.or(old.total);
            tx.execute(
                "UPDATE ingests SET expected = ?2, total = ?3 WHERE id = ?1",
                params![
                    old.id,
                    old.expected.as_ref().map(Digest::as_str),
                    old.total.map(row::to_column)
                ],
            )?;
            old
        }
        None => {
            let started_at = SystemTime::now();
            tx.execute(
                "INSERT INTO ingests (namespace, ref, expected, total, started_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    ns.as_str(),
                    reference,
                    expected.digest.as_ref().map(Digest::as_str),
                    expected.size.map(row::to_column),
                    to_nanos(started_at)
                ],
            )?;
            let id = tx.last_insert_rowid();
            Record {
                id,
                reference: reference.to_owned(),
                expected: expected.digest.clone(),
                total: expected.size,
                started_at,
            }
        }
    };
    leases::hold(tx, ns, lease, "ingests", reference)?;
    Ok(Begun::New { record, adopted })
}

pub(super) fn find(tx: &Connection, ns: &Namespace, reference: &str) -> Result<Option<Record>> {
    let mut query = tx.prepare_cached("SELECT id, ref, expected, total, started_at FROM ingests WHERE namespace = ?1 AND ref = ?2")?;
    row::first(query.query([ns.as_str(), reference])?, read)
}

pub(super) fn list(tx: &Connection, ns: &Namespace) -> Result<Vec<Record>> {
    let mut query = tx.prepare_cached("SELECT id, ref, expected, total, started_at FROM ingests WHERE namespace = ?1 ORDER BY ref")?;
    row::all(query.query([ns.as_str()])?, read)
}

pub(super) fn forget(tx: &Connection, ns: &Namespace, reference: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM ingests WHERE namespace = ?1 AND ref = ?2",
        [ns.as_str(), reference],
    )?;
    leases::release(tx, ns, "ingests", reference)
}

/// The same for the ingest of this number.
pub(super) fn forget_id(tx: &Connection, id: &str) -> Result<()> {
    let mut query = tx.prepare_cached("SELECT namespace, ref FROM ingests WHERE id = ?1")?;
    let found = row::first(query.query([id])?, |row| {
        let ns = Namespace::parse(&row.get::<_, String>("namespace")?)?;
        Ok((ns, row.get::<_, String>("ref")?))
    })?;
    match found {
        Some((ns, reference)) => forget(tx, &ns, &reference),
        None => Ok(()),
    }
}

pub(super) fn not_found(reference: &str) -> Error {
    Kind::NotFound.error(format!("ref {reference}: not found"))
}

fn read(row: &Row<'_>) -> Result<Record> {
    let expected: Option<String> = row.get("expected")?;
    let total: Option<i64> = row.get("total")?;
    Ok(Record {
        id: row.get("id")?,
        reference: row.get("ref")?,
        expected: expected.as_deref().map(Digest::parse).transpose()?,
        total: total.and_then(|total| u64::try_from(total).ok()),
        started_at: row::time(row, "started_at")?,
    })
}

/// Hashes the first `limit` bytes of `file` and leaves it behind them.
fn hash(file: &mut File, limit: u64) -> io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut offset) = (Sha256::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    let mut rest = io::Read::by_ref(file).take(limit);
    loop {
        let read = rest.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher, offset));
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
}
