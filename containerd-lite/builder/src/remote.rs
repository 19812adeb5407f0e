//! `ADD` of an address. The file is fetched at every build, and what it holds decides whether the step runs again; with a
//! checksum, bytes that are here are not fetched.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use lite_core::{Because as _, Core, Digest, Kind, Result};
use sha2::{Digest as _, Sha256};

use crate::paths;
use crate::source::{Entry, EntryKind, Listing, Source};

/// Permissions of what came from the web, as with Docker.
const MODE: u32 = 0o600;

/// Its name where the address ends with none.
const NAMELESS: &str = "download";

/// A file that is here.
#[derive(Debug, Clone)]
pub struct Fetched {
    name: String,
    size: u64,
    content: String,
}

impl Fetched {
    /// What a cached result depends on.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {}", self.name, self.content)
    }

    /// A source that has only this file, and the file's path in it. `store` is where [`fetch`] has put it.
    #[must_use]
    pub fn source(&self, store: &Path) -> (Source, String) {
        let entry = Entry {
            mode: MODE,
            owner: (0, 0),
            kind: EntryKind::File {
                size: self.size,
                content: self.content.clone(),
            },
        };
        let listing = Listing {
            entries: std::iter::once((self.name.clone(), entry)).collect(),
            store: store.to_owned(),
        };
        (Source::Context(listing), self.name.clone())
    }
}

/// Has the file at `address` in `store`, by its digest.
///
/// # Errors
/// InvalidArgument for another checksum than the one that was asked for; what the server says; those of the store.
pub async fn fetch(
    core: &Core,
    store: &Path,
    address: &str,
    checksum: Option<&str>,
) -> Result<Fetched> {
    let expected = checksum.map(expected).transpose()?;
    fs::create_dir_all(store).op(|| format!("create {}", store.display()))?;
    let name = name_of(address);
    if let Some(content) = &expected
        && let Ok(about) = fs::metadata(store.join(content))
    {
        return Ok(Fetched {
            name,
            size: about.len(),
            content: content.clone(),
        });
    }
    let context = || format!("receive {address}");
    let unavailable = |err| Kind::Unavailable.error(context()).because(err);
    let mut download = core.registry.download(address).await.map_err(unavailable)?;
    let mut file = tempfile::NamedTempFile::new_in(store).op(context)?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Some(piece) = download.next().await.map_err(unavailable)? {
        hasher.update(&piece);
        size += piece.len() as u64;
        file.write_all(&piece).op(context)?;
    }
    let content = Digest::from_hash(&hasher.finalize()).hex().to_owned();
    if let Some(expected) = expected.filter(|expected| *expected != content) {
        return Err(Kind::InvalidArgument.error(format!(
            "digest mismatch of {address}: expected sha256:{expected}, got sha256:{content}"
        )));
    }
    file.persist(store.join(&content))
        .map_err(|err| err.error)
        .op(context)?;
    Ok(Fetched {
        name,
        size,
        content,
    })
}

/// The 64 digits of `sha256:…`.
fn expected(checksum: &str) -> Result<String> {
    let digest = Digest::parse(checksum).map_err(|err| {
        Kind::InvalidArgument
            .error(format!("checksum {checksum:?}"))
            .because(err)
    })?;
    Ok(digest.hex().to_owned())
}

/// The last name of the address's path.
fn name_of(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    match paths::last(path) {
        "" | "." | ".." => NAMELESS.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_last_name_of_its_address() {
        for (address, name) in [
            ("https://host/a/b.tar?x=/y#z", "b.tar"),
            ("http://host/a/", NAMELESS),
            ("http://host", NAMELESS),
            ("http://host/..", NAMELESS),
        ] {
            assert_eq!(name_of(address), name, "{address}");
        }
    }
}
