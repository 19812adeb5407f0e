//! Container records: what a container is, not whether it runs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::error::{Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{LabelUpdate, Labels, check_labels};
use crate::namespace::{Namespace, check_identifier};
use crate::namespaces;
use crate::time::to_nanos;
use crate::values::AnyValue;

/// The shim that runs a container, and what it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// For example `io.containerd.runc-rs.v2`.
    pub name: String,
    /// For example a `containerd.runc.v1.Options`.
    pub options: Option<AnyValue>,
}

/// A container record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Unique in its namespace.
    pub id: String,
    /// Its labels.
    pub labels: Labels,
    /// The image's name; may be empty.
    pub image: String,
    /// Its runtime; cannot change.
    pub runtime: Runtime,
    /// The OCI spec as JSON.
    pub spec: Option<AnyValue>,
    /// The snapshotter of `snapshot_key`; may be empty.
    pub snapshotter: String,
    /// The snapshot that is its root file system.
    pub snapshot_key: String,
    /// Set by the store.
    pub created_at: SystemTime,
    /// Set by the store.
    pub updated_at: SystemTime,
    /// Clients' own records, by name.
    pub extensions: BTreeMap<String, AnyValue>,
    /// The sandbox it belongs to; may be empty.
    pub sandbox: String,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            id: String::new(),
            labels: Labels::new(),
            image: String::new(),
            runtime: Runtime::default(),
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            extensions: BTreeMap::new(),
            sandbox: String::new(),
        }
    }
}

impl Fields for Container {
    fn field(&self, path: &[&str]) -> Option<String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match path {
            ["id"] => some(&self.id),
            ["image"] => some(&self.image),
            ["runtime", "name"] => some(&self.runtime.name),
            ["sandbox_id" | "sandbox"] => some(&self.sandbox),
            ["labels", key @ ..] => label_field(&self.labels, key),
            _ => None,
        }
    }
}

/// The containers of all tenants.
#[derive(Clone)]
pub struct Containers {
    db: Database,
}

const COLUMNS: &str = "id, labels, image, runtime, options_type, options, spec_type, spec, snapshotter, snapshot_key, sandbox, created_at, updated_at";

impl Containers {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// # Errors
    /// NotFound.
    pub fn get(&self, ns: &Namespace, id: &str) -> Result<Container> {
        self.db.read(|tx| find(tx, ns, id))
    }

    /// Those that `filters` accept, by id.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<Container>> {
        self.db.read(|tx| {
            let mut query = tx.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM containers WHERE namespace = ?1 ORDER BY id"
            ))?;
            let mut all = row::all(query.query([ns.as_str()])?, read)?;
            all.retain(|container| filters.accept(container));
            for container in &mut all {
                container.extensions = extensions(tx, ns, &container.id)?;
            }
            Ok(all)
        })
    }

    /// Makes the record; its times are set here.
    ///
    /// # Errors
    /// AlreadyExists; InvalidArgument for id, runtime or labels.
    pub fn create(&self, ns: &Namespace, mut container: Container) -> Result<Container> {
        check(&container)?;
        container.created_at = SystemTime::now();
        container.updated_at = container.created_at;
        self.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            if exists(tx, ns, &container.id)? {
                return Err(Kind::AlreadyExists
                    .error(format!("container {:?}: already exists", container.id)));
            }
            put(tx, ns, &container)
        })?;
        self.db.events().container_created(ns, &container);
        Ok(container)
    }

    /// Changes the fields at `paths` (`labels`, `labels.<key>`, `spec`,
    /// `image`, `snapshot_key`, `extensions`, `extensions.<name>`, …) to those of
    /// `container`; none means all that may change. Returns the record after it.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a path that cannot change, or labels.
    pub fn update<S: AsRef<str>>(
        &self,
        ns: &Namespace,
        container: &Container,
        paths: &[S],
    ) -> Result<Container> {
        let updated = self.db.write(|tx| {
            let mut new = find(tx, ns, &container.id)?;
            if paths.is_empty() {
                for path in [
                    "labels",
                    "spec",
                    "extensions",
                    "image",
                    "snapshotter",
                    "snapshot_key",
                ] {
                    change(&mut new, container, path)?;
                }
            }
            for path in paths {
                change(&mut new, container, path.as_ref())?;
            }
            new.updated_at = SystemTime::now();
            check(&new)?;
            put(tx, ns, &new)?;
            Ok(new)
        })?;
        self.db.events().container_updated(ns, &updated);
        Ok(updated)
    }

    /// # Errors
    /// NotFound.
    pub fn delete(&self, ns: &Namespace, id: &str) -> Result<()> {
        self.db.write(|tx| {
            let gone = tx.execute(
                "DELETE FROM containers WHERE namespace = ?1 AND id = ?2",
                [ns.as_str(), id],
            )?;
            if gone == 0 {
                return Err(not_found(ns, id));
            }
            Ok(())
        })?;
        self.db.events().container_deleted(ns, id);
        Ok(())
    }
}

