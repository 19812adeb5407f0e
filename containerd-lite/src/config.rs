//! What the daemon is told when it starts: flags, and for the directories and
//! the cgroup parent an environment variable each, so that `ctl` and a service
//! unit can agree with it without a configuration file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    pub config: Config,
    /// Absent: run the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Settings of the daemon, as typed; paths are not yet checked.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Directory of everything that must survive a reboot
    #[arg(
        long,
        env = "CONTAINERD_LITE_ROOT",
        default_value = "/var/lib/containerd-lite",
        value_name = "DIR"
    )]
    pub root: PathBuf,
    /// Directory of run-time state: sockets, bundles, locks
    #[arg(
        long,
        env = "CONTAINERD_LITE_STATE",
        default_value = "/run/containerd-lite",
        value_name = "DIR"
    )]
    pub state: PathBuf,
    /// Path of the gRPC socket; containerd-lite.sock in the state directory by default
    #[arg(long, short = 'a', value_name = "SOCK")]
    pub address: Option<PathBuf>,
    /// Cgroup under which the engine puts its containers
    #[arg(
        long,
        env = "CONTAINERD_LITE_CGROUP_PARENT",
        default_value = "containerd-lite",
        value_name = "NAME"
    )]
    pub cgroup_parent: String,
    /// Least severe log lines to write to standard error
    #[arg(long, short = 'l', value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,
    /// Directory to look for shim binaries in, before the daemon's own directory and PATH; may be repeated
    #[arg(long, value_name = "DIR")]
    pub runtime_path: Vec<PathBuf>,
}

impl Config {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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

    #[test]
    fn the_sockets_follow_the_state_directory() {
        let cli = Cli::try_parse_from(["containerd-lite", "--state", "/s"]).unwrap();
        assert_eq!(
            cli.config.grpc_socket(),
            PathBuf::from("/s/containerd-lite.sock")
        );
        assert_eq!(
            cli.config.ttrpc_socket(),
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
        assert_eq!(cli.config.grpc_socket(), PathBuf::from("/s/a.sock"));
        let Some(Command::Publish(args)) = cli.command else {
            panic!("expected publish, got {:?}", cli.command);
        };
        assert_eq!(
            (args.topic.as_str(), args.namespace.as_str()),
            ("/tasks/exit", "default")
        );
    }
}
