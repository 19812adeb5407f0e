//! Image records: a name and the descriptor it stands for.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use crate::db::{Database, row};
use crate::digest::Descriptor;
use crate::error::{Kind, Result};
use crate::filter::{Fields, Filters, label_field};
use crate::labels::{LabelUpdate, Labels, check_labels};
use crate::leases;
use crate::namespace::Namespace;
use crate::namespaces;
use crate::time::to_nanos;

/// A name for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The full normalised reference.
    pub name: String,
    /// Its index or manifest.
    pub target: Descriptor,
    /// Its labels.
    pub labels: Labels,
    /// Set by the store.
    pub created_at: SystemTime,
    /// Set by the store.
    pub updated_at: SystemTime,
}

impl Image {
    /// A record to create; the store sets the times.
    pub fn new(name: impl Into<String>, target: Descriptor) -> Self {
        Self {
            name: name.into(),
            target,
            labels: Labels::new(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Fields for Image {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["name"] => Some(self.name.clone()),
            ["target", "digest"] => Some(self.target.digest.to_string()),
            ["target", "mediatype"] => Some(self.target.media_type.clone()),
            ["labels", key @ ..] => label_field(&self.labels, key),
            ["annotations", key @ ..] => label_field(&self.target.annotations, key),
            _ => None,
        }
    }
}

/// The images of all tenants.
#[derive(Clone)]
pub struct Images {
    db: Database,
    lease: Option<String>,
}

const COLUMNS: &str = "name, media_type, digest, size, annotations, labels, created_at, updated_at";

impl Images {
    pub(crate) fn new(db: Database) -> Self {
        Self { db, lease: None }
    }

    /// The same store; what is created through it belongs to `lease`.
    #[must_use]
    pub fn leased(&self, lease: Option<&str>) -> Self {
        Self {
            db: self.db.clone(),
            lease: lease.map(str::to_owned),
        }
    }

    /// # Errors
    /// NotFound.
    pub fn get(&self, ns: &Namespace, name: &str) -> Result<Image> {
        self.db.read(|tx| find(tx, ns, name))
    }

    /// Those that `filters` accept, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self, ns: &Namespace, filters: &Filters) -> Result<Vec<Image>> {
        let mut all = self.db.read(|tx| {
            let mut query = tx.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM images WHERE namespace = ?1 ORDER BY name"
            ))?;
            row::all(query.query([ns.as_str()])?, read)
        })?;
        all.retain(|image| filters.accept(image));
        Ok(all)
    }

    /// Makes the record; its times are set here.
    ///
    /// # Errors
    /// AlreadyExists; InvalidArgument for an empty name or its labels.
    pub fn create(&self, ns: &Namespace, mut image: Image) -> Result<Image> {
        check(&image)?;
        image.created_at = SystemTime::now();
        image.updated_at = image.created_at;
        self.db.write(|tx| {
            namespaces::ensure(tx, ns)?;
            let made = put(tx, ns, &image, "INSERT OR IGNORE")?;
            if made == 0 {
                return Err(
                    Kind::AlreadyExists.error(format!("image {:?}: already exists", image.name))
                );
            }
            leases::hold(tx, ns, self.lease.as_deref(), "images", &image.name)
        })?;
        self.db
            .events()
            .image_created(ns, &image.name, &image.labels);
        Ok(image)
    }

    /// Changes the fields at `paths` (`target`, `labels`, `labels.<key>`); none
    /// means target and labels. Returns the record after it.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a path or its labels.
    pub fn update<S: AsRef<str>>(
        &self,
        ns: &Namespace,
        image: &Image,
        paths: &[S],
    ) -> Result<Image> {
        let subject = format!("image {:?}", image.name);
        let mut label_paths = Vec::new();
        let (mut target, mut annotations) = (paths.is_empty(), Vec::new());
        for path in paths.iter().map(AsRef::as_ref) {
            match path {
                "target" => target = true,
                "annotations" | "target.annotations" => annotations.push(None),
                _ => match path.strip_prefix("annotations.") {
                    Some(key) => annotations.push(Some(key)),
                    None => label_paths.push(path.to_owned()),
                },
            }
        }
        let relabel = if paths.is_empty() || !label_paths.is_empty() {
            Some(LabelUpdate::from_paths(&label_paths, &subject)?)
        } else {
            None
        };
        let updated = self.db.write(|tx| {
            let mut new = find(tx, ns, &image.name)?;
            if target {
                new.target = image.target.clone();
            }
            for key in &annotations {
                match key {
                    None => new.target.annotations = image.target.annotations.clone(),
                    Some(key) => {
                        let value = image.target.annotations.get(*key).cloned();
                        new.target.annotations.remove(*key);
                        new.target
                            .annotations
                            .extend(value.map(|value| ((*key).to_owned(), value)));
                    }
                }
            }
            if let Some(relabel) = &relabel {
                new.labels = relabel.apply(std::mem::take(&mut new.labels), &image.labels)?;
            }
            new.updated_at = SystemTime::now();
            check(&new)?;
            put(tx, ns, &new, "REPLACE")?;
            Ok(new)
        })?;
        self.db
            .events()
            .image_updated(ns, &updated.name, &updated.labels);
        Ok(updated)
    }

    /// Makes `name` stand for `image.target`, whether or not it existed.
    ///
    /// # Errors
    /// As [`Self::create`] but AlreadyExists.
    pub fn put(&self, ns: &Namespace, image: Image) -> Result<Image> {
        match self.create(ns, image.clone()) {
            Err(err) if err.kind() == Kind::AlreadyExists => {
                self.update(ns, &image, &["target", "labels"])
            }
            made => made,
        }
    }

    /// Removes the name; blobs are left to collection.
    ///
    /// # Errors
    /// NotFound.
    pub fn delete(&self, ns: &Namespace, name: &str) -> Result<()> {
        self.db.write(|tx| remove(tx, ns, name))?;
        self.db.events().image_deleted(ns, name);
        Ok(())
    }

    /// Removes the name if it still stands for `target`.
    ///
    /// # Errors
    /// NotFound, also when it stands for something else now.
    pub fn delete_target(&self, ns: &Namespace, name: &str, target: &Descriptor) -> Result<()> {
        self.db.write(|tx| {
            let found = find(tx, ns, name)?;
            if found.target.digest != target.digest {
                return Err(Kind::NotFound.error(format!(
                    "image {name:?} has target {}, not {}: not found",
                    found.target.digest, target.digest
                )));
            }
            remove(tx, ns, name)
        })?;
        self.db.events().image_deleted(ns, name);
        Ok(())
    }
}

