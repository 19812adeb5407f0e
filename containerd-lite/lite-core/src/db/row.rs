//! Columns that need reading with care: what a disk holds may be damaged.

use std::time::SystemTime;

use rusqlite::Row;

use crate::digest::Digest;
use crate::error::{Kind, Result};
use crate::labels::Labels;
use crate::time::from_nanos;

/// A map column.
pub(crate) fn labels(row: &Row<'_>, column: &str) -> Result<Labels> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|err| {
        Kind::DataLoss
            .error(format!("column {column} of the metadata database"))
            .because(err)
    })
}

/// A map as its column.
pub(crate) fn to_json(labels: &Labels) -> String {
    serde_json::to_value(labels)
        .map(|value| value.to_string())
        .unwrap_or_default()
}

/// A digest column.
pub(crate) fn digest(row: &Row<'_>, column: &str) -> Result<Digest> {
    let text: String = row.get(column)?;
    Digest::parse(&text).map_err(|err| {
        Kind::DataLoss
            .error(format!("column {column} of the metadata database"))
            .because(err)
    })
}

/// A size column; a negative one reads as 0.
pub(crate) fn size(row: &Row<'_>, column: &str) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

/// A size as its column.
pub(crate) fn to_column(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A time column.
pub(crate) fn time(row: &Row<'_>, column: &str) -> Result<SystemTime> {
    Ok(from_nanos(row.get(column)?))
}

/// Reads every row with `read`.
pub(crate) fn all<T>(
    mut rows: rusqlite::Rows<'_>,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads the first row with `read`, if there is one.
pub(crate) fn first<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    rows.next()?.map(read).transpose()
}
