//! What a runtime does with networks: puts a namespace on one and takes it
//! off, checks it, and clears away what nobody uses.
//!
//! [`Client::add`] writes down that it begins before the first plugin runs, so
//! that whatever happens meanwhile, [`Client::del`] can clear it away. When a
//! plugin fails, those that ran before it are undone, and the first failure is
//! what the caller is told.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::attachment::Attachment;
use crate::cache::{Attached, Cache};
use crate::call::{self, CallError, PluginError};
use crate::config::{Additions, Network, Plugin};
use crate::outcome::{BadOutcome, Outcome};
use crate::version::Version;

/// A plugin that takes longer is stuck: the kubelet waits for two minutes for
/// a pod, and its network is not all there is to do.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// Runs plugins.
#[derive(Debug, Clone)]
pub struct Client {
    plugin_dirs: Vec<PathBuf>,
    cache: Cache,
    limit: Duration,
}

/// A network that could not be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plugin could not do what it was told.
    #[error("{command} {container} {network}: plugin {plugin}", container = on(.container, *.command), network = .network)]
    Plugin {
        /// The specification's command.
        command: Command,
        /// The plugin.
        plugin: String,
        /// The network.
        network: String,
        /// The container; empty where the command is about the whole network.
        container: String,
        /// What went wrong.
        source: Box<CallError>,
    },
    /// A plugin's answer makes no sense.
    #[error("read what plugin {plugin} of network {network} answered")]
    Answer {
        /// The plugin.
        plugin: String,
        /// The network.
        network: String,
        /// What is wrong with it.
        source: BadOutcome,
    },
    /// The network's version has no such command.
    #[error("network {network} is of CNI version {version}, which has no {command}")]
    Unsupported {
        /// The specification's command.
        command: Command,
        /// The network.
        network: String,
        /// Its version.
        version: Version,
    },
    /// A check of what was never attached.
    #[error("{container} is not attached to network {network} with {interface}")]
    NotAttached {
        /// The network.
        network: String,
        /// The container.
        container: String,
        /// The interface.
        interface: String,
    },
    /// What is attached cannot be written down or read.
    #[error("keep what is attached to network {network}")]
    Cache {
        /// The network.
        network: String,
        /// Why.
        source: io::Error,
    },
}

/// The specification's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Put a namespace on a network.
    Add,
    /// Take it off.
    Del,
    /// See whether it is as it was put there.
    Check,
    /// Clear away what no valid attachment uses.
    Gc,
    /// Ask whether ADD can be served.
    Status,
    /// Ask for the versions that a plugin speaks.
    Version,
}

impl Command {
    /// As plugins know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn on(container: &str, command: Command) -> String {
    match command {
        Command::Add => format!("{container} to network"),
        Command::Del => format!("{container} from network"),
        Command::Check => format!("{container} on network"),
        Command::Gc | Command::Status | Command::Version => "of network".to_owned(),
    }
}

