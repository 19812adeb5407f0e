//! Loads images from an archive: a docker-archive or an OCI layout, as `docker
//! save` and `skopeo` write them.

use lite_core::{Platform, Result, image, import};
use tokio::io::AsyncRead;

use crate::engine::Engine;
use crate::images;

/// Loads and unpacks every image in `archive`, and returns their references.
///
/// # Errors
/// InvalidArgument for what is no such archive; DataLoss and
/// FailedPrecondition naming the digest of what is corrupt.
pub async fn load(engine: &Engine, archive: impl AsyncRead + Send + Unpin) -> Result<Vec<String>> {
    let images = match import::import(engine.core(), engine.ns(), archive).await {
        Ok(images) => images,
        Err(err) => {
            engine.sweep().await;
            return Err(err);
        }
    };
    let engine = engine.clone();
    lite_core::blocking(move || {
        let (core, ns) = (engine.core(), engine.ns());
        let mut loaded = Vec::with_capacity(images.len());
        for image in images {
            let resolved = image::resolve(core, ns, &image.target, &Platform::host())?;
            images::unpack(&engine, &resolved)?;
            // One without a name is known by its id.
            loaded.push(match lite_core::Digest::parse(&image.name) {
                Ok(_) => resolved.config.digest.to_string(),
                Err(_) => image.name,
            });
        }
        Ok(loaded)
    })
    .await
}
