//! Docker's JSON of a container and of an image, field for field as its
//! Engine API has them. What does not exist here yet has Docker's default.

pub mod container;
mod host_config;
pub mod image;

use std::collections::BTreeMap;

use lite_core::Result;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::networks;

/// A list as Docker writes it: null where nothing was given.
fn list_or_null(list: Option<&Vec<String>>) -> Value {
    list.map_or(Value::Null, |list| json!(list))
}

/// A set as Docker writes it: an object of empty objects, null when empty.
fn set_or_null(set: &[String]) -> Value {
    if set.is_empty() {
        return Value::Null;
    }
    json!(
        set.iter()
            .map(|key| (key.as_str(), json!({})))
            .collect::<BTreeMap<_, _>>()
    )
}

/// The container as Docker's JSON, with `size` measured as well.
///
/// # Errors
/// NotFound; with `size` those of storage.
pub async fn inspect_container(engine: &Engine, container: &str, size: bool) -> Result<Value> {
    let record = engine.find(container)?.record();
    let dir = engine.dir(&record.id);
    let attached = engine.fabric().attached(&record.id);
    let around = container::Around {
        files: dir.path(),
        log: &dir.log(),
        cgroup_parent: &engine.config().cgroup_parent,
        cgroup2: engine.host().cgroup2,
        network_mode: &networks::mode_word(&record.host),
        network_settings: container::network_settings(
            &record,
            networks::ports_json(&record, &attached),
            networks::networks_json(engine, &record, &attached),
            &attached,
        ),
    };
    let mut object = container::json(&record, &around);
    if size {
        let sizes = crate::list::sizes(engine, record).await?;
        object["SizeRw"] = json!(sizes.own);
        object["SizeRootFs"] = json!(sizes.root);
    }
    Ok(object)
}
