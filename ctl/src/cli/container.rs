//! Commands on containers.

use clap::{ArgAction, Args};

use super::host::HostFlags;
use crate::parse::moment::Moment;
use crate::parse::{Attach, Pull, SignedSeconds, Tail, key_value};

/// Where a container's settings come from; shared by `run` and `create`.
/// What was not typed stays absent, since defaults are the daemon's.
#[derive(Debug, Args)]
pub(crate) struct ContainerSettings {
    #[command(flatten)]
    pub(crate) host: HostFlags,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    pub(crate) hostname: Option<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) label: Vec<(String, String)>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub(crate) name: Option<String>,
    /// Set platform of an image that has to be pulled
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pub(crate) pull: Option<Pull>,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    pub(crate) runtime: Option<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    pub(crate) stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<SignedSeconds>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    pub(crate) workdir: Option<String>,
    /// The image, then the command: from the image on nothing is a flag.
    #[arg(required = true, trailing_var_arg = true, num_args = 1.., value_name = "IMAGE")]
    pub(crate) image_and_command: Vec<String>,
}

/// `ctl run`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "ctl container run, ctl run"
)]
pub(crate) struct RunArgs {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) attach: Vec<Attach>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    pub(crate) detach_keys: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::parse::switch)]
    pub(crate) sig_proxy: Option<bool>,
    #[command(flatten)]
    pub(crate) settings: ContainerSettings,
}

/// `ctl create`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "ctl container create, ctl create"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) settings: ContainerSettings,
}

/// `ctl start`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container start, ctl start"
)]
pub(crate) struct StartArgs {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    pub(crate) detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl stop`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container stop, ctl stop"
)]
pub(crate) struct StopArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    pub(crate) signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(
        short = 't',
        long,
        alias = "time",
        value_name = "int",
        allow_negative_numbers = true
    )]
    pub(crate) timeout: Option<SignedSeconds>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl kill`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container kill, ctl kill"
)]
pub(crate) struct KillArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    pub(crate) signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl rm`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "ctl container rm, ctl container remove, ctl rm"
)]
pub(crate) struct RmArgs {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl ps`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS]",
    after_help = "ctl container ls, ctl container list, ctl container ps, ctl ps"
)]
pub(crate) struct PsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(short = 'n', long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `ctl logs`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER",
    after_help = "ctl container logs, ctl logs"
)]
pub(crate) struct LogsArgs {
    /// Show extra details provided to logs
    #[arg(long)]
    pub(crate) details: bool,
    /// Follow log output
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    pub(crate) since: Option<Moment>,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    pub(crate) until: Option<Moment>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(
        short = 'n',
        long,
        value_name = "string",
        allow_negative_numbers = true
    )]
    pub(crate) tail: Option<Tail>,
    /// Show timestamps
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `ctl exec`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER COMMAND [ARG...]",
    after_help = "ctl container exec, ctl exec"
)]
pub(crate) struct ExecArgs {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    pub(crate) detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    pub(crate) workdir: Option<String>,
    /// The container, then the command: from the container on nothing is a flag.
    #[arg(required = true, trailing_var_arg = true, num_args = 2.., value_name = "CONTAINER")]
    pub(crate) container_and_command: Vec<String>,
}

/// `ctl attach`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER",
    after_help = "ctl container attach, ctl attach"
)]
pub(crate) struct AttachArgs {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    pub(crate) detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::parse::switch)]
    pub(crate) sig_proxy: Option<bool>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `ctl wait`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER [CONTAINER...]",
    after_help = "ctl container wait, ctl wait"
)]
pub(crate) struct WaitArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ctl container inspect`
#[derive(Debug, Args)]
#[command(override_usage = "CONTAINER [CONTAINER...]")]
pub(crate) struct InspectContainerArgs {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    pub(crate) size: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}
