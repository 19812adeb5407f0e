//! Makes an image of a container: its image's layers, one more with what it has
//! changed, and its configuration with the user's changes.
//!
//! 1. The processes are held, unless the user wants them to go on. That is
//!    noted first: a daemon that is killed meanwhile lets them go on when it
//!    comes back.
//! 2. [`layers_below`] finds the layers of the container's image; of an image
//!    that was removed they are made again of its snapshots.
//! 3. The changes become a layer, without what the runtime made to mount on.
//! 4. [`describe`] makes the configuration.
//! 5. The image is stored and unpacked, so that it can run at once.

use std::time::{Duration, SystemTime};

use builder::cache::Layer;
use builder::config::{self, Health, History, ImageConfig};
use lite_core::pull::TransferLease;
use lite_core::{Descriptor, Digest, Kind, Platform, Reference, Result, chain, diff, image};
use serde_json::Value;

use crate::engine::{Engine, SNAPSHOTTER};
use crate::events::Event;
use crate::images;
use crate::record::{Config, Record};
use crate::rfc3339;
use crate::spec;
use crate::state::Phase;
use crate::supervisor::Handle;

/// How long a container that cannot be paused may take to be seen as ended.
const ENDING: Duration = Duration::from_secs(3);

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Of which container.
    pub container: String,
    /// The image's name as typed; empty for none.
    pub reference: String,
    /// Who made it.
    pub author: String,
    /// A remark.
    pub message: String,
    /// Dockerfile instructions that change the configuration.
    pub changes: Vec<String>,
    /// Hold the container's processes meanwhile.
    pub pause: bool,
}

/// Makes the image and returns its id. Goes on to its end when the caller stops
/// waiting.
///
/// # Errors
/// NotFound; InvalidArgument for a name or a change that is none;
/// FailedPrecondition for a container that is being made or removed.
pub async fn commit(engine: &Engine, request: Commit) -> Result<String> {
    let engine = engine.clone();
    let work = tokio::spawn(async move { make(&engine, request).await });
    work.await
        .map_err(|join| Kind::Internal.error("commit container").because(join))?
}

async fn make(engine: &Engine, request: Commit) -> Result<String> {
    let reference = images::new_name(&request.reference)?;
    let handle = engine.find(&request.container)?;
    let record = handle.record();
    if matches!(
        record.phase,
        Phase::Creating | Phase::Removing | Phase::Dead
    ) {
        let id = &record.id;
        return Err(Kind::FailedPrecondition.error(format!(
            "You cannot commit container {id} which is being removed"
        )));
    }
    // Before anything is held up: most mistakes are here.
    builder::state::change(ImageConfig::default(), &request.changes).map_err(bad_change)?;
    let lease = TransferLease::take(engine.core(), engine.ns(), "commit").await?;
    let held = request.pause && hold(&handle).await?;
    let made = {
        let (engine, lease, record) = (engine.clone(), lease.id().to_owned(), record.clone());
        let (request, name) = (
            request.clone(),
            reference.as_ref().map(Reference::to_string),
        );
        lite_core::blocking(move || store(&engine, &lease, &record, &request, name)).await
    };
    if held && let Err(err) = let_go(&handle).await {
        tracing::warn!(container_id = record.id, error = %chain(&err), "continue after a commit");
    }
    let ended = lease.end().await;
    let id = made?;
    ended?;
    let event = Event::of_container(&record, "commit");
    let event = event.with("comment", &request.message).with("imageID", &id);
    engine.emit(match reference {
        Some(reference) => event.with("imageRef", reference.familiar()),
        None => event,
    });
    Ok(id)
}

/// Holds the container's processes, where it has some that go on.
async fn hold(handle: &Handle) -> Result<bool> {
    let record = handle.record();
    if record.phase != Phase::Running || record.run.paused {
        return Ok(false);
    }
    handle.change(|record| record.run.held = true).await?;
    match handle.pause(true).await {
        Ok(()) => Ok(true),
        Err(err) => {
            handle.change(|record| record.run.held = false).await?;
            // One that has just ended, which is as good, is soon known to have.
            let ended = tokio::time::timeout(ENDING, handle.not_running()).await;
            ended.map(|_| false).map_err(|_| err)
        }
    }
}

