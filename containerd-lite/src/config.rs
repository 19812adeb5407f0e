//! What the daemon is told when it starts: flags, for the directories and the
//! cgroup parent an environment variable each, so that `ctl` and a service unit
//! can agree with it, and a file for all that should stay.
//!
//! 1. [`Cli`] is what was typed: nothing has a default yet.
//! 2. [`File`] is what the file says; a key that is not known is refused by its
//!    name, as a setting that silently does nothing is worse than none.
//! 3. [`Config::of`] puts them together: a flag or variable wins over the file,
//!    and that over the default.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// The file that is read when it exists and none was named.
const DEFAULT_FILE: &str = "/etc/containerd-lite/config.toml";

/// Where `hosts.toml` and certificates of registries are looked for: our own
/// directory, then those of the daemons that this one replaces.
const HOSTS_DIRS: [&str; 3] = [
    "/etc/containerd-lite/certs.d",
    "/etc/containerd/certs.d",
    "/etc/docker/certs.d",
];

/// The command line of `containerd-lite`.
#[derive(Debug, Parser)]
#[command(
    name = "containerd-lite",
    version,
    about = "Container daemon with containerd's API"
)]
pub struct Cli {
    /// Settings of the daemon.
    #[command(flatten)]
    pub flags: Flags,
    /// Absent: run the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Settings as typed; what was not is absent.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Configuration file; /etc/containerd-lite/config.toml by default, if it exists
    #[arg(long, short = 'c', env = "CONTAINERD_LITE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of everything that must survive a reboot [default: /var/lib/containerd-lite]
    #[arg(long, env = "CONTAINERD_LITE_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory of run-time state: sockets, bundles, locks [default: /run/containerd-lite]
    #[arg(long, env = "CONTAINERD_LITE_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Path of the gRPC socket; containerd-lite.sock in the state directory by default
    #[arg(long, short = 'a', value_name = "SOCK")]
    pub address: Option<PathBuf>,
    /// Cgroup under which the engine puts its containers [default: containerd-lite]
    #[arg(long, env = "CONTAINERD_LITE_CGROUP_PARENT", value_name = "NAME")]
    pub cgroup_parent: Option<String>,
    /// Least severe log lines to write to standard error [default: info]
    #[arg(long, short = 'l', value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Directory to look for shim binaries in, before the daemon's own directory and PATH; may be repeated
    #[arg(long, value_name = "DIR")]
    pub runtime_path: Vec<PathBuf>,
    /// Address to serve Prometheus metrics on, like 127.0.0.1:1338; nowhere by default
    #[arg(long, value_name = "ADDR")]
    pub metrics_address: Option<SocketAddr>,
}

/// What the file says; the names are those of the file. Its default is what
/// `config default` prints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// As the flag.
    pub root: PathBuf,
    /// As the flag.
    pub state: PathBuf,
    /// As the flag; empty: in the state directory.
    pub address: PathBuf,
    /// As the flag.
    pub cgroup_parent: String,
    /// As the flag.
    pub log_level: LogLevel,
    /// As the flag.
    pub runtime_path: Vec<PathBuf>,
    /// How registries are reached.
    pub registry: RegistrySection,
    /// Where numbers are served.
    pub metrics: MetricsSection,
    /// Kubernetes' pods.
    pub cri: CriSection,
}

/// `[registry]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySection {
    /// Directories with `hosts.toml` and certificates by registry.
    pub config_path: Vec<PathBuf>,
}

/// `[cri]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CriSection {
    /// Where networks of pods are configured; without any they are on a bridge
    /// of the daemon's own.
    pub cni_conf_dir: PathBuf,
    /// Where CNI's plugins are, the first directory that has one counts.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Systemd makes the cgroups, as the kubelet must be told by RuntimeConfig.
    pub systemd_cgroup: bool,
    /// Where clients get streams of containers: an address and a port, of which
    /// 0 is any that is free; it is listened on from the first stream on.
    pub stream_address: SocketAddr,
    /// Runtimes by the handler of their RuntimeClass: a path, or a program in
    /// PATH.
    pub runtimes: BTreeMap<String, String>,
}

impl Default for CriSection {
    fn default() -> Self {
        let program = |name: &str| (name.to_owned(), name.to_owned());
        Self {
            cni_conf_dir: PathBuf::from("/etc/cni/net.d"),
            cni_bin_dirs: ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from).to_vec(),
            systemd_cgroup: false,
            stream_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            runtimes: [program("runc"), program("crun")].into(),
        }
    }
}

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSection {
    /// As the flag; empty: nowhere.
    pub address: String,
}

