//! Images as a kubelet sees them.
//!
//! An image is known by its id, the digest of its configuration. Each pull
//! leaves a name with the tag and one with the digest, so that an image whose
//! tag has moved on can still be named, until its last name is removed.
//!
//! 1. [`pull`](mod@pull) brings one.
//! 2. [`find`] looks one up by any of its names, [`list`] shows all.
//! 3. [`remove`](mod@remove) takes all names of one.
//! 4. [`usage`](mod@usage) says how much room all of them take.

mod pull;
mod remove;
mod usage;

use std::collections::BTreeMap;

pub use pull::{Auth, pull};
pub use remove::remove;
pub use usage::{FilesystemUsage, usage};

use oci_spec::image::ImageConfiguration;

use lite_core::image::{self, ResolvedImage};
use lite_core::{Filters, Kind, Platform, Reference, Result};

use crate::hub::Cri;

/// One image, with all of its names.
#[derive(Debug, Clone)]
pub struct CriImage {
    /// Digest of the configuration.
    pub id: String,
    /// `name:tag`.
    pub tags: Vec<String>,
    /// `name@digest`.
    pub digests: Vec<String>,
    /// Bytes of its blobs, as they were sent.
    pub size: u64,
    /// The user that it runs as, by number or by name; `None`: it does not say.
    pub user: Option<ImageUser>,
    /// Names in the store.
    pub(crate) names: Vec<String>,
    /// What the names lead to.
    pub(crate) resolved: Box<ResolvedImage>,
}

/// The user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// By number.
    Id(i64),
    /// By name.
    Name(String),
}

impl CriImage {
    /// The name of its topmost layer's snapshot (empty without layers), and its
    /// configuration.
    #[must_use]
    pub fn configuration(&self) -> (&str, &ImageConfiguration) {
        let chain = self.resolved.chain_id.as_ref();
        (
            chain.map_or("", lite_core::Digest::as_str),
            &self.resolved.image_config,
        )
    }

    /// Whether `typed` names this image: its id, whole or the beginning of it,
    /// or one of its references.
    fn is_named(&self, typed: &str) -> bool {
        let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
        let is_id = !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && self.resolved.config.digest.hex().starts_with(digits);
        is_id || normal_name(typed).is_some_and(|name| self.names.contains(&name))
    }
}

/// The image that `typed` names, if it is here.
///
/// # Errors
/// InvalidArgument for a name that says nothing; those of storage.
pub async fn find(cri: &Cri, typed: &str) -> Result<Option<CriImage>> {
    let (cri, typed) = (cri.clone(), typed.to_owned());
    lite_core::blocking(move || look_up(&cri, &typed)).await
}

/// As [`find`], on a thread that may block.
pub(crate) fn look_up(cri: &Cri, typed: &str) -> Result<Option<CriImage>> {
    if typed.is_empty() {
        return Err(Kind::InvalidArgument.error("image: no name given"));
    }
    Ok(catalog(cri)?
        .into_iter()
        .find(|image| image.is_named(typed)))
}

/// All images by id, or those that `only` names.
///
/// # Errors
/// Those of storage.
pub async fn list(cri: &Cri, only: Option<&str>) -> Result<Vec<CriImage>> {
    let (cri, only) = (cri.clone(), only.map(str::to_owned));
    lite_core::blocking(move || {
        let mut images = catalog(&cri)?;
        images.retain(|image| only.as_ref().is_none_or(|only| image.is_named(only)));
        Ok(images)
    })
    .await
}

/// Every image that has something for this platform.
pub(crate) fn catalog(cri: &Cri) -> Result<Vec<CriImage>> {
    let mut images: BTreeMap<String, CriImage> = BTreeMap::new();
    for record in cri.core().images.list(cri.ns(), &Filters::default())? {
        let found = image::resolve(cri.core(), cri.ns(), &record.target, &Platform::host());
        let Ok(resolved) = found else {
            // Of another platform, or brought in part by another client.
            continue;
        };
        let id = resolved.config.digest.to_string();
        let image = images.entry(id).or_insert_with(|| of_resolved(resolved));
        if let Ok(reference) = Reference::parse(&record.name) {
            if reference.tag().is_some() && reference.digest().is_none() {
                image.tags.push(record.name.clone());
            }
            let by_digest = format!("{}@{}", reference.name(), record.target.digest);
            if !image.digests.contains(&by_digest) {
                image.digests.push(by_digest);
            }
        }
        image.names.push(record.name);
    }
    Ok(images.into_values().collect())
}

fn of_resolved(resolved: ResolvedImage) -> CriImage {
    let blobs = resolved.layers.iter().map(|layer| layer.size).sum::<u64>();
    let config = resolved.image_config.config().as_ref();
    let user = config.and_then(|config| config.user().clone());
    CriImage {
        id: resolved.config.digest.to_string(),
        tags: Vec::new(),
        digests: Vec::new(),
        size: resolved.manifest.size + resolved.config.size + blobs,
        user: user.as_deref().and_then(user_of),
        names: Vec::new(),
        resolved: Box::new(resolved),
    }
}

/// The user out of `user[:group]`.
fn user_of(text: &str) -> Option<ImageUser> {
    let user = text.split(':').next().filter(|user| !user.is_empty())?;
    Some(match user.parse() {
        Ok(id) => ImageUser::Id(id),
        Err(_) => ImageUser::Name(user.to_owned()),
    })
}

/// The name under which the store has what `typed` refers to. A tag beside a
/// digest says nothing more than the digest.
pub(crate) fn normal_name(typed: &str) -> Option<String> {
    let reference = Reference::parse(typed).ok()?;
    Some(match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name() {
        assert_eq!(user_of("1002:5"), Some(ImageUser::Id(1002)));
        assert_eq!(
            user_of("www-data"),
            Some(ImageUser::Name("www-data".to_owned()))
        );
        assert_eq!(user_of(""), None);
        assert_eq!(user_of(":5"), None);
    }

    #[test]
    fn names_are_completed_and_a_digest_makes_a_tag_superfluous() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            normal_name("busybox").unwrap(),
            "docker.io/library/busybox:latest"
        );
        assert_eq!(
            normal_name(&format!("r.example/a:1@{digest}")).unwrap(),
            format!("r.example/a@{digest}")
        );
        assert_eq!(normal_name("No Name"), None);
    }
}
