//! Named documents of the services above the core: volumes, networks and
//! whatever else they own. The core knows neither their form nor their meaning;
//! it keeps them in the same file, with the same promises, as its own.

use rusqlite::{OptionalExtension as _, params};

use crate::db::Database;
use crate::error::{Kind, Result};
use crate::namespace::Namespace;

/// The documents of all tenants.
#[derive(Clone)]
pub struct Documents {
    db: Database,
}

impl Documents {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// Stores a new document.
    ///
    /// # Errors
    /// AlreadyExists.
    pub fn create(&self, ns: &Namespace, kind: &str, name: &str, value: &[u8]) -> Result<()> {
        let added = self.db.write(|tx| {
            Ok(tx.execute(
                "INSERT INTO documents (namespace, kind, name, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
                params![ns.as_str(), kind, name, value],
            )?)
        })?;
        match added {
            0 => Err(Kind::AlreadyExists.error(format!("{kind} {name}: already exists"))),
            _ => Ok(()),
        }
    }

    /// Stores a document in place of an earlier one, where there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn put(&self, ns: &Namespace, kind: &str, name: &str, value: &[u8]) -> Result<()> {
        self.db.write(|tx| {
            tx.execute(
                "INSERT INTO documents (namespace, kind, name, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
                params![ns.as_str(), kind, name, value],
            )?;
            Ok(())
        })
    }

    /// The document, where there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn get(&self, ns: &Namespace, kind: &str, name: &str) -> Result<Option<Vec<u8>>> {
        self.db.read(|tx| {
            Ok(tx
                .query_row(
                    "SELECT value FROM documents WHERE namespace = ?1 AND kind = ?2 AND name = ?3",
                    params![ns.as_str(), kind, name],
                    |row| row.get(0),
                )
                .optional()?)
        })
    }

    /// Name and value of every document of a kind, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, kind: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.db.read(|tx| {
            let mut statement = tx.prepare(
                "SELECT name, value FROM documents WHERE namespace = ?1 AND kind = ?2 ORDER BY name",
            )?;
            let rows = statement.query_map(params![ns.as_str(), kind], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            Ok(rows.collect::<std::result::Result<_, _>>()?)
        })
    }

    /// Removes the document; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the database.
    pub fn delete(&self, ns: &Namespace, kind: &str, name: &str) -> Result<()> {
        self.db.write(|tx| {
            tx.execute(
                "DELETE FROM documents WHERE namespace = ?1 AND kind = ?2 AND name = ?3",
                params![ns.as_str(), kind, name],
            )?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_made_once_and_replaced_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let documents = Documents::new(Database::open(&dir.path().join("meta.db")).unwrap());
        let ns = Namespace::default();
        documents.create(&ns, "volume", "v", b"1").unwrap();
        let again = documents.create(&ns, "volume", "v", b"2").unwrap_err();
        assert_eq!(again.kind(), Kind::AlreadyExists);
        documents.put(&ns, "volume", "v", b"3").unwrap();
        documents.put(&ns, "network", "v", b"n").unwrap();
        assert_eq!(documents.get(&ns, "volume", "v").unwrap().unwrap(), b"3");
        assert_eq!(
            documents.list(&ns, "volume").unwrap(),
            [("v".to_owned(), b"3".to_vec())]
        );
        documents.delete(&ns, "volume", "v").unwrap();
        documents.delete(&ns, "volume", "v").unwrap();
        assert_eq!(documents.get(&ns, "volume", "v").unwrap(), None);
        assert_eq!(documents.list(&ns, "network").unwrap().len(), 1);
    }
}