impl Default for File {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/containerd-lite"),
            state: PathBuf::from("/run/containerd-lite"),
            address: PathBuf::new(),
            cgroup_parent: "containerd-lite".to_owned(),
            log_level: LogLevel::Info,
            runtime_path: Vec::new(),
            registry: RegistrySection::default(),
            metrics: MetricsSection::default(),
            cri: CriSection::default(),
        }
    }
}

impl Default for RegistrySection {
    fn default() -> Self {
        Self {
            config_path: HOSTS_DIRS.map(PathBuf::from).to_vec(),
        }
    }
}

impl File {
    /// Reads `path`.
    ///
    /// # Errors
    /// One line that names the file, the place in it and the key.
    pub fn read(path: &Path) -> Result<Self, BadConfig> {
        let fault = |what: String| BadConfig(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|err| fault(err.to_string()))?;
        toml::from_str(&text).map_err(|err| {
            let line = err
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            match line {
                Some(line) => fault(format!("line {line}: {}", err.message())),
                None => fault(err.message().to_owned()),
            }
        })
    }

    /// The file that says the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

/// A configuration that cannot be used, as one line.
#[derive(Debug, PartialEq, Eq)]
pub struct BadConfig(pub String);

impl std::fmt::Display for BadConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "configuration {}", self.0)
    }
}

impl std::error::Error for BadConfig {}

/// Settings of the daemon, each with its value; paths are not yet checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of everything that must survive a reboot.
    pub root: PathBuf,
    /// Directory of run-time state.
    pub state: PathBuf,
    /// The gRPC socket, where it is not in `state`.
    pub address: Option<PathBuf>,
    /// Cgroup under which the engine puts its containers.
    pub cgroup_parent: String,
    /// Least severe log lines to write.
    pub log_level: LogLevel,
    /// Directories to look for shim binaries in first.
    pub runtime_path: Vec<PathBuf>,
    /// Directories with `hosts.toml` and certificates by registry.
    pub hosts_dirs: Vec<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Kubernetes' pods.
    pub pods: CriSection,
}

impl Config {
    /// What `flags` come to, with the file that they name or the usual one.
    ///
    /// # Errors
    /// [`BadConfig`] for a file that cannot be read or used.
    pub fn of(flags: Flags) -> Result<Self, BadConfig> {
        let file = match &flags.config {
            Some(named) => File::read(named)?,
            None => match Path::new(DEFAULT_FILE).metadata() {
                Err(err) if err.kind() == io::ErrorKind::NotFound => File::default(),
                _ => File::read(Path::new(DEFAULT_FILE))?,
            },
        };
        Self::merge(flags, file)
    }

    fn merge(flags: Flags, file: File) -> Result<Self, BadConfig> {
        let metrics = match (flags.metrics_address, file.metrics.address.as_str()) {
            (Some(typed), _) => Some(typed),
            (None, "") => None,
            (None, text) => Some(text.parse().map_err(|err| {
                BadConfig(format!(
                    "metrics.address {text:?}: {err}, expected like 127.0.0.1:1338"
                ))
            })?),
        };
        let address = Some(file.address).filter(|path| !path.as_os_str().is_empty());
        let runtime_path = if flags.runtime_path.is_empty() {
            file.runtime_path
        } else {
            flags.runtime_path
        };
        Ok(Self {
            root: flags.root.unwrap_or(file.root),
            state: flags.state.unwrap_or(file.state),
            address: flags.address.or(address),
            cgroup_parent: flags.cgroup_parent.unwrap_or(file.cgroup_parent),
            log_level: flags.log_level.unwrap_or(file.log_level),
            runtime_path,
            hosts_dirs: file.registry.config_path,
            metrics,
            pods: file.cri,
        })
    }

    /// The file that says all of this.
    #[must_use]
    pub fn to_file(&self) -> File {
        File {
            root: self.root.clone(),
            state: self.state.clone(),
            address: self.address.clone().unwrap_or_default(),
            cgroup_parent: self.cgroup_parent.clone(),
            log_level: self.log_level,
            runtime_path: self.runtime_path.clone(),
            registry: RegistrySection {
                config_path: self.hosts_dirs.clone(),
            },
            metrics: MetricsSection {
                address: self.metrics.map(|at| at.to_string()).unwrap_or_default(),
            },
            cri: self.pods.clone(),
        }
    }

    /// What the pods' package is told.
    #[must_use]
    pub fn cri(&self) -> cri::CriConfig {
        cri::CriConfig {
            cgroup_parent: self.cgroup_parent.clone(),
            cni_conf_dir: self.pods.cni_conf_dir.clone(),
            cni_bin_dirs: self.pods.cni_bin_dirs.clone(),
            runtimes: self.pods.runtimes.clone(),
            systemd_cgroup: self.pods.systemd_cgroup,
            stream_address: self.pods.stream_address,
        }
    }

