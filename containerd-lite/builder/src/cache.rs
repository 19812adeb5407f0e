//! Results of steps, by what they depend on; they outlive the daemon.
//!
//! A result is a file `steps/<key>` that names the layer. Its blob and snapshot are held by one lease, so that collection leaves
//! them alone; a result whose layer is gone all the same is as good as none.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use lite_core::{
    Because as _, Core, Descriptor, Digest, Kind, Labels, Namespace, Resource, Result,
};
use serde::{Deserialize, Serialize};

use crate::SNAPSHOTTER;

/// The lease that holds every cached layer.
const LEASE: &str = "builder-cache";

/// What a change of the format of keys or files must change.
const VERSION: &str = "1";

/// One layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of its uncompressed bytes.
    pub diff_id: String,
    /// The digest of its blob.
    pub digest: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The name of its snapshot.
    pub chain_id: String,
}

impl Layer {
    /// The blob.
    ///
    /// # Errors
    /// InvalidArgument when the file held something else than a digest.
    pub fn blob(&self) -> Result<Descriptor> {
        Ok(Descriptor {
            media_type: self.media_type.clone(),
            digest: Digest::parse(&self.digest)?,
            size: self.size,
            ..Descriptor::of("", b"")
        })
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The layer; `None` if it changed nothing.
    pub layer: Option<Layer>,
}

/// The cache.
#[derive(Clone)]
pub struct Cache {
    core: Core,
    ns: Namespace,
    dir: PathBuf,
}

/// The key of something that depends on `parts`.
#[must_use]
pub fn key(parts: &[&str]) -> String {
    let mut text = VERSION.to_owned();
    for part in parts {
        text.push_str(&format!("\n{}:{part}", part.len()));
    }
    Digest::of(text.as_bytes()).hex().to_owned()
}

impl Cache {
    /// The cache in `dir`.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn open(core: &Core, ns: &Namespace, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).op(|| format!("create {}", dir.display()))?;
        match core.leases.create(ns, LEASE, &Labels::new()) {
            Err(err) if err.kind() != Kind::AlreadyExists => return Err(err),
            _ => {}
        }
        Ok(Self {
            core: core.clone(),
            ns: ns.clone(),
            dir,
        })
    }

    /// The result under `key`, if all of it is here.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Outcome> {
        let text = fs::read(self.dir.join(key)).ok()?;
        let outcome: Outcome = serde_json::from_slice(&text).ok()?;
        if let Some(layer) = &outcome.layer {
            let digest = Digest::parse(&layer.digest).ok()?;
            self.core.content.info(&self.ns, &digest).ok()?;
            let snapshots = &self.core.snapshots;
            snapshots
                .stat(&self.ns, SNAPSHOTTER, &layer.chain_id)
                .ok()?;
        }
        Some(outcome)
    }

    /// Keeps a result.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn put(&self, key: &str, outcome: &Outcome) -> Result<()> {
        if let Some(layer) = &outcome.layer {
            for (kind, id) in [
                ("content".to_owned(), &layer.digest),
                (format!("snapshots/{SNAPSHOTTER}"), &layer.chain_id),
            ] {
                let resource = Resource {
                    kind,
                    id: id.clone(),
                };
                self.core.leases.add_resource(&self.ns, LEASE, &resource)?;
            }
        }
        let context = || format!("write {}", self.dir.join(key).display());
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).op(context)?;
        let text = serde_json::to_vec(outcome)
            .map_err(|err| Kind::Internal.error("encode a cached result").because(err))?;
        file.write_all(&text).op(context)?;
        file.persist(self.dir.join(key))
            .map_err(|err| err.error)
            .op(context)?;
        Ok(())
    }

    /// Forgets every result. What only the cache held goes with the next collection.
    ///
    /// # Errors
    /// Those of the file system and the database.
    pub fn clear(&self) -> Result<()> {
        self.core.leases.delete(&self.ns, LEASE)?;
        self.core.leases.create(&self.ns, LEASE, &Labels::new())?;
        let context = || format!("empty {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).op(context)? {
            fs::remove_file(entry.op(context)?.path()).op(context)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(key(&["a", "b"]).len(), 64);
    }
}
