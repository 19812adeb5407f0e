//! Volumes: directories that outlive containers, `<root>/volumes/<name>/_data`.
//!
//! A volume's document in the database is written after its directory is made
//! and deleted before that is removed, so that a volume which is listed is
//! always whole; directories without a document are swept at the daemon's
//! start. Who uses a volume is read off the containers' records.

mod attach;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::SystemTime;

use lite_core::{Because, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::list_filter::Filter;
use crate::rfc3339;
use crate::rootfs::disk_usage;
use lite_core::ids::Id;

pub(crate) use attach::{attach, inspect as inspect_mounts, mount_sources};

/// The documents' kind in the database.
const KIND: &str = "volume";

/// A label that Docker gives volumes nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique.
    pub name: String,
    /// When it was made.
    #[serde(with = "rfc3339::optional")]
    pub created_at: Option<SystemTime>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, as typed.
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// The object, as `docker volume inspect` prints it.
    #[must_use]
    pub fn json(&self, engine: &Engine) -> Value {
        json!({
            "CreatedAt": self.created_at.map_or_else(String::new, rfc3339::format_seconds),
            "Driver": "local",
            "Labels": or_null(&self.labels),
            "Mountpoint": data_dir(engine, &self.name),
            "Name": self.name,
            "Options": or_null(&self.options),
            "Scope": "local",
        })
    }
}

fn or_null(map: &BTreeMap<String, String>) -> Value {
    if map.is_empty() {
        Value::Null
    } else {
        json!(map)
    }
}