    /// Where the gRPC server listens.
    #[must_use]
    pub fn grpc_socket(&self) -> PathBuf {
        self.address
            .clone()
            .unwrap_or_else(|| self.state.join("containerd-lite.sock"))
    }

    /// Where shims send their events: the gRPC socket's path with `.ttrpc`
    /// appended, which is how containerd's shims derive it.
    #[must_use]
    pub fn ttrpc_socket(&self) -> PathBuf {
        let mut path = self.grpc_socket().into_os_string();
        path.push(".ttrpc");
        PathBuf::from(path)
    }
}

/// Log levels, by containerd's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What each layer decides; also makes shims log their own debug lines.
    Debug,
    /// What a person running the daemon wants to know.
    Info,
    /// What is odd but handled.
    Warn,
    /// What went wrong.
    Error,
}

impl From<LogLevel> for tracing::level_filters::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

/// What else the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish an event read from standard input; shims run this
    #[command(hide = true)]
    Publish(PublishArgs),
    /// Show configuration files
    Config(ConfigArgs),
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to show.
    #[command(subcommand)]
    pub what: ConfigCommand,
}

/// Which configuration is shown.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Every setting with its default
    Default,
    /// Every setting as this command line and its file have it
    Dump,
}

/// Arguments of `publish`; the event is a `google.protobuf.Any` on standard
/// input and the daemon's socket the global `--address`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Topic of the event, like /tasks/exit
    #[arg(long)]
    pub topic: String,
    /// Namespace the event belongs to
    #[arg(long)]
    pub namespace: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, BadConfig> {
        let program = std::iter::once(&"containerd-lite");
        let cli = Cli::try_parse_from(program.chain(arguments)).unwrap();
        Config::of(cli.flags)
    }

    #[test]
    fn the_sockets_follow_the_state_directory() {
        let config = config(&["--state", "/s"]).unwrap();
        assert_eq!(
            config.grpc_socket(),
            PathBuf::from("/s/containerd-lite.sock")
        );
        assert_eq!(
            config.ttrpc_socket(),
            PathBuf::from("/s/containerd-lite.sock.ttrpc")
        );
    }

    #[test]
    fn publish_is_called_as_shims_call_it() {
        let cli = Cli::try_parse_from([
            "containerd-lite",
            "--address",
            "/s/a.sock",
            "publish",
            "--topic",
            "/tasks/exit",
            "--namespace",
            "default",
        ])
        .unwrap();
        assert_eq!(cli.flags.address, Some(PathBuf::from("/s/a.sock")));
        let Some(Command::Publish(args)) = cli.command else {
            panic!("expected publish, got {:?}", cli.command);
        };
        assert_eq!(
            (args.topic.as_str(), args.namespace.as_str()),
            ("/tasks/exit", "default")
        );
    }

    #[test]
    fn a_flag_wins_over_the_file_and_that_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = "root = '/r'\nstate = '/file'\n[metrics]\naddress = '127.0.0.1:9'\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let config = config(&["--config", file, "--state", "/flag"]).unwrap();
        assert_eq!(config.root, PathBuf::from("/r"));
        assert_eq!(config.state, PathBuf::from("/flag"));
        assert_eq!(config.cgroup_parent, "containerd-lite");
        assert_eq!(config.metrics, Some("127.0.0.1:9".parse().unwrap()));
        let dumped: File = toml::from_str(&config.to_file().to_toml()).unwrap();
        assert_eq!(dumped, config.to_file());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        for (text, line, word) in [
            ("root = '/r'\nrooot = '/x'\n", "line 2", "rooot"),
            ("[registry]\nmirror = 1\n", "line 2", "mirror"),
            ("log_level = 'loud'\n", "line 1", "loud"),
        ] {
            std::fs::write(&file, text).unwrap();
            let named = file.to_str().unwrap();
            let err = config(&["--config", named]).unwrap_err().to_string();
            assert!(
                err.contains(line) && err.contains(word) && err.contains(named),
                "{err}"
            );
        }
        std::fs::write(&file, "[metrics]\naddress = 'here'\n").unwrap();
        let err = config(&["--config", file.to_str().unwrap()]).unwrap_err();
        assert!(err.to_string().contains("here"));
        assert!(config(&["--config", "/absent/file"]).is_err());
    }

    #[test]
    fn the_default_file_is_the_default() {
        let text = File::default().to_toml();
        assert_eq!(toml::from_str::<File>(&text).unwrap(), File::default());
        assert_eq!(toml::from_str::<File>("").unwrap(), File::default());
        assert!(text.contains("[registry]") && text.contains("certs.d"));
    }
}