fn check(image: &Image) -> Result<()> {
    if image.name.is_empty() {
        return Err(Kind::InvalidArgument.error("image name must not be empty: invalid argument"));
    }
    if image.target.media_type.is_empty() {
        return Err(Kind::InvalidArgument.error(format!(
            "image {:?}: Target.MediaType must be set: invalid argument",
            image.name
        )));
    }
    check_labels(&image.labels)
}

fn remove(tx: &Connection, ns: &Namespace, name: &str) -> Result<()> {
    let gone = tx.execute(
        "DELETE FROM images WHERE namespace = ?1 AND name = ?2",
        [ns.as_str(), name],
    )?;
    if gone == 0 {
        return Err(not_found(name));
    }
    leases::end_interrupted(tx, ns, name)?;
    leases::release(tx, ns, "images", name)
}

fn put(tx: &Connection, ns: &Namespace, image: &Image, verb: &str) -> Result<usize> {
    let statement = format!(
        "{verb} INTO images (namespace, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    );
    Ok(tx.prepare_cached(&statement)?.execute(params![
        ns.as_str(),
        image.name,
        image.target.media_type,
        image.target.digest.as_str(),
        row::to_column(image.target.size),
        row::to_json(&image.target.annotations),
        row::to_json(&image.labels),
        to_nanos(image.created_at),
        to_nanos(image.updated_at),
    ])?)
}

fn find(tx: &Connection, ns: &Namespace, name: &str) -> Result<Image> {
    let mut query = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM images WHERE namespace = ?1 AND name = ?2"
    ))?;
    row::first(query.query([ns.as_str(), name])?, read)?.ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> crate::Error {
    Kind::NotFound.error(format!("image {name:?}: not found"))
}

fn read(row: &Row<'_>) -> Result<Image> {
    Ok(Image {
        name: row.get("name")?,
        target: Descriptor {
            media_type: row.get("media_type")?,
            digest: row::digest(row, "digest")?,
            size: row::size(row, "size")?,
            annotations: row::labels(row, "annotations")?,
        },
        labels: row::labels(row, "labels")?,
        created_at: row::time(row, "created_at")?,
        updated_at: row::time(row, "updated_at")?,
    })
}
