//! Lists images, one row a reference.

use std::time::SystemTime;

use lite_core::{Reference, Result};

use super::{Found, catalog, find, size};
use crate::engine::Engine;
use crate::list_filter::Filter;
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
/// `repository:tag`; empty keeps all. `filters` narrow further.
///
/// # Errors
/// Those of storage.
pub async fn list_images(engine: &Engine, only: &str, filters: &[String]) -> Result<Vec<ImageRow>> {
    let filter = Filter::parse(filters, &FILTERS)?;
    let dangling = filter.switch("dangling")?;
    let (engine, only) = (engine.clone(), only.to_owned());
    lite_core::blocking(move || {
        let bound = |key: &str| -> Result<_> {
            let named = filter.values(key).last();
            named
                .map(|typed| Ok(created(&find(&engine, typed)?)))
                .transpose()
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let mut rows: Vec<_> = catalog(&engine)?
            .iter()
            .filter(|found| wanted(&only, found))
            .filter(|found| {
                dangling.is_none_or(|wanted| {
                    wanted == found.reference().is_none_or(|name| name.tag().is_none())
                })
            })
            .filter(|found| before.is_none_or(|time| created(found) < time))
            .filter(|found| since.is_none_or(|time| created(found) > time))
            .filter(|found| filter.any("reference", |pattern| is_like(pattern, found)))
            .filter(|found| filter.labels(&labels(found)))
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

/// The keys of `--filter` of `images`.
const FILTERS: [&str; 6] = [
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
];

pub(super) fn created(found: &Found) -> Option<SystemTime> {
    let created = found.resolved.image_config.created();
    created.as_deref().and_then(rfc3339::parse)
}

pub(super) fn labels(found: &Found) -> std::collections::BTreeMap<String, String> {
    let config = found.resolved.image_config.config();
    let labels = config.as_ref().and_then(|config| config.labels().clone());
    labels.unwrap_or_default().into_iter().collect()
}

/// Whether a name fits a pattern with `*`, with or without its tag.
fn is_like(pattern: &str, found: &Found) -> bool {
    found.reference().is_some_and(|reference| {
        fits(pattern, &reference.familiar()) || fits(pattern, reference.familiar_name())
    })
}

/// A `*` stands for any text without a slash.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            let reach = after.find('/').unwrap_or(after.len());
            after
                .char_indices()
                .map(|(at, _)| at)
                .chain([after.len()])
                .take_while(|at| *at <= reach)
                .any(|at| fits(rest, &after[at..]))
        }),
    }
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
        created: created(found),
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
    fn patterns_stay_within_a_part_of_a_name() {
        assert!(fits("busy*", "busybox"));
        assert!(fits("*:latest", "busybox:latest"));
        assert!(fits("a/*", "a/b") && !fits("a*", "a/b"));
        assert!(!fits("busy", "busybox"));
    }

    #[test]
    fn a_port_is_no_tag() {
        assert!(names_tag("busybox:1"));
        assert!(names_tag("h:5000/busybox:1"));
        assert!(!names_tag("h:5000/busybox"));
        assert!(!names_tag("busybox"));
    }
}
