//! Leases: what collection must leave alone for now.
//!
//! A lease names resources by type as containerd does: `content`, `ingests`,
//! `images` and `snapshots/<snapshotter>`. The label
//! `containerd.io/gc.expire` (RFC 3339) ends it by itself.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::error::{Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{Labels, check_labels};
use crate::namespace::Namespace;
use crate::namespaces;
use crate::time::to_nanos;

/// The label of a pull's lease: of which image.
const PULL: &str = "containerd-lite/pull";

/// The same once that pull was interrupted: what it has brought is there for
/// the next one.
const INTERRUPTED: &str = "containerd-lite/interrupted-pull";

/// Longest id of a lease.
const MAX_ID_BYTES: usize = 255;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Chosen by its creator.
    pub id: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// Its labels.
    pub labels: Labels,
}

impl Fields for Lease {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["id"] => Some(self.id.clone()),
            ["labels", key @ ..] => label_field(&self.labels, key),
            _ => None,
        }
    }
}

/// Something a lease holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// `content`, `ingests`, `images` or `snapshots/<snapshotter>`.
    pub kind: String,
    /// A digest, an ingest's reference, an image's name or a snapshot's key.
    pub id: String,
}

/// The leases of all tenants.
#[derive(Clone)]
pub struct Leases {
    db: Database,
}