async fn let_go(handle: &Handle) -> Result<()> {
    let done = match handle.record().run.paused {
        true => handle.pause(false).await,
        // Somebody else did, or it was killed.
        false => Ok(()),
    };
    handle.change(|record| record.run.held = false).await?;
    done
}

fn bad_change(mistake: builder::dockerfile::Mistake) -> lite_core::Error {
    Kind::InvalidArgument.error(format!("change of the image: {}", mistake.message))
}

fn store(
    engine: &Engine,
    lease: &str,
    record: &Record,
    request: &Commit,
    name: Option<String>,
) -> Result<String> {
    let (core, ns) = (engine.core(), engine.ns());
    let (base, mut layers) = layers_below(engine, lease, record)?;
    let options = diff::Options {
        stubs: spec::stubs(record),
        ..diff::Options::default()
    };
    let made = diff::snapshot(core, ns, Some(lease), SNAPSHOTTER, &record.id, &options)?;
    let is_empty = made.is_empty;
    if !is_empty {
        layers.push(on_top(layers.last(), made));
    }
    let image = describe(record, base, request, is_empty, SystemTime::now())?;
    let exported = builder::export::export(core, ns, lease, image, &layers, &[])?;
    let resolved = image::resolve(core, ns, &exported.manifest, &Platform::host())?;
    images::unpack(engine, &resolved)?;
    if let Some(name) = name {
        images::put(engine, name, exported.manifest.clone())?;
        core.images.delete(ns, exported.manifest.digest.as_str())?;
    }
    Ok(exported.id.to_string())
}

fn on_top(below: Option<&Layer>, made: diff::Made) -> Layer {
    let chain_id = match below {
        None => made.diff_id.clone(),
        Some(below) => Digest::of(format!("{} {}", below.chain_id, made.diff_id).as_bytes()),
    };
    Layer {
        diff_id: made.diff_id.to_string(),
        digest: made.blob.digest.to_string(),
        size: made.blob.size,
        media_type: made.blob.media_type,
        chain_id: chain_id.to_string(),
    }
}

