//! Sandbox records: what a group of containers shares, and whose it is. What
//! it means is in the extensions of whoever made it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::error::{Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{Labels, check_labels};
use crate::namespace::{Namespace, check_identifier};
use crate::namespaces;
use crate::time::to_nanos;
use crate::values::AnyValue;

/// A sandbox record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Unique in its namespace.
    pub id: String,
    /// The runtime of its containers; may be empty.
    pub runtime: String,
    /// Who made it.
    pub sandboxer: String,
    /// Its labels.
    pub labels: Labels,
    /// Clients' own records, by name.
    pub extensions: BTreeMap<String, AnyValue>,
    /// Set by the store.
    pub created_at: SystemTime,
    /// Set by the store.
    pub updated_at: SystemTime,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            id: String::new(),
            runtime: String::new(),
            sandboxer: String::new(),
            labels: Labels::new(),
            extensions: BTreeMap::new(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Fields for Sandbox {
    fn field(&self, path: &[&str]) -> Option<String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match path {
            ["id"] => some(&self.id),
            ["runtime"] => some(&self.runtime),
            ["sandboxer"] => some(&self.sandboxer),
            ["labels", key @ ..] => label_field(&self.labels, key),
            _ => None,
        }
    }
}

/// The sandboxes of all tenants.
#[derive(Clone)]
pub struct Sandboxes {
    db: Database,
}

const COLUMNS: &str = "id, runtime, sandboxer, labels, created_at, updated_at";

impl Sandboxes {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// # Errors
    /// NotFound.
    pub fn get(&self, ns: &Namespace, id: &str) -> Result<Sandbox> {
        self.db
            .read(|tx| find(tx, ns, id)?.ok_or_else(|| not_found(id)))
    }

    /// Those that `filters` accept, by id.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<Sandbox>> {
        self.db.read(|tx| {
            let mut query = tx.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sandboxes WHERE namespace = ?1 ORDER BY id"
            ))?;
            let mut all = row::all(query.query([ns.as_str()])?, read)?;
            all.retain(|sandbox| filters.accept(sandbox));
            for sandbox in &mut all {
                sandbox.extensions = extensions(tx, ns, &sandbox.id)?;
            }
            Ok(all)
        })
    }

    /// Makes the record, or changes the one of that id; its times are set here.
    ///
    /// # Errors
    /// InvalidArgument for id or labels.
    pub fn put(&self, ns: &Namespace, mut sandbox: Sandbox) -> Result<Sandbox> {
        check_identifier(&sandbox.id)?;
        check_labels(&sandbox.labels)?;
        self.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            sandbox.updated_at = SystemTime::now();
            let earlier = find(tx, ns, &sandbox.id)?;
            sandbox.created_at = earlier.map_or(sandbox.updated_at, |earlier| earlier.created_at);
            delete(tx, ns, &sandbox.id)?;
            insert(tx, ns, &sandbox)?;
            Ok(sandbox)
        })
    }

    /// # Errors
    /// NotFound.
    pub fn delete(&self, ns: &Namespace, id: &str) -> Result<()> {
        self.db.write(|tx| match delete(tx, ns, id)? {
            0 => Err(not_found(id)),
            _ => Ok(()),
        })
    }
}

fn insert(tx: &Connection, ns: &Namespace, sandbox: &Sandbox) -> Result<()> {
    let statement =
        format!("INSERT INTO sandboxes (namespace, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    tx.prepare_cached(&statement)?.execute(params![
        ns.as_str(),
        sandbox.id,
        sandbox.runtime,
        sandbox.sandboxer,
        row::to_json(&sandbox.labels),
        to_nanos(sandbox.created_at),
        to_nanos(sandbox.updated_at),
    ])?;
    let mut insert = tx.prepare_cached("INSERT INTO sandbox_extensions (namespace, sandbox, name, type, value) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (name, any) in &sandbox.extensions {
        insert.execute(params![
            ns.as_str(),
            sandbox.id,
            name,
            any.type_url,
            any.value
        ])?;
    }
    Ok(())
}

fn delete(tx: &Connection, ns: &Namespace, id: &str) -> Result<usize> {
    Ok(tx.execute(
        "DELETE FROM sandboxes WHERE namespace = ?1 AND id = ?2",
        [ns.as_str(), id],
    )?)
}

fn find(tx: &Connection, ns: &Namespace, id: &str) -> Result<Option<Sandbox>> {
    let mut query = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM sandboxes WHERE namespace = ?1 AND id = ?2"
    ))?;
    let mut found = row::first(query.query([ns.as_str(), id])?, read)?;
    if let Some(sandbox) = &mut found {
        sandbox.extensions = extensions(tx, ns, id)?;
    }
    Ok(found)
}

fn extensions(tx: &Connection, ns: &Namespace, id: &str) -> Result<BTreeMap<String, AnyValue>> {
    let mut query = tx.prepare_cached(
        "SELECT name, type, value FROM sandbox_extensions WHERE namespace = ?1 AND sandbox = ?2",
    )?;
    let all = row::all(query.query([ns.as_str(), id])?, |row| {
        Ok((
            row.get("name")?,
            AnyValue {
                type_url: row.get("type")?,
                value: row.get("value")?,
            },
        ))
    })?;
    Ok(all.into_iter().collect())
}

fn read(row: &Row<'_>) -> Result<Sandbox> {
    Ok(Sandbox {
        id: row.get("id")?,
        runtime: row.get("runtime")?,
        sandboxer: row.get("sandboxer")?,
        labels: row::labels(row, "labels")?,
        extensions: BTreeMap::new(),
        created_at: row::time(row, "created_at")?,
        updated_at: row::time(row, "updated_at")?,
    })
}

fn not_found(id: &str) -> crate::Error {
    Kind::NotFound.error(format!("sandbox {id:?}: not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_put_changed_listed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sandboxes::new(Database::open(&dir.path().join("meta.db")).unwrap());
        let ns = Namespace::default();
        let sandbox = |value: &[u8]| Sandbox {
            id: "s".to_owned(),
            sandboxer: "cri".to_owned(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            extensions: [(
                "e".to_owned(),
                AnyValue {
                    type_url: "t".to_owned(),
                    value: value.to_vec(),
                },
            )]
            .into(),
            ..Sandbox::default()
        };
        let made = store.put(&ns, sandbox(b"1")).unwrap();
        let changed = store.put(&ns, sandbox(b"2")).unwrap();
        assert_eq!(changed.created_at, made.created_at);
        let found = store.get(&ns, "s").unwrap();
        assert_eq!(found.extensions["e"].value, b"2");
        let by_label = Filters::parse(&["labels.k==v"]).unwrap();
        assert_eq!(store.list(&ns, &by_label).unwrap().len(), 1);
        let other = Filters::parse(&["labels.k==w"]).unwrap();
        assert_eq!(store.list(&ns, &other).unwrap(), []);
        store.delete(&ns, "s").unwrap();
        assert_eq!(store.delete(&ns, "s").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(store.get(&ns, "s").unwrap_err().kind(), Kind::NotFound);
    }
}
