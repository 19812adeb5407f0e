//! The steps an image was made by.

use std::time::UNIX_EPOCH;

use lite_core::{Result, image};
use serde_json::{Value, json};

use super::{find, raw_config};
use crate::engine::{Engine, SNAPSHOTTER};
use crate::rfc3339;

/// The steps, newest first, as Docker's `ImageHistoryResponseItem`. Sizes are
/// those of unpacked layers.
///
/// # Errors
/// NotFound; those of storage.
pub async fn history(engine: &Engine, typed: &str) -> Result<Value> {
    let (engine, typed) = (engine.clone(), typed.to_owned());
    lite_core::blocking(move || {
        let found = find(&engine, &typed)?;
        let raw = raw_config(&engine, &found.resolved)?;
        let mut sizes = image::chain_ids(&found.resolved.diff_ids)
            .into_iter()
            .map(|chain| {
                let usage = engine
                    .core()
                    .snapshots
                    .usage(engine.ns(), SNAPSHOTTER, chain.as_str());
                usage.map_or(0, |usage| usage.size)
            })
            .collect::<Vec<u64>>()
            .into_iter();
        let steps = raw["history"].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<Value> = steps
            .iter()
            .map(|step| {
                let empty = step["empty_layer"].as_bool() == Some(true);
                row(step, if empty { 0 } else { sizes.next().unwrap_or(0) })
            })
            .collect();
        // Layers that no step tells of.
        rows.extend(sizes.map(|size| row(&Value::Null, size)));
        rows.reverse();
        if let Some(first) = rows.first_mut() {
            first["Id"] = json!(found.id());
            first["Tags"] = found
                .reference()
                .map_or(Value::Null, |reference| json!([reference.familiar()]));
        }
        Ok(Value::Array(rows))
    })
    .await
}

fn row(step: &Value, size: u64) -> Value {
    let created = step["created"].as_str().and_then(rfc3339::parse);
    let seconds = created
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs());
    json!({
        "Id": "<missing>",
        "Created": seconds,
        "CreatedBy": step["created_by"].as_str().unwrap_or_default(),
        "Comment": step["comment"].as_str().unwrap_or_default(),
        "Size": size,
        "Tags": null,
    })
}
