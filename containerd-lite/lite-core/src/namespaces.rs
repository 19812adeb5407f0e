//! The records of tenants: a name and labels.

use rusqlite::{Connection, params};

use crate::db::{Database, row};
use crate::error::{Kind, Result};
use crate::labels::{LabelUpdate, Labels, check_labels};
use crate::namespace::Namespace;

/// A tenant and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// The tenant.
    pub name: Namespace,
    /// Its labels.
    pub labels: Labels,
}

/// The tenants. One exists from its first record of any kind on.
#[derive(Clone)]
pub struct Namespaces {
    db: Database,
}

/// What keeps a tenant from being deleted, with containerd's words for it.
const OCCUPANTS: &[(&str, &str)] = &[
    ("images", "images"),
    ("blobs", "blobs"),
    ("snapshots", "snapshots on \"overlayfs\" snapshotter"),
    ("containers", "containers"),
];

impl Namespaces {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// # Errors
    /// NotFound.
    pub fn get(&self, name: &Namespace) -> Result<NamespaceRecord> {
        self.db.read(|tx| find(tx, name))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self) -> Result<Vec<NamespaceRecord>> {
        self.db.read(|tx| {
            let mut query =
                tx.prepare_cached("SELECT name, labels FROM namespaces ORDER BY name")?;
            row::all(query.query([])?, |row| {
                let name: String = row.get("name")?;
                Ok(NamespaceRecord {
                    name: Namespace::parse(&name)?,
                    labels: row::labels(row, "labels")?,
                })
            })
        })
    }

    /// # Errors
    /// AlreadyExists; InvalidArgument for its labels.
    pub fn create(&self, name: &Namespace, labels: &Labels) -> Result<()> {
        check_labels(labels)?;
        self.db.write(|tx| {
            let made = tx.execute(
                "INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?1, ?2)",
                params![name.as_str(), row::to_json(labels)],
            )?;
            if made == 0 {
                return Err(Kind::AlreadyExists
                    .error(format!("namespace {:?}: already exists", name.as_str())));
            }
            Ok(())
        })?;
        self.db.events().namespace_created(name, labels);
        Ok(())
    }

    /// Replaces labels as `update` says and returns the record after it.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for its labels.
    pub fn update(
        &self,
        name: &Namespace,
        labels: &Labels,
        update: &LabelUpdate,
    ) -> Result<NamespaceRecord> {
        let updated = self.db.write(|tx| {
            let old = find(tx, name)?;
            let labels = update.apply(old.labels, labels)?;
            tx.execute(
                "UPDATE namespaces SET labels = ?2 WHERE name = ?1",
                params![name.as_str(), row::to_json(&labels)],
            )?;
            Ok(NamespaceRecord {
                name: name.clone(),
                labels,
            })
        })?;
        self.db.events().namespace_updated(name, &updated.labels);
        Ok(updated)
    }

    /// # Errors
    /// NotFound; FailedPrecondition saying what it still holds.
    pub fn delete(&self, name: &Namespace) -> Result<()> {
        self.db.write(|tx| {
            find(tx, name)?;
            let mut held = Vec::new();
            for (table, word) in OCCUPANTS {
                let count: i64 = tx.query_row(
                    &format!("SELECT count(*) FROM {table} WHERE namespace = ?1"),
                    [name.as_str()],
                    |row| row.get(0),
                )?;
                if count > 0 {
                    held.push(*word);
                }
            }
            if !held.is_empty() {
                return Err(Kind::FailedPrecondition.error(format!(
                    "namespace {:?} must be empty, but it still has {}: failed precondition",
                    name.as_str(),
                    held.join(", ")
                )));
            }
            for table in ["ingests", "leases"] {
                tx.execute(
                    &format!("DELETE FROM {table} WHERE namespace = ?1"),
                    [name.as_str()],
                )?;
            }
            tx.execute("DELETE FROM namespaces WHERE name = ?1", [name.as_str()])?;
            Ok(())
        })?;
        self.db.events().namespace_deleted(name);
        Ok(())
    }
}

fn find(tx: &Connection, name: &Namespace) -> Result<NamespaceRecord> {
    let mut query = tx.prepare_cached("SELECT labels FROM namespaces WHERE name = ?1")?;
    let labels = row::first(query.query([name.as_str()])?, |row| {
        row::labels(row, "labels")
    })?;
    let labels = labels
        .ok_or_else(|| Kind::NotFound.error(format!("namespace {:?}: not found", name.as_str())))?;
    Ok(NamespaceRecord {
        name: name.clone(),
        labels,
    })
}

/// Makes the tenant's record if it has none: the first thing that every
/// creation inside it does.
pub(crate) fn ensure(tx: &Connection, name: &Namespace) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?1, '{}')")?
        .execute([name.as_str()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Descriptor, Image, Images};

    #[test]
    fn a_tenant_goes_only_when_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("meta.db")).unwrap();
        let (store, images, ns) = (
            Namespaces::new(db.clone()),
            Images::new(db),
            Namespace::default(),
        );
        assert_eq!(store.delete(&ns).unwrap_err().kind(), Kind::NotFound);
        images
            .create(&ns, Image::new("i", Descriptor::of("m", b"x")))
            .unwrap();
        assert_eq!(
            store.create(&ns, &Labels::new()).unwrap_err().kind(),
            Kind::AlreadyExists
        );
        let err = store.delete(&ns).unwrap_err();
        assert_eq!(
            (err.kind(), err.to_string().contains("images")),
            (Kind::FailedPrecondition, true)
        );
        images.delete(&ns, "i").unwrap();
        store.delete(&ns).unwrap();
        assert_eq!(store.list().unwrap(), []);
    }
}
