//! What takes room below the daemon's root directory, to the byte as `du(1)`
//! counts it: one walk, each file counted once and for one owner, so that the
//! parts add up to the whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lite_core::{Filters, Result, SnapshotKind, image};
use serde_json::{Value, json};

use crate::engine::{Engine, SNAPSHOTTER};
use crate::images::{self, Found};
use crate::state::Phase;
use crate::{list, rfc3339, volumes};

/// Whose room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    Images,
    Containers,
    Volumes,
    BuildCache,
    /// The database, and directories that hold the rest.
    Records,
}

/// Room by owner, and by directory for those that have one each.
#[derive(Debug, Default)]
struct Measured {
    by_owner: BTreeMap<Owner, u64>,
    by_directory: HashMap<PathBuf, u64>,
}

/// In the shape of Docker's `/system/df`, with `Total` for the whole directory
/// and `Sizes` by kind of thing.
///
/// # Errors
/// Those of storage.
pub async fn usage(engine: &Engine) -> Result<Value> {
    let engine = engine.clone();
    lite_core::blocking(move || measure(&engine)).await
}

fn measure(engine: &Engine) -> Result<Value> {
    let names = images::catalog(engine)?;
    let (owners, layers) = owners(engine, &names)?;
    let measured = walk(&engine.config().root, &owners);
    let of = |owner| measured.by_owner.get(&owner).copied().unwrap_or(0);
    let at = |path: &Path| measured.by_directory.get(path).copied().unwrap_or(0);
    let records = list::all(engine);
    let mut containers = Vec::new();
    let mut idle = 0;
    for record in &records {
        let own = layers.get(&record.id).map_or(0, |dir| at(dir));
        let size = own + at(&engine.config().root.join("containers").join(&record.id));
        if record.phase != Phase::Running {
            idle += size;
        }
        containers.push(json!({
            "Id": record.id,
            "Names": [format!("/{}", record.name)],
            "Image": record.image.typed,
            "ImageID": record.image.id,
            "Command": record.config.argv().join(" "),
            "Created": record.created_at.map(rfc3339::format),
            "SizeRw": own,
            "SizeTotal": size,
            "State": record.status_word(),
            "Status": crate::status::words(record, std::time::SystemTime::now()),
            "LocalVolumes": record.mounts.iter().filter(|mount| !mount.name.is_empty()).count(),
        }));
    }
    let (images, unused) = images_of(engine, &names, &records, |chain| {
        layers.get(chain).map_or(0, |dir| at(dir))
    });
    let (volumes, free) = volumes_of(engine, &records, &at)?;
    Ok(json!({
        "LayersSize": of(Owner::Images),
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": [],
        "Sizes": {
            "Images": { "Size": of(Owner::Images), "Reclaimable": unused.min(of(Owner::Images)) },
            "Containers": { "Size": of(Owner::Containers), "Reclaimable": idle },
            "Volumes": { "Size": of(Owner::Volumes), "Reclaimable": free },
            "BuildCache": { "Size": of(Owner::BuildCache), "Reclaimable": of(Owner::BuildCache) },
            "Records": { "Size": of(Owner::Records), "Reclaimable": 0 },
        },
        "Total": measured.by_owner.values().sum::<u64>(),
    }))
}

type Owners = HashMap<PathBuf, Owner>;

/// Whose each directory and blob is, and the directory of each snapshot by name.
fn owners(engine: &Engine, names: &[Found]) -> Result<(Owners, HashMap<String, PathBuf>)> {
    let (core, ns, root) = (engine.core(), engine.ns(), &engine.config().root);
    let mut owners = Owners::from([
        (root.join("content"), Owner::Images),
        (root.join("snapshots"), Owner::Images),
        (root.join("containers"), Owner::Containers),
        (root.join("volumes"), Owner::Volumes),
        (root.join("builder"), Owner::BuildCache),
    ]);
    let of_images: HashSet<String> = names
        .iter()
        .flat_map(|found| image::chain_ids(&found.resolved.diff_ids))
        .map(|chain| chain.to_string())
        .collect();
    let mut layers = HashMap::new();
    let mut below_containers = HashSet::new();
    let all = core.snapshots.list(ns, SNAPSHOTTER, &Filters::default())?;
    for info in all
        .iter()
        .filter(|info| info.kind != SnapshotKind::Committed)
    {
        let mut key = info.parent.clone();
        while let Some(parent) = all.iter().find(|other| other.name == key) {
            if !below_containers.insert(key) {
                break;
            }
            key = parent.parent.clone();
        }
    }
    for info in all {
        let dir = core.snapshots.directory(ns, SNAPSHOTTER, &info.name)?;
        let owner = match info.kind {
            SnapshotKind::Active | SnapshotKind::View => Owner::Containers,
            SnapshotKind::Committed
                if of_images.contains(&info.name) || below_containers.contains(&info.name) =>
            {
                Owner::Images
            }
            SnapshotKind::Committed => Owner::BuildCache,
        };
        owners.insert(dir.clone(), owner);
        layers.insert(info.name, dir);
    }
    for record in list::all(engine) {
        let dir = root.join("containers").join(&record.id);
        owners.insert(dir, Owner::Containers);
    }
    Ok((owners, layers))
}