fn check(container: &Container) -> Result<()> {
    check_identifier(&container.id)
        .map_err(|err| err.within("create container failed validation: container.ID"))?;
    if container.runtime.name.is_empty() {
        return Err(Kind::InvalidArgument.error(format!(
            "container {:?}: container.Runtime.Name must be set: invalid argument",
            container.id
        )));
    }
    if container.snapshotter.is_empty() && !container.snapshot_key.is_empty() {
        return Err(Kind::InvalidArgument.error(format!("container {:?}: container.Snapshotter must be set if container.SnapshotKey is set: invalid argument", container.id)));
    }
    check_labels(&container.labels)
}

fn change(old: &mut Container, new: &Container, path: &str) -> Result<()> {
    match path {
        "spec" => old.spec = new.spec.clone(),
        "image" => old.image = new.image.clone(),
        "snapshotter" => old.snapshotter = new.snapshotter.clone(),
        "snapshot_key" | "snapshotkey" => old.snapshot_key = new.snapshot_key.clone(),
        "extensions" => old.extensions = new.extensions.clone(),
        _ => {
            if let Some(name) = path.strip_prefix("extensions.") {
                old.extensions.remove(name);
                old.extensions.extend(
                    new.extensions
                        .get(name)
                        .map(|value| (name.to_owned(), value.clone())),
                );
                return Ok(());
            }
            let update =
                LabelUpdate::from_paths(&[path.to_owned()], &format!("container {:?}", old.id))?;
            old.labels = update.apply(std::mem::take(&mut old.labels), &new.labels)?;
        }
    }
    Ok(())
}

fn exists(tx: &Connection, ns: &Namespace, id: &str) -> Result<bool> {
    let mut query =
        tx.prepare_cached("SELECT 1 FROM containers WHERE namespace = ?1 AND id = ?2")?;
    Ok(query.exists([ns.as_str(), id])?)
}

fn put(tx: &Connection, ns: &Namespace, container: &Container) -> Result<()> {
    tx.execute(
        "DELETE FROM containers WHERE namespace = ?1 AND id = ?2",
        [ns.as_str(), &container.id],
    )?;
    let statement = format!(
        "INSERT INTO containers (namespace, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    );
    let (options, spec) = (&container.runtime.options, &container.spec);
    tx.prepare_cached(&statement)?.execute(params![
        ns.as_str(),
        container.id,
        row::to_json(&container.labels),
        container.image,
        container.runtime.name,
        options.as_ref().map(|any| &any.type_url),
        options.as_ref().map(|any| &any.value),
        spec.as_ref().map(|any| &any.type_url),
        spec.as_ref().map(|any| &any.value),
        container.snapshotter,
        container.snapshot_key,
        container.sandbox,
        to_nanos(container.created_at),
        to_nanos(container.updated_at),
    ])?;
    let mut insert = tx.prepare_cached("INSERT INTO container_extensions (namespace, container, name, type, value) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (name, any) in &container.extensions {
        insert.execute(params![
            ns.as_str(),
            container.id,
            name,
            any.type_url,
            any.value
        ])?;
    }
    Ok(())
}

fn find(tx: &Connection, ns: &Namespace, id: &str) -> Result<Container> {
    let mut query = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM containers WHERE namespace = ?1 AND id = ?2"
    ))?;
    let found = row::first(query.query([ns.as_str(), id])?, read)?;
    let mut container = found.ok_or_else(|| not_found(ns, id))?;
    container.extensions = extensions(tx, ns, id)?;
    Ok(container)
}

