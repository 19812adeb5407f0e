//! Makes an image of one layer of an archive of files.
//!
//! The archive is unpacked into a snapshot, and the layer made of that: so it is
//! what this daemon would have written, whoever made the archive, and is there to
//! run at once.

use builder::config::{History, ImageConfig};
use builder::layer::{self, Written};
use lite_core::ids::Id;
use lite_core::pull::TransferLease;
use lite_core::{Because, Kind, Labels, Platform, Reference, Result, files};

use crate::engine::{Engine, SNAPSHOTTER};
use crate::events::Event;

use crate::pipe::{Pieces, Sink};
use crate::{images, rfc3339};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The image's name as typed; empty for none.
    pub reference: String,
    /// A remark; a word of where it came from if empty.
    pub message: String,
    /// Dockerfile instructions for the configuration.
    pub changes: Vec<String>,
    /// `os/arch[/variant]`; empty means this machine's.
    pub platform: String,
    /// What the archive is called, for the remark.
    pub source: String,
}

/// Makes the image and returns its id.
///
/// # Errors
/// InvalidArgument for name, changes and platform; those of
/// [`files::unpack`] and of the stores.
pub async fn import(engine: &Engine, request: Import, pieces: Pieces) -> Result<String> {
    let reference = images::new_name(&request.reference)?;
    let image = describe(&request)?;
    let lease = TransferLease::take(engine.core(), engine.ns(), "import").await?;
    let made = {
        let (engine, lease) = (engine.clone(), lease.id().to_owned());
        let name = reference.as_ref().map(Reference::to_string);
        lite_core::blocking(move || store(&engine, &lease, image, name, pieces)).await
    };
    let ended = lease.end().await;
    if made.is_err() {
        engine.sweep().await;
    }
    let id = made?;
    ended?;
    let event = Event::now("image", "import", &id);
    engine.emit(match reference {
        Some(reference) => event.with("name", reference.familiar()),
        None => event,
    });
    Ok(id)
}

fn describe(request: &Import) -> Result<ImageConfig> {
    let platform = match request.platform.as_str() {
        "" => Platform::host(),
        typed => Platform::parse(typed).ok_or_else(|| {
            Kind::InvalidArgument.error(format!(
                "platform {typed:?}: expected os/arch or os/arch/variant"
            ))
        })?,
    };
    let created = rfc3339::format(std::time::SystemTime::now());
    let comment = match request.message.as_str() {
        "" => format!("Imported from {}", request.source),
        message => message.to_owned(),
    };
    let image = ImageConfig {
        created: Some(created.clone()),
        os: platform.os,
        architecture: platform.architecture,
        variant: Some(platform.variant).filter(|variant| !variant.is_empty()),
        history: vec![History {
            created: Some(created),
            comment: Some(comment),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    builder::state::change(image, &request.changes).map_err(|mistake| {
        Kind::InvalidArgument.error(format!("change of the image: {}", mistake.message))
    })
}

fn store(
    engine: &Engine,
    lease: &str,
    image: ImageConfig,
    name: Option<String>,
    pieces: Pieces,
) -> Result<String> {
    let (core, ns) = (engine.core(), engine.ns());
    let snapshots = core.snapshots.leased(Some(lease));
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let key = format!("import-{id}");
    snapshots.prepare(ns, SNAPSHOTTER, &key, "", &Labels::new())?;
    let dir = snapshots.upper_dir(ns, SNAPSHOTTER, &key)?;
    files::unpack(Sink::new(pieces), &dir).op(|| "import the archive".to_owned())?;
    let written = Written {
        key: &key,
        parent: "",
        // The archive's own times stay.
        since_s: i64::MAX,
        time_s: 0,
    };
    let layers: Vec<_> = layer::commit(core, ns, lease, written)?
        .layer
        .into_iter()
        .collect();
    let exported = builder::export::export(core, ns, lease, image, &layers, &[])?;
    if let Some(name) = name {
        images::put(engine, name, exported.manifest.clone())?;
        core.images.delete(ns, exported.manifest.digest.as_str())?;
    }
    Ok(exported.id.to_string())
}
