//! The metadata database: `<root>/meta.db`, SQLite in WAL mode.
//!
//! One connection writes, a small pool reads; SQLite gives readers a stable
//! view beside the writer. Every commit is synced (`synchronous=FULL`), so what
//! a caller was told has happened survives a power cut. The schema's version is
//! `PRAGMA user_version`: [`schema`] brings an older file up to date and
//! refuses a newer one.

pub(crate) mod row;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Because as _, Result};
use crate::events::Events;

/// Idle readers beyond this many are closed.
const IDLE_READERS: usize = 4;

/// How long a connection waits for a lock: only another program that opened
/// the file (a person with sqlite3) can hold one.
const BUSY: Duration = Duration::from_secs(10);

/// A handle on the database; clones share it.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    events: Events,
}

impl Database {
    /// Opens or makes the database at `path` and migrates it.
    ///
    /// # Errors
    /// FailedPrecondition if a newer version wrote it, DataLoss if it is not
    /// one of ours, Unavailable if another program holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Connection> {
            let mut writer = connect(path)?;
            schema::migrate(&mut writer)?;
            Ok(writer)
        };
        let writer = open().op(|| format!("open {}", path.display()))?;
        let shared = Shared {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            events: Events::new(),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Where changes of what the database holds are told, once they are made.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Runs `work` as one write: all of it happens, or none if it fails.
    /// `work` must not call back into the database.
    ///
    /// # Errors
    /// Those of `work` and of the database.
    pub fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut writer = locked(&self.0.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Runs `work` on one consistent view.
    ///
    /// # Errors
    /// Those of `work` and of the database.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = locked(&self.0.readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.0.path)?,
        };
        let transaction = reader.transaction()?;
        let value = work(&transaction)?;
        drop(transaction);
        let mut readers = locked(&self.0.readers);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        Ok(value)
    }
}

/// A panic elsewhere leaves the connection usable: its transaction was rolled
/// back when it was dropped.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, chain};

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("meta.db")).unwrap();
        let failed = db.write(|tx| -> Result<()> {
            tx.execute(
                "INSERT INTO namespaces (name, labels) VALUES ('a', '{}')",
                [],
            )?;
            Err(Kind::Aborted.error("test"))
        });
        assert_eq!(failed.unwrap_err().kind(), Kind::Aborted);
        let count = |db: &Database| {
            db.read(|tx| {
                Ok(tx.query_row("SELECT count(*) FROM namespaces", [], |row| {
                    row.get::<_, i64>(0)
                })?)
            })
        };
        assert_eq!(count(&db).unwrap(), 0);
        db.write(|tx| {
            Ok(tx.execute(
                "INSERT INTO namespaces (name, labels) VALUES ('a', '{}')",
                [],
            )?)
        })
        .unwrap();
        assert_eq!(
            count(&Database::open(&dir.path().join("meta.db")).unwrap()).unwrap(),
            1
        );
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        drop(Database::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 9999)
            .unwrap();
        let err = Database::open(&path).err().unwrap();
        assert_eq!(err.kind(), Kind::FailedPrecondition);
        assert!(chain(&err).contains("version 9999"), "{}", chain(&err));
        let version: i64 = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, 9999);
    }

    #[test]
    fn an_empty_file_of_version_0_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        std::fs::write(&path, b"").unwrap();
        let db = Database::open(&path).unwrap();
        let version = db
            .read(|tx| Ok(tx.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?))
            .unwrap();
        assert_eq!(version, schema::VERSION);
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert_eq!(Database::open(&path).err().unwrap().kind(), Kind::DataLoss);
    }
}