/// Walks `root`: what is nowhere in `owners` belongs to whom its directory does.
fn walk(root: &Path, owners: &Owners) -> Measured {
    let mut measured = Measured::default();
    let mut seen = HashSet::new();
    let mut left = vec![(root.to_owned(), Owner::Records, None::<PathBuf>)];
    while let Some((path, above, directory)) = left.pop() {
        // What goes away meanwhile does not count.
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue;
        };
        if about.nlink() > 1 && !about.is_dir() && !seen.insert((about.dev(), about.ino())) {
            continue;
        }
        let known = owners.get(&path).copied();
        let owner = known.unwrap_or(above);
        let directory = match known {
            Some(_) => Some(path.clone()),
            // Volumes have a directory each.
            None if path
                .parent()
                .is_some_and(|parent| parent.ends_with("volumes")) =>
            {
                Some(path.clone())
            }
            None => directory,
        };
        let bytes = about.blocks() * 512;
        *measured.by_owner.entry(owner).or_default() += bytes;
        if let Some(directory) = &directory {
            *measured.by_directory.entry(directory.clone()).or_default() += bytes;
        }
        if about.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            left.extend(
                entries
                    .flatten()
                    .map(|entry| (entry.path(), owner, directory.clone())),
            );
        }
    }
    measured
}

/// One row for each image, and the room of those that no container uses.
fn images_of(
    engine: &Engine,
    names: &[Found],
    records: &[std::sync::Arc<crate::record::Record>],
    room: impl Fn(&str) -> u64,
) -> (Vec<Value>, u64) {
    let mut users: HashMap<&str, usize> = HashMap::new();
    for record in records {
        *users.entry(record.image.id.as_str()).or_default() += 1;
    }
    // How many images have each layer.
    let ids: BTreeSet<&str> = names.iter().map(Found::id).collect();
    let mut sharers: HashMap<String, Vec<&str>> = HashMap::new();
    for id in &ids {
        let Some(found) = names.iter().find(|found| found.id() == *id) else {
            continue;
        };
        for chain in image::chain_ids(&found.resolved.diff_ids) {
            sharers.entry(chain.to_string()).or_default().push(*id);
        }
    }
    let mut unused = 0;
    for (chain, ids) in &sharers {
        if ids.iter().all(|id| !users.contains_key(id)) {
            unused += room(chain);
        }
    }
    let mut rows = Vec::new();
    for id in ids {
        let mut of_it = names.iter().filter(|found| found.id() == id).peekable();
        let Some(first) = of_it.peek() else { continue };
        let chains = image::chain_ids(&first.resolved.diff_ids);
        let (mut size, mut shared) = (0, 0);
        for chain in &chains {
            let bytes = room(chain.as_str());
            size += bytes;
            if sharers.get(chain.as_str()).is_some_and(|ids| ids.len() > 1) {
                shared += bytes;
            }
        }
        for blob in first.resolved.layers.iter().chain([&first.resolved.config]) {
            let stored = engine.core().content.info(engine.ns(), &blob.digest);
            if !users.contains_key(id) && stored.is_ok() {
                unused += blob.size;
            }
        }
        let created = first.resolved.image_config.created().clone();
        let tags: Vec<String> = of_it
            .filter_map(Found::reference)
            .filter(|reference| reference.tag().is_some())
            .map(|reference| reference.familiar())
            .collect();
        rows.push(json!({
            "Id": id,
            "RepoTags": tags,
            "Created": created,
            "Size": size,
            "SharedSize": shared,
            "Containers": users.get(id).copied().unwrap_or(0),
        }));
    }
    (rows, unused)
}

/// One row for each volume, and the room of those that no container uses.
fn volumes_of(
    engine: &Engine,
    records: &[std::sync::Arc<crate::record::Record>],
    room: &impl Fn(&Path) -> u64,
) -> Result<(Vec<Value>, u64)> {
    let (mut rows, mut free) = (Vec::new(), 0);
    for name in volumes::names(engine)? {
        let size = room(&engine.config().root.join("volumes").join(&name));
        let links = records
            .iter()
            .filter(|record| record.mounts.iter().any(|mount| mount.name == name))
            .count();
        if links == 0 {
            free += size;
        }
        rows.push(json!({ "Name": name, "UsageData": { "Size": size, "RefCount": links } }));
    }
    Ok((rows, free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole_and_links_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["content/blobs", "volumes/v/_data", "other"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("content/blobs/a"), vec![1; 10_000]).unwrap();
        fs::hard_link(root.join("content/blobs/a"), root.join("content/blobs/b")).unwrap();
        fs::write(root.join("volumes/v/_data/x"), vec![1; 5_000]).unwrap();
        let owners = Owners::from([
            (root.join("content"), Owner::Images),
            (root.join("volumes"), Owner::Volumes),
        ]);
        let measured = walk(root, &owners);
        let total: u64 = measured.by_owner.values().sum();
        assert_eq!(total, crate::rootfs::disk_usage(root));
        let content = crate::rootfs::disk_usage(&root.join("content"));
        assert_eq!(measured.by_owner[&Owner::Images], content);
        let volume = root.join("volumes/v");
        let size = crate::rootfs::disk_usage(&volume);
        assert_eq!(measured.by_directory[&volume], size);
    }
}
