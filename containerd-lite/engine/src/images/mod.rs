//! Images as Docker sees them: looked up by reference, by id (the digest of
//! the configuration) or by the beginning of an id.

mod history;
mod inspect;
mod list;
mod prune;
mod remove;
mod save;
mod tag;

pub use history::history;
pub use inspect::inspect_image;
pub use list::{ImageRow, list_images};
pub use prune::prune_images;
pub use remove::{Removed, remove_image};
pub use save::save_images;
pub use tag::tag_image;

use lite_core::image::{self, ResolvedImage};
use lite_core::{Descriptor, Error, Filters, Image, Kind, Platform, Reference, Result, chain};

use crate::engine::{Engine, SNAPSHOTTER};

/// No image configuration is larger.
const LARGEST_CONFIG: u64 = 8 << 20;

/// A stored image with what it resolves to on this platform.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Name and target.
    pub(crate) image: Image,
    /// Manifest, configuration and layers.
    pub(crate) resolved: ResolvedImage,
}

impl Found {
    /// Digest of the configuration.
    pub(crate) fn id(&self) -> &str {
        self.resolved.config.digest.as_str()
    }

    /// The name's parts, where it has one: an image without is kept under its
    /// digest.
    pub(crate) fn reference(&self) -> Option<Reference> {
        if lite_core::Digest::parse(&self.image.name).is_ok() {
            return None;
        }
        Reference::parse(&self.image.name).ok()
    }
}

/// Looks an image up.
///
/// # Errors
/// NotFound; those of storage.
pub(crate) fn find(engine: &Engine, typed: &str) -> Result<Found> {
    if let Some(image) = by_reference(engine, typed)? {
        let resolved = resolve(engine, &image)?;
        return Ok(Found { image, resolved });
    }
    by_id(engine, typed)?
        .into_iter()
        .next()
        .ok_or_else(|| no_such_image(typed))
}

/// Reads the name of an image that is to be made; `None` where none was typed.
///
/// # Errors
/// InvalidArgument for what is no name, or has a digest.
pub(crate) fn new_name(typed: &str) -> Result<Option<Reference>> {
    if typed.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse(typed).map_err(|err| {
        Kind::InvalidArgument
            .error(format!("invalid reference format: {typed:?}"))
            .because(err)
    })?;
    if typed.contains('@') {
        return Err(Kind::InvalidArgument.error("refusing to create a tag with a digest reference"));
    }
    Ok(Some(reference))
}

/// Makes `name` a name of `target`. An image that loses its last name by that
/// is kept without one, as in Docker.
pub(crate) fn put(engine: &Engine, name: String, target: Descriptor) -> Result<()> {
    let (images, ns) = (&engine.core().images, engine.ns());
    let before = match images.get(ns, &name) {
        Ok(image) => Some(image.target),
        Err(err) if err.kind() == Kind::NotFound => None,
        Err(err) => return Err(err),
    };
    if let Some(before) = before
        && before.digest != target.digest
    {
        let all = images.list(ns, &Filters::default())?;
        let mut others = all.iter().filter(|image| image.name != name);
        if !others.any(|image| image.target.digest == before.digest) {
            images.put(ns, Image::new(before.digest.to_string(), before))?;
        }
    }
    images.put(ns, Image::new(name, target)).map(drop)
}

/// The image stored under the reference `typed`, completed by Docker's rules.
pub(crate) fn by_reference(engine: &Engine, typed: &str) -> Result<Option<Image>> {
    let Ok(reference) = Reference::parse(typed) else {
        return Ok(None);
    };
    match engine
        .core()
        .images
        .get(engine.ns(), &reference.to_string())
    {
        Ok(image) => Ok(Some(image)),
        Err(err) if err.kind() == Kind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Every name of the one image whose id is `typed` or begins with it; empty
/// when there is none.
///
/// # Errors
/// InvalidArgument when several images begin so.
pub(crate) fn by_id(engine: &Engine, typed: &str) -> Result<Vec<Found>> {
    let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let mut found = catalog(engine)?;
    found.retain(|found| found.resolved.config.digest.hex().starts_with(digits));
    if found.iter().any(|other| other.id() != found[0].id()) {
        return Err(Kind::InvalidArgument
            .error(format!("multiple IDs found with provided prefix: {typed}")));
    }
    Ok(found)
}

/// Every image that has something for this platform, by name.
pub(crate) fn catalog(engine: &Engine) -> Result<Vec<Found>> {
    let images = engine
        .core()
        .images
        .list(engine.ns(), &Filters::default())?;
    let found = images.into_iter().filter_map(|image| match resolve(engine, &image) {
        Ok(resolved) => Some(Found { image, resolved }),
        Err(err) => {
            tracing::debug!(image = image.name, error = %chain(&err), "image without content for this platform");
            None
        }
    });
    Ok(found.collect())
}

fn resolve(engine: &Engine, image: &Image) -> Result<ResolvedImage> {
    image::resolve(engine.core(), engine.ns(), &image.target, &Platform::host())
}

/// Makes sure that the image's layers are there as snapshots. When they are,
/// that costs one look and writes nothing: it is on the way of every create.
///
/// # Errors
/// DataLoss or FailedPrecondition naming the digest of a corrupt layer.
pub(crate) fn unpack(engine: &Engine, resolved: &ResolvedImage) -> Result<()> {
    let Some(top) = &resolved.chain_id else {
        return Ok(());
    };
    match engine
        .core()
        .snapshots
        .stat(engine.ns(), SNAPSHOTTER, top.as_str())
    {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == Kind::NotFound => lite_core::unpack(
            engine.core(),
            engine.ns(),
            SNAPSHOTTER,
            resolved,
            &mut |_| {},
        )
        .map(drop),
        Err(err) => Err(err),
    }
}

/// The configuration as it is stored, with what only Docker knows of.
pub(crate) fn raw_config(engine: &Engine, resolved: &ResolvedImage) -> Result<serde_json::Value> {
    let digest = &resolved.config.digest;
    let bytes = engine
        .core()
        .content
        .read(engine.ns(), digest, LARGEST_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|err| {
        Kind::DataLoss
            .error(format!("read image configuration {digest}"))
            .because(err)
    })
}

/// Bytes of all unpacked layers; those that are not unpacked do not count.
pub(crate) fn size(engine: &Engine, resolved: &ResolvedImage) -> u64 {
    let usage = |name: &str| {
        engine
            .core()
            .snapshots
            .usage(engine.ns(), SNAPSHOTTER, name)
            .map_or(0, |usage| usage.size)
    };
    image::chain_ids(&resolved.diff_ids)
        .iter()
        .map(|chain| usage(chain.as_str()))
        .sum()
}

/// Docker's words, with the reference in full familiar form.
pub(crate) fn no_such_image(typed: &str) -> Error {
    let name =
        Reference::parse(typed).map_or_else(|_| typed.to_owned(), |reference| reference.familiar());
    Kind::NotFound.error(format!("No such image: {name}"))
}

/// The first twelve digits of an id.
pub(crate) fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..lite_core::ids::SHORT_DIGITS).unwrap_or(digits)
}