impl Leases {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// Ends the leases that have the label `label`, in every tenant, and with
    /// them the ingests that nobody else holds: nobody will go on with those.
    pub(crate) fn end_labelled(&self, label: &str) -> Result<()> {
        self.db.write(|tx| {
            let mut query = tx.prepare(
                "SELECT namespace, id FROM leases WHERE EXISTS (
                    SELECT 1 FROM json_each(labels) WHERE json_each.key = ?1)",
            )?;
            let labelled = row::all(query.query([label])?, |row| {
                let ns = Namespace::parse(&row.get::<_, String>("namespace")?)?;
                Ok((ns, row.get::<_, String>("id")?))
            })?;
            labelled
                .into_iter()
                .try_for_each(|(ns, id)| end_with_ingests(tx, &ns, &id))
        })
    }

    /// Makes the lease `id` for a pull of `image`, or takes over the one of an
    /// interrupted pull; returns the id of the one that holds.
    pub(crate) fn begin_pull(
        &self,
        ns: &Namespace,
        id: &str,
        image: &str,
        expiry: &str,
    ) -> Result<String> {
        let labels = Labels::from([
            (crate::gc::EXPIRE.to_owned(), expiry.to_owned()),
            (PULL.to_owned(), image.to_owned()),
        ]);
        check_labels(&labels)?;
        self.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            if let Some(old) = interrupted(tx, ns, image)?.into_iter().next() {
                relabel(tx, ns, &old, &labels)?;
                return Ok(old);
            }
            tx.execute(
                "INSERT INTO leases (namespace, id, labels, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![
                    ns.as_str(),
                    id,
                    row::to_json(&labels),
                    to_nanos(SystemTime::now())
                ],
            )?;
            Ok(id.to_owned())
        })
    }

    /// Leaves what the pull with this lease has brought to the next one. None is
    /// no error.
    pub(crate) fn interrupt(&self, ns: &Namespace, id: &str) -> Result<()> {
        self.db.write(|tx| match find(tx, ns, id) {
            Ok(lease) => set_interrupted(tx, ns, lease),
            Err(err) if err.kind() == Kind::NotFound => Ok(()),
            Err(err) => Err(err),
        })
    }

    /// The same for every pull of every tenant: none is under way.
    pub(crate) fn interrupt_all(&self) -> Result<()> {
        self.db.write(|tx| {
            let mut query = tx.prepare("SELECT namespace, id, labels, created_at FROM leases")?;
            let leases = row::all(query.query([])?, |row| {
                Ok((
                    Namespace::parse(&row.get::<_, String>("namespace")?)?,
                    read(row)?,
                ))
            })?;
            leases
                .into_iter()
                .try_for_each(|(ns, lease)| set_interrupted(tx, &ns, lease))
        })
    }

    /// Ends what interrupted pulls of `image` have left.
    pub(crate) fn end_interrupted(&self, ns: &Namespace, image: &str) -> Result<()> {
        let any = self
            .db
            .read(|tx| Ok(!interrupted(tx, ns, image)?.is_empty()))?;
        if !any {
            return Ok(());
        }
        self.db.write(|tx| end_interrupted(tx, ns, image))
    }

    /// Makes a lease. Without an id it gets one of its own.
    ///
    /// # Errors
    /// AlreadyExists; InvalidArgument for the id or labels.
    pub fn create(&self, ns: &Namespace, id: &str, labels: &Labels) -> Result<Lease> {
        let own;
        let id = match id {
            "" => {
                own = crate::time::unique();
                &own
            }
            id => id,
        };
        check_id(id)?;
        check_labels(labels)?;
        let lease = Lease {
            id: id.to_owned(),
            created_at: SystemTime::now(),
            labels: labels.clone(),
        };
        self.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            let made = tx.execute(
                "INSERT OR IGNORE INTO leases (namespace, id, labels, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![ns.as_str(), id, row::to_json(labels), to_nanos(lease.created_at)],
            )?;
            if made == 0 {
                return Err(Kind::AlreadyExists.error(format!("lease {id:?}: already exists")));
            }
            Ok(())
        })?;
        Ok(lease)
    }

    /// Removes the lease; what it held is left to collection.
    ///
    /// # Errors
    /// NotFound.
    pub fn delete(&self, ns: &Namespace, id: &str) -> Result<()> {
        self.db.write(|tx| {
            let gone = tx.execute(
                "DELETE FROM leases WHERE namespace = ?1 AND id = ?2",
                [ns.as_str(), id],
            )?;
            if gone == 0 {
                return Err(not_found(id));
            }
            Ok(())
        })
    }

    /// Those that `filters` accept, by id.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<Lease>> {
        let mut all = self.db.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT id, labels, created_at FROM leases WHERE namespace = ?1 ORDER BY id",
            )?;
            row::all(query.query([ns.as_str()])?, read)
        })?;
        all.retain(|lease| filters.accept(lease));
        Ok(all)
    }

    /// Makes `resource` belong to the lease; again is no error.
    ///
    /// # Errors
    /// NotFound for the lease; InvalidArgument for an unknown type.
    pub fn add_resource(&self, ns: &Namespace, id: &str, resource: &Resource) -> Result<()> {
        check_kind(&resource.kind)?;
        self.db
            .write(|tx| hold(tx, ns, Some(id), &resource.kind, &resource.id))
    }

    /// # Errors
    /// NotFound for the lease; InvalidArgument for an unknown type. That it
    /// does not hold the resource is no error.
    pub fn delete_resource(&self, ns: &Namespace, id: &str, resource: &Resource) -> Result<()> {
        check_kind(&resource.kind)?;
        self.db.write(|tx| {
            find(tx, ns, id)?;
            tx.execute(
                "DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2 AND type = ?3 AND id = ?4",
                [ns.as_str(), id, &resource.kind, &resource.id],
            )?;
            Ok(())
        })
    }

    /// What the lease holds.
    ///
    /// # Errors
    /// NotFound.
    pub fn resources(&self, ns: &Namespace, id: &str) -> Result<Vec<Resource>> {
        self.db.read(|tx| {
            find(tx, ns, id)?;
            let mut query =
                tx.prepare_cached("SELECT type, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2 ORDER BY type, id")?;
            row::all(query.query([ns.as_str(), id])?, |row| Ok(Resource { kind: row.get("type")?, id: row.get("id")? }))
        })
    }
}

/// Makes a resource belong to `lease` within a transaction that creates it.
/// Without a lease there is nothing to do.
pub(crate) fn hold(
    tx: &Connection,
    ns: &Namespace,
    lease: Option<&str>,
    kind: &str,
    id: &str,
) -> Result<()> {
    let Some(lease) = lease else { return Ok(()) };
    find(tx, ns, lease)?;
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO lease_resources (namespace, lease, type, id) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute([ns.as_str(), lease, kind, id])?;
    Ok(())
}

/// Ends every lease's hold on a resource that is gone.
pub(crate) fn release(tx: &Connection, ns: &Namespace, kind: &str, id: &str) -> Result<()> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM lease_resources WHERE namespace = ?1 AND type = ?2 AND id = ?3",
    )?;
    delete.execute([ns.as_str(), kind, id])?;
    Ok(())
}