/// The configuration and the layers of the container's image.
fn layers_below(
    engine: &Engine,
    lease: &str,
    record: &Record,
) -> Result<(ImageConfig, Vec<Layer>)> {
    if let Some(manifest) = &record.image.manifest {
        let target = Descriptor {
            media_type: manifest.media_type.clone(),
            digest: Digest::parse(&manifest.digest)?,
            size: manifest.size,
            ..Descriptor::of("", b"")
        };
        let (core, ns) = (engine.core(), engine.ns());
        match image::resolve(core, ns, &target, &Platform::host()) {
            Ok(resolved) => return stored_layers(engine, &resolved),
            // Removed by force while the container used it.
            Err(err) if err.kind() == Kind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Ok((
        ImageConfig::default(),
        layers_again(engine, lease, &record.id)?,
    ))
}

fn stored_layers(
    engine: &Engine,
    resolved: &image::ResolvedImage,
) -> Result<(ImageConfig, Vec<Layer>)> {
    let raw = images::raw_config(engine, resolved)?;
    let config = serde_json::from_value(raw).map_err(|err| {
        Kind::DataLoss
            .error(format!(
                "read image configuration {}",
                resolved.config.digest
            ))
            .because(err)
    })?;
    let chain_ids = image::chain_ids(&resolved.diff_ids);
    let each = resolved
        .layers
        .iter()
        .zip(&resolved.diff_ids)
        .zip(chain_ids);
    let layers = each.map(|((blob, diff_id), chain_id)| Layer {
        diff_id: diff_id.to_string(),
        digest: blob.digest.to_string(),
        size: blob.size,
        media_type: blob.media_type.clone(),
        chain_id: chain_id.to_string(),
    });
    Ok((config, layers.collect()))
}

/// The layers of the snapshots below the container's, lowest first.
fn layers_again(engine: &Engine, lease: &str, id: &str) -> Result<Vec<Layer>> {
    let (core, ns) = (engine.core(), engine.ns());
    let mut keys = Vec::new();
    let mut key = core.snapshots.stat(ns, SNAPSHOTTER, id)?.parent;
    while !key.is_empty() {
        let below = core.snapshots.stat(ns, SNAPSHOTTER, &key)?.parent;
        keys.push(std::mem::replace(&mut key, below));
    }
    let mut layers: Vec<Layer> = Vec::new();
    for key in keys.iter().rev() {
        let made = diff::of_snapshot(core, ns, Some(lease), SNAPSHOTTER, key)?;
        layers.push(on_top(layers.last(), made));
    }
    Ok(layers)
}

/// The configuration of the image that is made at the time `now`.
fn describe(
    record: &Record,
    base: ImageConfig,
    request: &Commit,
    is_empty: bool,
    now: SystemTime,
) -> Result<ImageConfig> {
    let host = Platform::host();
    let created = rfc3339::format(now);
    let mut image = ImageConfig {
        created: Some(created.clone()),
        config: configuration(&record.config, &base.config),
        ..base
    };
    if image.os.is_empty() {
        (image.os, image.architecture) = (host.os, host.architecture);
    }
    for of_the_base in ["container", "container_config", "author"] {
        image.rest.remove(of_the_base);
    }
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    if let Some(author) = given(&request.author) {
        image.rest.insert("author".to_owned(), Value::from(author));
    }
    image.history.push(History {
        created: Some(created),
        created_by: record.config.cmd.as_ref().map(|cmd| cmd.join(" ")),
        author: given(&request.author),
        comment: given(&request.message),
        empty_layer: is_empty,
    });
    builder::state::change(image, &request.changes).map_err(bad_change)
}

/// How containers of it run: as this one.
fn configuration(own: &Config, base: &config::Config) -> config::Config {
    let set = |names: &[String]| {
        let each = names.iter().map(|name| (name.clone(), Default::default()));
        (!names.is_empty()).then(|| each.collect())
    };
    config::Config {
        user: own.user.clone(),
        exposed_ports: set(&own.exposed_ports),
        env: Some(own.env.clone()),
        entrypoint: own.entrypoint.clone(),
        cmd: own.cmd.clone(),
        volumes: set(&own.volumes),
        working_dir: own.workdir.clone(),
        labels: Some(own.labels.clone()),
        stop_signal: own.stop_signal.clone(),
        healthcheck: own.health.as_ref().map(|check| Health {
            test: check.test.clone(),
            interval: check.interval_ns,
            timeout: check.timeout_ns,
            start_period: check.start_period_ns,
            start_interval: check.start_interval_ns,
            retries: check.retries.into(),
        }),
        // Its triggers have done what they are for.
        on_build: None,
        shell: base.shell.clone(),
        rest: base.rest.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    #[test]
    fn an_image_runs_as_its_container_with_the_changes_on_top() {
        let mut record = record::sample();
        record.config.env = vec!["A=1".to_owned()];
        let request = Commit {
            author: "me".to_owned(),
            message: "a remark".to_owned(),
            changes: vec!["ENV B=$A".to_owned(), "CMD [\"true\"]".to_owned()],
            ..Commit::default()
        };
        let mut base = ImageConfig {
            os: "linux".to_owned(),
            history: vec![History::default()],
            ..ImageConfig::default()
        };
        base.config.on_build = Some(vec!["RUN x".to_owned()]);
        let image = describe(&record, base, &request, true, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(image.config.env.unwrap(), ["A=1", "B=1"]);
        assert_eq!(image.config.cmd.unwrap(), ["true"]);
        assert_eq!(image.config.on_build, None);
        assert_eq!(image.rest["author"], "me");
        let step = &image.history[1];
        assert_eq!(step.created_by.as_deref(), Some("sh -c echo hi"));
        assert_eq!(step.comment.as_deref(), Some("a remark"));
        assert!(step.empty_layer);
    }
}
