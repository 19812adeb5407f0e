//! How much the stores hold, in one look.

use crate::core::Core;
use crate::db::row;
use crate::error::Result;

/// What one tenant has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// The tenant.
    pub namespace: String,
    /// Names of images.
    pub images: u64,
    /// Container records.
    pub containers: u64,
    /// Snapshots of every kind.
    pub snapshots: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes; what tenants share is counted for each.
    pub blob_bytes: u64,
    /// Leases.
    pub leases: u64,
}

/// Counts what every tenant has, by name.
///
/// # Errors
/// Those of the database.
pub fn by_namespace(core: &Core) -> Result<Vec<Counts>> {
    core.db.read(|tx| {
        let mut query = tx.prepare_cached(
            "SELECT name,
                (SELECT count(*) FROM images i WHERE i.namespace = n.name) AS images,
                (SELECT count(*) FROM containers c WHERE c.namespace = n.name) AS containers,
                (SELECT count(*) FROM snapshots s WHERE s.namespace = n.name) AS snapshots,
                (SELECT count(*) FROM blobs WHERE namespace = n.name) AS blobs,
                (SELECT coalesce(sum(size), 0) FROM blobs WHERE namespace = n.name) AS blob_bytes,
                (SELECT count(*) FROM leases WHERE namespace = n.name) AS leases
             FROM namespaces n ORDER BY name",
        )?;
        row::all(query.query([])?, |row| {
            Ok(Counts {
                namespace: row.get("name")?,
                images: row::size(row, "images")?,
                containers: row::size(row, "containers")?,
                snapshots: row::size(row, "snapshots")?,
                blobs: row::size(row, "blobs")?,
                blob_bytes: row::size(row, "blob_bytes")?,
                leases: row::size(row, "leases")?,
            })
        })
    })
}
