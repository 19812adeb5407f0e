//! Lists containers.

use std::path::Path;
use std::sync::Arc;

use lite_core::{Kind, Result};

use crate::engine::{Engine, SNAPSHOTTER};
use crate::images;
use crate::list_filter::Filter;
use crate::mounts::MountKind;
use crate::networks;
use crate::record::Record;
use crate::state::Phase;

/// The keys of `--filter` of `ps`.
const FILTERS: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network",
    "publish", "since", "status", "volume",
];

/// The containers that `filters` let through, newest first: running ones, or
/// all of them. A filter on what does not run asks for all.
///
/// # Errors
/// InvalidArgument for a filter there is not; NotFound for a container that
/// `before` or `since` names.
pub fn list(engine: &Engine, all: bool, filters: &[String]) -> Result<Vec<Arc<Record>>> {
    let filter = Filter::parse(filters, &FILTERS)?;
    let all = all || !filter.values("status").is_empty() || !filter.values("exited").is_empty();
    let bound = |key: &str| -> Result<_> {
        let named = filter.values(key).last();
        named
            .map(|name| Ok(engine.find(name)?.record().created_at))
            .transpose()
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let ancestors = ancestors(engine, &filter);
    let mut records: Vec<_> = engine
        .handles()
        .iter()
        .map(crate::supervisor::Handle::record)
        .filter(|record| all || record.phase == Phase::Running || record.run.restarting)
        .filter(|record| passes(record, &filter, &ancestors))
        .filter(|record| before.is_none_or(|time| record.created_at < time))
        .filter(|record| since.is_none_or(|time| record.created_at > time))
        .collect();
    records.sort_by(|a, b| {
        b.created_at
            .cmp(&a.created_at)
            .then_with(|| a.id.cmp(&b.id))
    });
    Ok(records)
}

/// Every container, in no particular order.
#[must_use]
pub fn all(engine: &Engine) -> Vec<Arc<Record>> {
    let handles = engine.handles();
    handles
        .iter()
        .map(crate::supervisor::Handle::record)
        .collect()
}

fn passes(record: &Record, filter: &Filter, ancestors: &[String]) -> bool {
    let health = record
        .run
        .health
        .as_ref()
        .map_or("none", |health| health.status.word());
    let mounted = |wanted: &str| {
        let mut mounts = record.mounts.iter();
        mounts.any(|mount| {
            mount.name == wanted || mount.destination == wanted || mount.source == wanted
        })
    };
    let listed = |ports: &[String], wanted: &str| {
        let with_protocol = if wanted.contains('/') {
            wanted.to_owned()
        } else {
            format!("{wanted}/tcp")
        };
        ports.contains(&with_protocol)
    };
    let published: Vec<String> = record
        .host
        .publish
        .iter()
        .filter_map(|text| crate::ports::publish(text).ok())
        .flatten()
        .map(|binding| binding.port.to_string())
        .collect();
    filter.any("status", |value| value == record.status_word())
        && filter.any("exited", |value| {
            record.phase == Phase::Exited && value.parse() == Ok(record.run.exit_code)
        })
        && filter.any("id", |value| record.id.starts_with(value))
        && filter.any("name", |value| format!("/{}", record.name).contains(value))
        && filter.any("health", |value| value == health)
        && filter.any("volume", mounted)
        && filter.any("expose", |value| {
            listed(&record.config.exposed_ports, value)
        })
        && filter.any("publish", |value| listed(&published, value))
        && filter.any("network", |value| record.is_on_network(value))
        && filter.any("ancestor", |_| ancestors.contains(&record.image.id))
        && filter.labels(&record.config.labels)
}

/// Ids of the images that `ancestor` names. An image that is not there has no
/// descendants.
fn ancestors(engine: &Engine, filter: &Filter) -> Vec<String> {
    let named = filter.values("ancestor").iter();
    named
        .filter_map(|name| images::find(engine, name).ok())
        .map(|found| found.id().to_owned())
        .collect()
}

/// Bytes that a container has written over its image, and of both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Written.
    pub own: u64,
    /// With the image.
    pub root: u64,
}

/// Measures a container; walks over what it has written.
///
/// # Errors
/// Those of storage.
pub async fn sizes(engine: &Engine, record: Arc<Record>) -> Result<Sizes> {
    let engine = engine.clone();
    lite_core::blocking(move || {
        let usage = engine
            .core()
            .snapshots
            .usage(engine.ns(), SNAPSHOTTER, &record.id);
        let own = match usage {
            Err(err) if err.kind() == Kind::NotFound => 0,
            usage => usage?.size,
        };
        let image = images::find(&engine, &record.image.id)
            .map_or(0, |found| images::size(&engine, &found.resolved));
        Ok(Sizes {
            own,
            root: own + image,
        })
    })
    .await
}

/// The PORTS column of `ps`: of what runs.
#[must_use]
pub fn ports(engine: &Engine, record: &Record) -> String {
    if record.phase != Phase::Running {
        return String::new();
    }
    networks::ports_column(record, &engine.fabric().attached(&record.id))
}

/// Names of the networks that a container is on, or will be.
#[must_use]
pub fn network_names(engine: &Engine, record: &Record) -> Vec<String> {
    match networks::mode(&record.host) {
        networks::Mode::Host => vec!["host".to_owned()],
        networks::Mode::None => vec!["none".to_owned()],
        networks::Mode::Container(_) => Vec::new(),
        networks::Mode::Networks(own) => own
            .iter()
            .map(|attachment| {
                let found = engine.fabric().find(&attachment.network);
                found.map_or_else(|_| attachment.network.clone(), |network| network.name)
            })
            .collect(),
    }
}

/// What `ps` shows of mounts: names of volumes, sources of binds.
#[must_use]
pub fn mount_names(record: &Record) -> Vec<String> {
    let shown = record.mounts.iter().filter_map(|mount| match mount.kind {
        MountKind::Volume => Some(mount.name.clone()),
        MountKind::Bind => Some(Path::new(&mount.source).display().to_string()),
        MountKind::Tmpfs => None,
    });
    shown.collect()
}