impl Error {
    /// What the plugin itself said, where it did.
    #[must_use]
    pub fn refusal(&self) -> Option<&PluginError> {
        match self {
            Self::Plugin { source, .. } => match &**source {
                CallError::Refused(refused) => Some(refused),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    #[serde(default)]
    supported_versions: Vec<String>,
}

impl Client {
    /// Runs the plugins in `plugin_dirs`, the first of which that has one
    /// wins, and keeps what is attached below `cache_dir`.
    #[must_use]
    pub fn new(plugin_dirs: Vec<PathBuf>, cache_dir: &Path) -> Self {
        Self {
            plugin_dirs,
            cache: Cache::new(cache_dir),
            limit: DEFAULT_LIMIT,
        }
    }

    /// Gives each call of a plugin so long.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What is attached.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Puts `attachment` on `network`, and answers with what it has there.
    ///
    /// # Errors
    /// The first plugin's that failed; what was done until then is undone.
    pub async fn add(&self, network: &Network, attachment: &Attachment) -> Result<Outcome, Error> {
        // Without one of them nothing is begun: it could not be undone either.
        for plugin in &network.plugins {
            call::find(&plugin.kind, &self.plugin_dirs).map_err(|source| {
                plugin_error(Command::Add, network, plugin, Some(attachment), source)
            })?;
        }
        self.store(network, attachment, None)?;
        let added = match self.add_each(network, attachment).await {
            Ok(outcome) => self
                .store(network, attachment, Some(&outcome))
                .map(|()| outcome),
            failed => failed,
        };
        if added.is_err() {
            let entry = Attached {
                network: network.clone(),
                attachment: attachment.clone(),
                outcome: None,
            };
            if let Err(err) = self.del_entry(&entry).await {
                tracing::warn!(
                    network = network.name,
                    container = attachment.container(),
                    error = %err,
                    cause = std::error::Error::source(&err).map(ToString::to_string),
                    "undo of an attachment that failed"
                );
            }
        }
        added
    }

    async fn add_each(&self, network: &Network, attachment: &Attachment) -> Result<Outcome, Error> {
        let mut previous: Option<Outcome> = None;
        for plugin in &network.plugins {
            let additions = Additions {
                capabilities: Some(&attachment.capabilities),
                previous: previous.as_ref(),
                valid: None,
            };
            let answer = self
                .run(Command::Add, network, plugin, Some(attachment), additions)
                .await?;
            let outcome = Outcome::parse(&answer).map_err(|source| Error::Answer {
                plugin: plugin.kind.clone(),
                network: network.name.clone(),
                source,
            })?;
            previous = Some(outcome);
        }
        Ok(previous.unwrap_or_default())
    }

    /// Takes `attachment` off `network`: by the configuration that it was put
    /// there with, where that is known. What is not attached is fine.
    ///
    /// # Errors
    /// The first plugin's that failed. The attachment is then still known, and
    /// can be taken off again.
    pub async fn del(&self, network: &Network, attachment: &Attachment) -> Result<(), Error> {
        let known = self.load(network, attachment)?;
        let entry = known.unwrap_or_else(|| Attached {
            network: network.clone(),
            attachment: attachment.clone(),
            outcome: None,
        });
        self.del_entry(&entry).await
    }

    /// Takes a container off all the networks it is known to be on.
    ///
    /// # Errors
    /// The first that failed; the others are taken off all the same.
    pub async fn del_all(&self, container: &str) -> Result<(), Error> {
        let mut first = Ok(());
        for entry in self.attached()? {
            if entry.attachment.container() == container {
                let done = self.del_entry(&entry).await;
                first = first.and(done);
            }
        }
        first
    }

    async fn del_entry(&self, entry: &Attached) -> Result<(), Error> {
        let (network, attachment) = (&entry.network, &entry.attachment);
        let previous = entry.outcome.as_ref();
        let additions = Additions {
            capabilities: Some(&attachment.capabilities),
            previous: previous.filter(|_| network.version.has_result_at_del()),
            valid: None,
        };
        // The namespace of a container that is gone is gone; plugins are told
        // so by not being told of one.
        let mut attachment = attachment.clone();
        if attachment.netns().is_some_and(|path| !path.exists()) {
            attachment = attachment.without_netns();
        }
        for plugin in network.plugins.iter().rev() {
            self.run(Command::Del, network, plugin, Some(&attachment), additions)
                .await?;
        }
        self.cache
            .forget(
                &network.name,
                attachment.container(),
                attachment.interface(),
            )
            .map_err(|source| cache_error(network, source))
    }

    /// Sees whether `attachment` is still as ADD left it.
    ///
    /// # Errors
    /// The first plugin's that found something wrong; also where the network
    /// has no CHECK, or nothing is known of the attachment.
    pub async fn check(&self, network: &Network, attachment: &Attachment) -> Result<(), Error> {
        if !network.version.has_check() {
            return Err(unsupported(Command::Check, network));
        }
        let known = self.load(network, attachment)?;
        let Some((known, outcome)) = known.and_then(|k| k.outcome.clone().map(|o| (k, o))) else {
            return Err(Error::NotAttached {
                network: network.name.clone(),
                container: attachment.container().to_owned(),
                interface: attachment.interface().to_owned(),
            });
        };
        if known.network.disable_check || !known.network.version.has_check() {
            return Ok(());
        }
        let additions = Additions {
            capabilities: Some(&known.attachment.capabilities),
            previous: Some(&outcome),
            valid: None,
        };
        for plugin in &known.network.plugins {
            let attachment = Some(&known.attachment);
            self.run(
                Command::Check,
                &known.network,
                plugin,
                attachment,
                additions,
            )
            .await?;
        }
        Ok(())
    }

    /// Takes off `network` whatever is known to be on it and is not among
    /// `valid`, as (container, interface), and tells its plugins, if they know
    /// GC, to clear away what they have for others.
    ///
    /// # Errors
    /// The first that failed; the rest is cleared away all the same.
    pub async fn gc(&self, network: &Network, valid: &[(String, String)]) -> Result<(), Error> {
        if network.disable_gc {
            return Ok(());
        }
        let mut first = Ok(());
        for entry in self.attached()? {
            let attachment = &entry.attachment;
            let in_use = valid.iter().any(|(container, interface)| {
                container == attachment.container() && interface == attachment.interface()
            });
            if entry.network.name == network.name && !in_use {
                let done = self.del_entry(&entry).await;
                first = first.and(done);
            }
        }
        if network.version.has_gc_and_status() {
            let additions = Additions {
                valid: Some(valid),
                ..Additions::default()
            };
            for plugin in &network.plugins {
                let done = self
                    .run(Command::Gc, network, plugin, None, additions)
                    .await;
                first = first.and(done.map(drop));
            }
        }
        first
    }

    /// Asks whether `network` can take containers now: its plugins are there,
    /// and say nothing to the contrary.
    ///
    /// # Errors
    /// The first plugin's that is missing or says no.
    pub async fn status(&self, network: &Network) -> Result<(), Error> {
        for plugin in &network.plugins {
            if network.version.has_gc_and_status() {
                let additions = Additions::default();
                self.run(Command::Status, network, plugin, None, additions)
                    .await?;
            } else {
                call::find(&plugin.kind, &self.plugin_dirs).map_err(|source| {
                    plugin_error(Command::Status, network, plugin, None, source)
                })?;
            }
        }
        Ok(())
    }

    /// The versions that a plugin speaks, as it names them.
    ///
    /// # Errors
    /// The plugin's.
    pub async fn versions(&self, network: &Network, plugin: &Plugin) -> Result<Vec<String>, Error> {
        let additions = Additions::default();
        let answer = self
            .run(Command::Version, network, plugin, None, additions)
            .await?;
        let versions: Versions =
            serde_json::from_slice(&answer).map_err(|source| Error::Answer {
                plugin: plugin.kind.clone(),
                network: network.name.clone(),
                source: BadOutcome::Json(source),
            })?;
        Ok(versions.supported_versions)
    }

    async fn run(
        &self,
        command: Command,
        network: &Network,
        plugin: &Plugin,
        attachment: Option<&Attachment>,
        additions: Additions<'_>,
    ) -> Result<Vec<u8>, Error> {
        let request: Value = plugin.request(network, additions);
        let environment = self.environment(command, attachment);
        let called = async {
            let program = call::find(&plugin.kind, &self.plugin_dirs)?;
            let input = request.to_string();
            call::call(&program, environment, input.as_bytes(), self.limit).await
        };
        called
            .await
            .map_err(|source| plugin_error(command, network, plugin, attachment, source))
    }

    fn environment(
        &self,
        command: Command,
        attachment: Option<&Attachment>,
    ) -> Vec<(&'static str, OsString)> {
        let dirs: Vec<_> = self.plugin_dirs.iter().map(|dir| dir.as_os_str()).collect();
        let mut environment = vec![
            ("CNI_COMMAND", command.as_str().into()),
            ("CNI_PATH", dirs.join(std::ffi::OsStr::new(":"))),
        ];
        if let Some(attachment) = attachment {
            let args: Vec<_> = attachment
                .args()
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            environment.push(("CNI_CONTAINERID", attachment.container().into()));
            environment.push(("CNI_IFNAME", attachment.interface().into()));
            environment.push(("CNI_ARGS", args.join(";").into()));
            let netns = attachment.netns().unwrap_or(Path::new(""));
            environment.push(("CNI_NETNS", netns.into()));
        }
        environment
    }

    fn attached(&self) -> Result<Vec<Attached>, Error> {
        self.cache.all().map_err(|source| Error::Cache {
            network: "any".to_owned(),
            source,
        })
    }

    fn load(&self, network: &Network, attachment: &Attachment) -> Result<Option<Attached>, Error> {
        self.cache
            .load(
                &network.name,
                attachment.container(),
                attachment.interface(),
            )
            .map_err(|source| cache_error(network, source))
    }

    fn store(
        &self,
        network: &Network,
        attachment: &Attachment,
        outcome: Option<&Outcome>,
    ) -> Result<(), Error> {
        self.cache
            .store(network, attachment, outcome)
            .map_err(|source| cache_error(network, source))
    }
}

fn cache_error(network: &Network, source: io::Error) -> Error {
    Error::Cache {
        network: network.name.clone(),
        source,
    }
}

fn unsupported(command: Command, network: &Network) -> Error {
    Error::Unsupported {
        command,
        network: network.name.clone(),
        version: network.version,
    }
}

fn plugin_error(
    command: Command,
    network: &Network,
    plugin: &Plugin,
    attachment: Option<&Attachment>,
    source: CallError,
) -> Error {
    Error::Plugin {
        command,
        plugin: plugin.kind.clone(),
        network: network.name.clone(),
        container: attachment.map_or("", Attachment::container).to_owned(),
        source: Box::new(source),
    }
}
