//! Docker's JSON of a container and of an image, field for field as its
//! Engine API has them. What does not exist here yet has Docker's default.

pub mod container;
pub mod image;

use std::collections::BTreeMap;

use serde_json::{Value, json};

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
