//! Removes images that nobody needs.

use std::collections::{BTreeSet, HashSet};

use lite_core::{Kind, Result};

use super::{Found, catalog, list};
use crate::engine::Engine;
use crate::events::Event;
use crate::list_filter::Filter;
use crate::prune::moment;
use crate::volumes::Pruned;

/// Removes the images that no container uses and that have no name, or with
/// `all` also those that have one; `filters` narrow further.
///
/// # Errors
/// InvalidArgument for a filter there is not; those of storage.
pub async fn prune_images(engine: &Engine, all: bool, filters: &[String]) -> Result<Pruned> {
    let filter = Filter::parse(filters, &["dangling", "label", "label!", "until"])?;
    let all = match filter.switch("dangling")? {
        Some(true) if all => {
            return Err(Kind::InvalidArgument
                .error("--all and the filter dangling=true exclude each other"));
        }
        Some(dangling) => !dangling,
        None => all,
    };
    let until = filter
        .values("until")
        .last()
        .map(|text| moment(text))
        .transpose()?;
    let engine = engine.clone();
    lite_core::blocking(move || {
        let used: HashSet<String> = crate::list::all(&engine)
            .iter()
            .map(|record| record.image.id.clone())
            .collect();
        let names = catalog(&engine)?;
        let named = |found: &Found| found.reference().is_some_and(|name| name.tag().is_some());
        let goes = |found: &&Found| {
            !used.contains(found.id())
                && (all || !named(found))
                && until.is_none_or(|until| list::created(found).is_some_and(|made| made < until))
                && filter.labels(&list::labels(found))
        };
        let doomed: Vec<&Found> = names.iter().filter(goes).collect();
        let mut pruned = Pruned::default();
        for found in &doomed {
            engine
                .core()
                .images
                .delete(engine.ns(), &found.image.name)?;
            if let Some(reference) = found.reference() {
                pruned
                    .removed
                    .push(format!("untagged: {}", reference.familiar()));
            }
        }
        let is_left = |id: &str| {
            let mut left = names.iter().filter(|found| !goes(found));
            left.any(|found| found.id() == id)
        };
        let ids: BTreeSet<&str> = doomed.iter().map(|found| found.id()).collect();
        for id in ids.into_iter().filter(|id| !is_left(id)) {
            pruned.removed.push(format!("deleted: {id}"));
            engine.emit(Event::now("image", "delete", id));
        }
        pruned.reclaimed = lite_core::gc::collect(engine.core())?.bytes;
        let total = pruned.reclaimed.to_string();
        engine.emit(Event::now("image", "prune", "").with("reclaimed", total));
        Ok(pruned)
    })
    .await
}
