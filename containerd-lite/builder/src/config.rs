//! The document that describes an image, with the fields that Docker adds to OCI's: `config.go` of the image specification.
//!
//! Fields that are not known here are kept as they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An image's configuration document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How containers of it run.
    #[serde(default)]
    pub config: Config,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// What else it says.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A set as Go writes it: each name with an empty object.
pub type Set = BTreeMap<String, Map<String, Value>>;

/// How containers run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `user[:group]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub exposed_ports: Option<Set>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The command line's first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories whose contents outlive the container.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub volumes: Option<Set>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What asks it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// Triggers for a build that is based on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// The shell of `RUN` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else it says.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Docker's health check; times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between checks in that time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_empty(set: &Option<Set>) -> bool {
    set.as_ref().is_none_or(BTreeMap::is_empty)
}

fn is_none_or_empty(labels: &Option<BTreeMap<String, String>>) -> bool {
    labels.as_ref().is_none_or(BTreeMap::is_empty)
}

impl Config {
    /// The value of an environment variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let entries = self.env.iter().flatten();
        let mut pairs = entries.filter_map(|entry| entry.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Sets an environment variable, in its place if it is there.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = self.env.get_or_insert_default();
        let is = |old: &&mut String| old.split_once('=').is_some_and(|(key, _)| key == name);
        match env.iter_mut().find(is) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_survives() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"],"ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":["sha256:1"]},"os.version":"9"}"#;
        let read: ImageConfig = serde_json::from_str(text).unwrap();
        let written: Value = serde_json::to_value(&read).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_variable_is_set_in_its_place() {
        let mut config = Config::default();
        config.set_variable("A", "1");
        config.set_variable("B", "2");
        config.set_variable("A", "3=x");
        assert_eq!(config.env.as_deref().unwrap(), ["A=3=x", "B=2"]);
        assert_eq!(config.variable("A"), Some("3=x"));
        assert_eq!(config.variable("C"), None);
    }
}
