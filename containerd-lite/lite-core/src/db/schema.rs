//! The tables, one migration per version.
//!
//! Everything but `namespaces` itself is keyed by namespace first. Labels and
//! other maps are JSON objects; times are nanoseconds since 1970.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Kind, Result};

/// The version that this program reads and writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// `MIGRATIONS[n]` brings version n to n + 1. Never edit one that was
/// released; append.
const MIGRATIONS: &[&str] = &[V1, V2, V3];

const V1: &str = "
CREATE TABLE namespaces (
    name TEXT PRIMARY KEY,
    labels TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
    namespace TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);

-- The bytes written so far are the file content/ingest/<id>.
CREATE TABLE ingests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    ref TEXT NOT NULL,
    expected TEXT,
    total INTEGER,
    started_at INTEGER NOT NULL,
    UNIQUE (namespace, ref)
) STRICT;

CREATE TABLE images (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    annotations TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

-- options, spec and extensions hold type names and encoded messages.
CREATE TABLE containers (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    labels TEXT NOT NULL,
    image TEXT NOT NULL,
    runtime TEXT NOT NULL,
    options_type TEXT,
    options BLOB,
    spec_type TEXT,
    spec BLOB,
    snapshotter TEXT NOT NULL,
    snapshot_key TEXT NOT NULL,
    sandbox TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE container_extensions (
    namespace TEXT NOT NULL,
    container TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (namespace, container, name),
    FOREIGN KEY (namespace, container) REFERENCES containers (namespace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

-- type as containerd writes it: content, ingests, images, snapshots/<name>.
CREATE TABLE lease_resources (
    namespace TEXT NOT NULL,
    lease TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (namespace, lease, type, id),
    FOREIGN KEY (namespace, lease) REFERENCES leases (namespace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The files are snapshots/<number>/; numbers are never used twice.
CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    snapshotter TEXT NOT NULL,
    name TEXT NOT NULL,
    parent INTEGER REFERENCES snapshots (number),
    kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    labels TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (namespace, snapshotter, name)
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent);
";

/// Documents of the services above; the value's form is theirs.
const V2: &str = "
CREATE TABLE documents (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (namespace, kind, name)
) STRICT, WITHOUT ROWID;
";

/// Sandboxes: groups of containers, with documents of whoever made them.
const V3: &str = "
CREATE TABLE sandboxes (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    runtime TEXT NOT NULL,
    sandboxer TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sandbox_extensions (
    namespace TEXT NOT NULL,
    sandbox TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (namespace, sandbox, name),
    FOREIGN KEY (namespace, sandbox) REFERENCES sandboxes (namespace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
";

/// Brings the file to [`VERSION`], all or nothing.
///
/// # Errors
/// FailedPrecondition if the file is newer.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = match usize::try_from(found) {
        Ok(done) if done <= MIGRATIONS.len() => done,
        _ => {
            return Err(Kind::FailedPrecondition.error(format!(
                "the database has schema version {found}, this program knows versions up to {VERSION}: use the newer program that wrote it"
            )));
        }
    };
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}