fn extensions(tx: &Connection, ns: &Namespace, id: &str) -> Result<BTreeMap<String, AnyValue>> {
    let mut query = tx.prepare_cached("SELECT name, type, value FROM container_extensions WHERE namespace = ?1 AND container = ?2")?;
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

fn not_found(ns: &Namespace, id: &str) -> crate::Error {
    Kind::NotFound.error(format!(
        "container {id:?} in namespace {:?}: not found",
        ns.as_str()
    ))
}

fn read(row: &Row<'_>) -> Result<Container> {
    let any = |type_column: &str, column: &str| -> Result<Option<AnyValue>> {
        let (type_url, value): (Option<String>, Option<Vec<u8>>) =
            (row.get(type_column)?, row.get(column)?);
        Ok(type_url
            .zip(value)
            .map(|(type_url, value)| AnyValue { type_url, value }))
    };
    Ok(Container {
        id: row.get("id")?,
        labels: row::labels(row, "labels")?,
        image: row.get("image")?,
        runtime: Runtime {
            name: row.get("runtime")?,
            options: any("options_type", "options")?,
        },
        spec: any("spec_type", "spec")?,
        snapshotter: row.get("snapshotter")?,
        snapshot_key: row.get("snapshot_key")?,
        created_at: row::time(row, "created_at")?,
        updated_at: row::time(row, "updated_at")?,
        extensions: BTreeMap::new(),
        sandbox: row.get("sandbox")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(value: &str) -> AnyValue {
        AnyValue {
            type_url: "t".to_owned(),
            value: value.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_record_is_kept_whole_and_changes_field_by_field() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("meta.db")).unwrap();
        let (store, ns) = (Containers::new(db), Namespace::default());
        let runtime = Runtime {
            name: "r".to_owned(),
            options: Some(any("o")),
        };
        let extensions = BTreeMap::from([("a.b".to_owned(), any("1")), ("c".to_owned(), any("2"))]);
        let labels = Labels::from([("k".to_owned(), "v".to_owned())]);
        let new = Container {
            id: "x".to_owned(),
            runtime,
            spec: Some(any("s")),
            extensions,
            labels,
            ..Container::default()
        };
        let made = store.create(&ns, new.clone()).unwrap();
        assert_eq!(store.get(&ns, "x").unwrap().extensions, made.extensions);
        assert_eq!(
            store.create(&ns, new.clone()).unwrap_err().kind(),
            Kind::AlreadyExists
        );
        let change = Container {
            extensions: BTreeMap::from([("a.b".to_owned(), any("3"))]),
            image: "i".to_owned(),
            ..new
        };
        store
            .update(&ns, &change, &["extensions.a.b", "extensions.none"])
            .unwrap();
        let found = store.get(&ns, "x").unwrap();
        assert_eq!(
            (
                found.extensions["a.b"].clone(),
                found.extensions["c"].clone()
            ),
            (any("3"), any("2"))
        );
        assert_eq!(
            (
                found.image.as_str(),
                found.labels.len(),
                found.created_at == made.created_at
            ),
            ("", 1, true)
        );
        assert_eq!(
            store.update(&ns, &change, &["runtime"]).unwrap_err().kind(),
            Kind::InvalidArgument
        );
        let filters = Filters::parse(&["labels.k==v,runtime.name==r"]).unwrap();
        assert_eq!(store.list(&ns, &filters).unwrap().len(), 1);
        store.delete(&ns, "x").unwrap();
        assert_eq!(store.delete(&ns, "x").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            store.update(&ns, &change, &["image"]).unwrap_err().kind(),
            Kind::NotFound
        );
    }
}
