//! What is kept of a pod and of a container: one JSON document each, in the
//! database. Fields may be added; none changes its meaning.

use std::net::IpAddr;
use std::time::SystemTime;

use lite_core::{Kind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, PodConfig, Resources};

/// Under which a record has our document.
pub(crate) const EXTENSION: &str = "containerd-lite.cri.v1";

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// Being made: an intent without an outcome.
    Creating,
    /// Its namespaces and its network are there.
    Ready,
    /// They are not, or not any more.
    NotReady,
}

/// By what a pod has its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attached {
    /// It has none, or the host's.
    Nothing,
    /// By the built-in bridge.
    Bridge,
    /// By CNI plugins.
    Plugins,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its id.
    pub id: String,
    /// As it was asked for.
    pub config: PodConfig,
    /// The handler that was asked for; empty: the default.
    pub handler: String,
    /// Where it is.
    pub state: PodState,
    /// When it was made.
    pub created_at: SystemTime,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// By what it has its network.
    pub attached: Attached,
    /// The pid of the process that holds its process namespace; zero: there is none.
    #[serde(default)]
    pub pause: u32,
}

impl PodRecord {
    /// Whether it shares the host's network.
    #[must_use]
    pub fn on_host_network(&self) -> bool {
        self.config.security.namespaces.network == crate::config::Mode::Node
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Not started yet.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended, or could not be started.
    Exited,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: String,
    /// Its pod's.
    pub pod: String,
    /// As it was asked for.
    pub config: ContainerConfig,
    /// The image's id.
    pub image_id: String,
    /// The image by digest, or its id.
    pub image_ref: String,
    /// Where its output is logged; empty: nowhere.
    pub log: String,
    /// Where it is.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its process was started.
    pub started_at: Option<SystemTime>,
    /// When its process ended.
    pub finished_at: Option<SystemTime>,
    /// How.
    pub exit_code: i32,
    /// In one word; empty: by the exit code.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// The kernel killed it, or a part of it, for lack of memory.
    pub oom: bool,
    /// Its process; zero while there is none.
    pub pid: u32,
    /// Limits as they are now.
    pub resources: Resources,
    /// Who it runs as: user, group, all groups.
    pub user: (u32, u32, Vec<u32>),
    /// The signal that asks it to end.
    pub stop_signal: u32,
}

impl ContainerRecord {
    /// Why it is not running, in one word.
    #[must_use]
    pub fn reason(&self) -> &str {
        match (self.state, self.oom, self.exit_code) {
            (ContainerState::Created | ContainerState::Running, ..) => "",
            _ if !self.reason.is_empty() => &self.reason,
            (_, true, code) if code != 0 => "OOMKilled",
            (_, _, 0) => "Completed",
            _ => "Error",
        }
    }
}

/// A record as it is stored.
///
/// # Errors
/// Internal: there is nothing in a record that JSON has not.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|err| Kind::Internal.error("encode record").because(err))
}

/// A record as it was stored.
///
/// # Errors
/// DataLoss.
pub(crate) fn decode<T: DeserializeOwned>(id: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|err| {
        Kind::DataLoss
            .error(format!("read record of {id}"))
            .because(err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, oom: bool, reason: &str) -> ContainerRecord {
        ContainerRecord {
            id: String::new(),
            pod: String::new(),
            config: ContainerConfig::default(),
            image_id: String::new(),
            image_ref: String::new(),
            log: String::new(),
            state: ContainerState::Exited,
            created_at: SystemTime::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            exit_code: code,
            reason: reason.to_owned(),
            message: String::new(),
            oom,
            pid: 0,
            resources: Resources::default(),
            user: (0, 0, Vec::new()),
            stop_signal: 15,
        }
    }

    #[test]
    fn an_end_has_one_word() {
        assert_eq!(ended(0, false, "").reason(), "Completed");
        assert_eq!(ended(3, false, "").reason(), "Error");
        assert_eq!(ended(137, true, "").reason(), "OOMKilled");
        // A child was killed, and the container did well without it.
        assert_eq!(ended(0, true, "").reason(), "Completed");
        assert_eq!(ended(128, false, "StartError").reason(), "StartError");
        let running = ContainerRecord {
            state: ContainerState::Running,
            ..ended(0, false, "")
        };
        assert_eq!(running.reason(), "");
    }
}