/// Ends the leases of interrupted pulls of `image`.
pub(crate) fn end_interrupted(tx: &Connection, ns: &Namespace, image: &str) -> Result<()> {
    interrupted(tx, ns, image)?
        .iter()
        .try_for_each(|id| end_with_ingests(tx, ns, id))
}

/// Ends a lease. The ingests that it alone has held are made as old as they can
/// be, so that the next collection takes those that nobody writes.
fn end_with_ingests(tx: &Connection, ns: &Namespace, id: &str) -> Result<()> {
    tx.execute(
        "UPDATE ingests SET started_at = 0 WHERE namespace = ?1 AND ref IN (
            SELECT id FROM lease_resources l
            WHERE l.namespace = ?1 AND l.lease = ?2 AND l.type = 'ingests' AND NOT EXISTS (
                SELECT 1 FROM lease_resources o
                WHERE o.namespace = ?1 AND o.type = 'ingests' AND o.id = l.id AND o.lease != ?2))",
        [ns.as_str(), id],
    )?;
    tx.execute(
        "DELETE FROM leases WHERE namespace = ?1 AND id = ?2",
        [ns.as_str(), id],
    )?;
    Ok(())
}

/// The leases of interrupted pulls of `image`.
fn interrupted(tx: &Connection, ns: &Namespace, image: &str) -> Result<Vec<String>> {
    let mut query = tx.prepare_cached(
        "SELECT id FROM leases WHERE namespace = ?1 AND EXISTS (
            SELECT 1 FROM json_each(labels) WHERE json_each.key = ?2 AND json_each.value = ?3)",
    )?;
    row::all(query.query([ns.as_str(), INTERRUPTED, image])?, |row| {
        Ok(row.get("id")?)
    })
}

fn set_interrupted(tx: &Connection, ns: &Namespace, mut lease: Lease) -> Result<()> {
    let Some(image) = lease.labels.remove(PULL) else {
        return Ok(());
    };
    lease.labels.insert(INTERRUPTED.to_owned(), image);
    relabel(tx, ns, &lease.id, &lease.labels)
}

fn relabel(tx: &Connection, ns: &Namespace, id: &str, labels: &Labels) -> Result<()> {
    tx.execute(
        "UPDATE leases SET labels = ?3 WHERE namespace = ?1 AND id = ?2",
        [ns.as_str(), id, &row::to_json(labels)],
    )?;
    Ok(())
}

fn find(tx: &Connection, ns: &Namespace, id: &str) -> Result<Lease> {
    let mut query = tx.prepare_cached(
        "SELECT id, labels, created_at FROM leases WHERE namespace = ?1 AND id = ?2",
    )?;
    row::first(query.query([ns.as_str(), id])?, read)?.ok_or_else(|| not_found(id))
}

fn read(row: &Row<'_>) -> Result<Lease> {
    Ok(Lease {
        id: row.get("id")?,
        labels: row::labels(row, "labels")?,
        created_at: row::time(row, "created_at")?,
    })
}

fn not_found(id: &str) -> crate::Error {
    Kind::NotFound.error(format!("lease {id:?}: not found"))
}

fn check_kind(kind: &str) -> Result<()> {
    let known = matches!(kind, "content" | "ingests" | "images")
        || kind
            .strip_prefix("snapshots/")
            .is_some_and(|name| !name.is_empty());
    if known {
        return Ok(());
    }
    Err(Kind::Unimplemented.error(format!("resource type {kind:?}: not implemented")))
}

/// Clients make ids of random text (`259754199-_zXw`), which containerd takes
/// as it is; so do we, within bounds. An id is never part of a path.
fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(char::is_control) {
        return Err(Kind::InvalidArgument.error(format!(
            "lease id {id:?} must be 1 to {MAX_ID_BYTES} bytes without control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_clients_make_of_random_text() {
        assert!(check_id("259754199-_zXw").is_ok());
        assert!(check_id(&"x".repeat(MAX_ID_BYTES)).is_ok());
        for bad in ["", "a\nb", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert_eq!(check_id(bad).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }
}
