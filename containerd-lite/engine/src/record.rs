//! What the engine keeps of a container, as JSON in the container record's
//! extension `engine.v1.Container`. The engine is the only writer.
//!
//! Version 1. A reader refuses other versions rather than guess.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::argv::Argv;
use crate::health::Health;
use crate::host_config::{HealthCheck, HostConfig};
use crate::mounts::MountPoint;
use crate::networks;
use crate::rfc3339;
use crate::state::Phase;

/// The extension's key in the container record, and its type URL.
pub const EXTENSION: &str = "engine.v1.Container";

/// The layout that this code reads and writes.
pub const VERSION: u32 = 1;

/// A container as Docker understands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Layout of this record: [`VERSION`].
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among the engine's containers; no slash.
    pub name: String,
    /// When it was made.
    #[serde(with = "rfc3339::optional")]
    pub created_at: Option<SystemTime>,
    /// Where in its life it is.
    pub phase: Phase,
    /// The image it was made from.
    pub image: ImageUse,
    /// User's and image's configuration, merged.
    pub config: Config,
    /// What it has of the host.
    #[serde(default)]
    pub host: HostConfig,
    /// What is mounted in it beside the image, in order.
    #[serde(default)]
    pub mounts: Vec<MountPoint>,
    /// The current or the last run.
    pub run: Run,
}

/// The image a container was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// As the user wrote it.
    pub typed: String,
    /// The name it is stored under; empty when it was named by id.
    pub reference: String,
    /// Digest of the image configuration.
    pub id: String,
    /// `os` of the image configuration.
    pub platform_os: String,
    /// Digest, media type and size of the manifest.
    pub manifest: Option<Manifest>,
}

/// A manifest's descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Media type.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// How it runs. Mirrors Docker's `Config` and the parts of `HostConfig` that
/// exist so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Host name inside.
    pub hostname: String,
    /// `user[:group]`; empty means root.
    pub user: String,
    /// A terminal for the main process.
    pub tty: bool,
    /// Standard input is open.
    pub open_stdin: bool,
    /// Standard input closes when the first client leaves.
    pub stdin_once: bool,
    /// Configured variables, the user's before the image's.
    pub env: Vec<String>,
    /// Arguments.
    pub cmd: Option<Vec<String>>,
    /// Program, and arguments before `cmd`.
    pub entrypoint: Option<Vec<String>>,
    /// Working directory; empty means `/`.
    pub workdir: String,
    /// The image's labels and the user's.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Volumes the image declares.
    pub volumes: Vec<String>,
    /// Ports the image exposes.
    pub exposed_ports: Vec<String>,
    /// As typed; `None` means TERM.
    pub stop_signal: Option<String>,
    /// Seconds before KILL; negative means for ever; `None` means ten.
    pub stop_timeout_s: Option<i32>,
    /// Remove it when it has exited.
    pub auto_remove: bool,
    /// containerd runtime name.
    pub runtime: String,
    /// NIS domain name.
    #[serde(default)]
    pub domainname: String,
    /// The user's health check over the image's.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// The current or the last run of the main process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Process id on the host while running, else 0.
    pub pid: u32,
    /// Exit code of the last run; Docker's code after a failed start.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// Last start.
    #[serde(with = "rfc3339::optional")]
    pub started_at: Option<SystemTime>,
    /// Last end.
    #[serde(with = "rfc3339::optional")]
    pub finished_at: Option<SystemTime>,
    /// All its processes are held where they are.
    #[serde(default)]
    pub paused: bool,
    /// It is paused only while an image is made of it: a daemon that finds it
    /// so lets it go on.
    #[serde(default)]
    pub held: bool,
    /// The kernel took a process because memory ran out.
    #[serde(default)]
    pub oom_killed: bool,
    /// The user stopped it.
    #[serde(default)]
    pub stopped: bool,
    /// The policy will start it again.
    #[serde(default)]
    pub restarting: bool,
    /// Starts by the policy since the user's last.
    #[serde(default)]
    pub restarts: u32,
    /// What its checks have found, where it has any.
    #[serde(default)]
    pub health: Option<Health>,
}

impl Config {
    /// Entrypoint and command as they run.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        Argv {
            entrypoint: self.entrypoint.clone(),
            command: self.cmd.clone(),
        }
        .line()
    }
}

impl Record {
    /// The step of a build, as far as networks see it: it is stored nowhere.
    pub(crate) fn of_step(id: &str, config: Config, host: HostConfig) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            name: id.to_owned(),
            created_at: None,
            phase: Phase::Created,
            image: ImageUse::default(),
            config,
            host,
            mounts: Vec::new(),
            run: Run::default(),
        }
    }

    /// Docker's word for how it is.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        match self.phase {
            Phase::Running if self.run.paused => "paused",
            Phase::Exited if self.run.restarting => "restarting",
            phase => phase.word(),
        }
    }

    /// Whether it is on the network of this name.
    #[must_use]
    pub fn is_on_network(&self, name: &str) -> bool {
        match networks::mode(&self.host) {
            networks::Mode::Host => name == "host",
            networks::Mode::None => name == "none",
            networks::Mode::Container(_) => false,
            networks::Mode::Networks(own) => {
                own.iter().any(|attachment| attachment.network == name)
            }
        }
    }

    /// Names of the volumes that nobody named.
    #[must_use]
    pub fn anonymous_volumes(&self) -> Vec<String> {
        let anonymous = self.mounts.iter().filter(|mount| mount.anonymous);
        anonymous
            .filter(|mount| !mount.name.is_empty())
            .map(|mount| mount.name.clone())
            .collect()
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// When it is not JSON of this shape, or of another version.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Self = serde_json::from_slice(json)?;
        if record.version == VERSION {
            Ok(record)
        } else {
            let version = record.version;
            Err(serde::de::Error::custom(format!(
                "record version {version}, expected {VERSION}"
            )))
        }
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// A record for tests: a container of busybox that was just made.
#[cfg(test)]
pub(crate) fn sample() -> Record {
    let created = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 120_000_000);
    Record {
        version: VERSION,
        id: "0123456789abcdef".repeat(4),
        name: "brave_curie".to_owned(),
        created_at: Some(created),
        phase: Phase::Created,
        image: ImageUse {
            typed: "busybox".to_owned(),
            reference: "docker.io/library/busybox:latest".to_owned(),
            id: format!("sha256:{}", "ab".repeat(32)),
            platform_os: "linux".to_owned(),
            manifest: None,
        },
        config: Config {
            hostname: "0123456789ab".to_owned(),
            env: vec!["A=1".to_owned()],
            cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), "echo hi".to_owned()]),
            runtime: "io.containerd.runc-rs.v2".to_owned(),
            ..Config::default()
        },
        host: HostConfig::default(),
        mounts: Vec::new(),
        run: Run::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_stored() {
        let mut record = sample();
        record.run.finished_at = Some(SystemTime::UNIX_EPOCH);
        let json = record.to_json().unwrap();
        assert_eq!(Record::from_json(&json).unwrap(), record);
    }

    #[test]
    fn another_version_is_refused() {
        let mut record = sample();
        record.version = 2;
        let err = Record::from_json(&record.to_json().unwrap()).unwrap_err();
        assert!(
            err.to_string().contains("record version 2, expected 1"),
            "{err}"
        );
    }
}
