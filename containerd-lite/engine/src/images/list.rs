//! Lists images, one row a reference.

use std::time::SystemTime;

use lite_core::{Reference, Result};

use super::{Found, catalog, size};
use crate::engine::Engine;
use crate::rfc3339;

/// One row of `images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Digest of the configuration.
    pub id: String,
    /// Familiar name, or `<none>`.
    pub repository: String,
    /// Tag, or `<none>`.
    pub tag: String,
    /// Digest of what the name points to.
    pub digest: String,
    /// When the image was built.
    pub created: Option<SystemTime>,
    /// Bytes of the unpacked layers.
    pub size: u64,
}

const NONE: &str = "<none>";

/// The images, newest first. `only` keeps those of one repository, or of one
/// `repository:tag`; empty keeps all.
///
/// # Errors
/// Those of storage.
pub async fn list_images(engine: &Engine, only: &str) -> Result<Vec<ImageRow>> {
    let (engine, only) = (engine.clone(), only.to_owned());
    lite_core::blocking(move || {
        let mut rows: Vec<_> = catalog(&engine)?
            .iter()
            .filter(|found| wanted(&only, found))
            .map(|found| row(&engine, found))
            .collect();
        rows.sort_by(|a, b| {
            b.created
                .cmp(&a.created)
                .then_with(|| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)))
        });
        Ok(rows)
    })
    .await
}

fn row(engine: &Engine, found: &Found) -> ImageRow {
    let reference = found.reference();
    let (repository, tag) = match &reference {
        Some(reference) => (
            reference.familiar_name().to_owned(),
            reference.tag().unwrap_or(NONE).to_owned(),
        ),
        // Named by another client of containerd's API, or by a bare digest.
        None => (NONE.to_owned(), NONE.to_owned()),
    };
    ImageRow {
        id: found.id().to_owned(),
        repository,
        tag,
        digest: found.image.target.digest.as_str().to_owned(),
        created: found
            .resolved
            .image_config
            .created()
            .as_deref()
            .and_then(rfc3339::parse),
        size: size(engine, &found.resolved),
    }
}

fn wanted(only: &str, found: &Found) -> bool {
    if only.is_empty() {
        return true;
    }
    let (Ok(asked), Some(has)) = (Reference::parse(only), found.reference()) else {
        return false;
    };
    asked.name() == has.name() && (!names_tag(only) || asked.tag() == has.tag())
}

/// Whether `typed` names a tag itself; the colon of a port is followed by a
/// slash sooner or later.
fn names_tag(typed: &str) -> bool {
    typed
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert!(names_tag("busybox:1"));
        assert!(names_tag("h:5000/busybox:1"));
        assert!(!names_tag("h:5000/busybox"));
        assert!(!names_tag("busybox"));
    }
}