/// A volume to be made. Empty means "not given".
#[derive(Debug, Clone, Default)]
pub struct CreateVolume {
    /// Its name; a random one where not given.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

fn dir(engine: &Engine, name: &str) -> PathBuf {
    engine.config().root.join("volumes").join(name)
}

/// Where a volume's files are.
pub(crate) fn data_dir(engine: &Engine, name: &str) -> PathBuf {
    dir(engine, name).join("_data")
}

fn check_name(name: &str) -> Result<()> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    // What a file name may have.
    if starts_well && name.len() >= 2 && name.len() <= 255 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Kind::InvalidArgument.error(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// Makes a volume; one that is there already is returned as it is.
///
/// # Errors
/// InvalidArgument for a name or driver that cannot be; those of storage.
pub async fn create(engine: &Engine, request: CreateVolume) -> Result<Volume> {
    let engine = engine.clone();
    lite_core::blocking(move || make(&engine, &request).map(|(volume, _)| volume)).await
}

/// The same without waiting for a thread; tells whether it is new.
pub(crate) fn make(engine: &Engine, request: &CreateVolume) -> Result<(Volume, bool)> {
    if !matches!(request.driver.as_str(), "" | "local") {
        return Err(Kind::NotFound.error(format!(
            "error looking up volume plugin {0}: plugin \"{0}\" not found: the only driver is \"local\"",
            request.driver
        )));
    }
    if let Some(option) = request.options.keys().next() {
        return Err(Kind::InvalidArgument.error(format!(
            "create {}: option {option:?}: volumes take no options; mount other file systems on the host and bind them",
            request.name
        )));
    }
    let anonymous = request.name.is_empty();
    let name = if anonymous {
        Id::generate()
            .op(|| "make a name".to_owned())?
            .as_str()
            .to_owned()
    } else {
        check_name(&request.name)?;
        request.name.clone()
    };
    if let Some(volume) = find(engine, &name)? {
        return Ok((volume, false));
    }
    let mut labels = request.labels.clone();
    if anonymous {
        labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    let volume = Volume {
        name: name.clone(),
        created_at: Some(SystemTime::now()),
        labels,
        options: request.options.clone(),
    };
    let data = data_dir(engine, &name);
    let make_dirs = || -> io::Result<()> {
        DirBuilder::new()
            .mode(0o711)
            .recursive(true)
            .create(dir(engine, &name))?;
        match DirBuilder::new().mode(0o755).create(&data) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    };
    make_dirs().op(|| format!("make {}", data.display()))?;
    let bytes = serde_json::to_vec(&volume)
        .map_err(|err| Kind::Internal.error("encode volume").because(err))?;
    match engine
        .core()
        .documents
        .create(engine.ns(), KIND, &name, &bytes)
    {
        // Somebody was faster.
        Err(err) if err.kind() == Kind::AlreadyExists => Ok((volume, false)),
        stored => stored.map(|()| (volume, true)),
    }
}

/// The volume of this name, where there is one.
///
/// # Errors
/// Those of the database; DataLoss for a document that cannot be read.
pub(crate) fn find(engine: &Engine, name: &str) -> Result<Option<Volume>> {
    let stored = engine.core().documents.get(engine.ns(), KIND, name)?;
    stored.map(|bytes| read(name, &bytes)).transpose()
}

fn read(name: &str, bytes: &[u8]) -> Result<Volume> {
    serde_json::from_slice(bytes).map_err(|err| {
        Kind::DataLoss
            .error(format!("read volume {name}"))
            .because(err)
    })
}

fn no_such(name: &str) -> lite_core::Error {
    Kind::NotFound.error(format!("get {name}: no such volume"))
}

/// One volume.
///
/// # Errors
/// NotFound; those of the database.
pub async fn inspect(engine: &Engine, name: &str) -> Result<Value> {
    let (engine, name) = (engine.clone(), name.to_owned());
    lite_core::blocking(move || {
        let volume = find(&engine, &name)?.ok_or_else(|| no_such(&name))?;
        Ok(volume.json(&engine))
    })
    .await
}

/// Ids of the containers that have each volume.
fn users(engine: &Engine) -> HashMap<String, Vec<String>> {
    let mut users: HashMap<String, Vec<String>> = HashMap::new();
    for handle in engine.handles() {
        let record = handle.record();
        for mount in record.mounts.iter().filter(|mount| !mount.name.is_empty()) {
            users
                .entry(mount.name.clone())
                .or_default()
                .push(record.id.clone());
        }
    }
    users
}

/// The volumes that `filters` let through, by name.
///
/// # Errors
/// InvalidArgument for a filter there is not; those of the database.
pub async fn list(engine: &Engine, filters: &[String]) -> Result<Vec<Value>> {
    let filter = Filter::parse(filters, &["dangling", "driver", "label", "name"])?;
    let dangling = filter.switch("dangling")?;
    let engine = engine.clone();
    lite_core::blocking(move || {
        let users = users(&engine);
        let mut found = Vec::new();
        for (name, bytes) in engine.core().documents.list(engine.ns(), KIND)? {
            let volume = read(&name, &bytes)?;
            let passes = dangling.is_none_or(|wanted| wanted != users.contains_key(&name))
                && filter.any("driver", |value| value == "local")
                && filter.any("name", |value| name.contains(value))
                && filter.labels(&volume.labels);
            if passes {
                found.push(volume.json(&engine));
            }
        }
        Ok(found)
    })
    .await
}

/// Removes a volume with everything in it. With `force` one that is not there
/// is fine.
///
/// # Errors
/// NotFound; FailedPrecondition while a container has it.
pub async fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    let (engine, name) = (engine.clone(), name.to_owned());
    lite_core::blocking(move || match find(&engine, &name)? {
        None if force => Ok(()),
        None => Err(no_such(&name)),
        Some(_) => match users(&engine).get(&name) {
            Some(ids) => Err(Kind::FailedPrecondition.error(format!(
                "remove {name}: volume is in use - [{}]",
                ids.join(", ")
            ))),
            None => delete(&engine, &name),
        },
    })
    .await
}

/// Removes document and directory.
fn delete(engine: &Engine, name: &str) -> Result<()> {
    engine.core().documents.delete(engine.ns(), KIND, name)?;
    let dir = dir(engine, name);
    match fs::remove_dir_all(&dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).op(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the anonymous volumes in `names` that no container has any more.
pub(crate) fn remove_unused(engine: &Engine, owner: &str, names: &[String]) -> Result<()> {
    let users = users(engine);
    for name in names {
        let only_its_own = users
            .get(name)
            .is_none_or(|ids| ids.iter().all(|id| id == owner));
        if only_its_own {
            delete(engine, name)?;
        }
    }
    Ok(())
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names or ids.
    pub removed: Vec<String>,
    /// Bytes on disk that are free again.
    pub reclaimed: u64,
}

/// Removes volumes that no container has: anonymous ones, with `all` those with
/// a name as well.
///
/// # Errors
/// InvalidArgument for a filter there is not; those of storage.
pub async fn prune(engine: &Engine, all: bool, filters: &[String]) -> Result<Pruned> {
    let filter = Filter::parse(filters, &["all", "label", "label!"])?;
    let all = all || filter.switch("all")? == Some(true);
    let engine = engine.clone();
    lite_core::blocking(move || {
        let users = users(&engine);
        let mut pruned = Pruned::default();
        for (name, bytes) in engine.core().documents.list(engine.ns(), KIND)? {
            let volume = read(&name, &bytes)?;
            let goes = !users.contains_key(&name)
                && (all || volume.labels.contains_key(ANONYMOUS_LABEL))
                && filter.labels(&volume.labels);
            if goes {
                pruned.reclaimed += disk_usage(&data_dir(&engine, &name));
                delete(&engine, &name)?;
                pruned.removed.push(name);
            }
        }
        Ok(pruned)
    })
    .await
}

/// The names of all volumes.
///
/// # Errors
/// Those of the database.
pub(crate) fn names(engine: &Engine) -> Result<Vec<String>> {
    let all = engine.core().documents.list(engine.ns(), KIND)?;
    Ok(all.into_iter().map(|(name, _)| name).collect())
}

/// Removes directories that have no document: what a daemon that was killed in
/// the middle of a create or a removal has left.
///
/// # Errors
/// Those of the database and of reading the directory.
pub(crate) fn sweep(engine: &Engine) -> Result<()> {
    let root = engine.config().root.join("volumes");
    let entries = match fs::read_dir(&root) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.op(|| format!("read {}", root.display()))?,
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if find(engine, &name)?.is_none() {
            tracing::info!(volume = name, "removed a directory without volume");
            if let Err(err) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(volume = name, error = %err, "directory without volume");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for good in ["data", "a1", "a.b-c_d"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a", "../x", "a/b", ".hidden", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
