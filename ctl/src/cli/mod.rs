//! The command line as it may be typed: names, flags and shapes, no meaning.
//!
//! 1. The clap definitions live in one file per command group: [`container`],
//!    [`image`], [`system`].
//! 2. [`command`] gives them Docker's flag rules, which differ from clap's.
//! 3. [`help`] prints them in Docker's layout, [`refusal`] says in Docker's
//!    words what is wrong with a line.

pub(crate) mod build;
pub(crate) mod change;
pub(crate) mod container;
pub(crate) mod files;
pub(crate) mod help;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod refusal;
pub(crate) mod registry;
pub(crate) mod system;
pub(crate) mod volume;
pub(crate) mod whole;

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use build::BuildArgs;
use change::{
    CommitArgs, PauseArgs, PortArgs, PruneContainersArgs, RenameArgs, RestartArgs, StatsArgs,
    TopArgs, UnpauseArgs, UpdateArgs,
};
use container::{
    AttachArgs, CreateArgs, ExecArgs, KillArgs, LogsArgs, PsArgs, RmArgs, RunArgs, StartArgs,
    StopArgs, WaitArgs,
};
use files::{CpArgs, DiffArgs, ExportArgs, ImportArgs, PruneImagesArgs, SaveArgs};
use image::{HistoryArgs, ImagesArgs, LoadArgs, PullArgs, RmiArgs, TagArgs};
use network::NetworkAction;
use registry::{LoginArgs, LogoutArgs, PushArgs, SearchArgs};
use system::{CompletionArgs, EventsArgs, InspectArgs};
use volume::VolumeAction;
use whole::{DoctorArgs, InfoArgs, SystemAction, VersionArgs};

/// Everything before the command.
#[derive(Debug, Parser)]
#[command(
    name = "ctl",
    version,
    about = "A self-sufficient runtime for containers",
    override_usage = "[OPTIONS] COMMAND",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Daemon socket to connect to (unix:///path/to/socket)
    #[arg(
        short = 'H',
        long,
        env = "CTL_HOST",
        value_name = "string",
        hide_env = true
    )]
    pub(crate) host: Option<String>,

    #[command(subcommand)]
    pub(crate) action: Action,
}

/// The commands, in the order the help lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Create and run a new container from an image
    Run(RunArgs),
    /// Execute a command in a running container
    Exec(ExecArgs),
    /// List containers
    Ps(PsArgs),
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// List images
    Images(ImagesArgs),
    /// Authenticate to a registry
    Login(LoginArgs),
    /// Log out from a registry
    Logout(LogoutArgs),
    /// Search Docker Hub, or another registry, for images
    Search(SearchArgs),
    /// Show the version of client and daemon
    Version(VersionArgs),
    /// Display system-wide information
    Info(InfoArgs),
    /// Manage containers
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Container(ContainerAction),
    /// Manage builds
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Builder(BuilderAction),
    /// Manage images
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Image(ImageAction),
    /// Manage networks
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Network(NetworkAction),
    /// Manage the daemon and what it keeps
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    System(SystemAction),
    /// Manage volumes
    #[command(
        subcommand,
        override_usage = "COMMAND",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Volume(VolumeAction),
    /// Attach local standard input, output, and error streams to a running container
    Attach(AttachArgs),
    /// Create a new image from a container's changes
    Commit(CommitArgs),
    /// Generate the autocompletion script for the specified shell
    Completion(CompletionArgs),
    /// Copy files/folders between a container and the local filesystem
    Cp(CpArgs),
    /// Create a new container
    Create(CreateArgs),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(DiffArgs),
    /// Say what of this host keeps containers from running well, and what to type
    Doctor(DoctorArgs),
    /// Export a container's filesystem as a tar archive
    Export(ExportArgs),
    /// Get real time events from the server
    Events(EventsArgs),
    /// Show the history of an image
    History(HistoryArgs),
    /// Import the contents from a tarball to create a filesystem image
    Import(ImportArgs),
    /// Return low-level information on containers and images
    Inspect(InspectArgs),
    /// Kill one or more running containers
    Kill(KillArgs),
    /// Load an image from a tar archive or STDIN
    Load(LoadArgs),
    /// Fetch the logs of a container
    Logs(LogsArgs),
    /// Pause all processes within one or more containers
    Pause(PauseArgs),
    /// List port mappings or a specific mapping for the container
    Port(PortArgs),
    /// Rename a container
    Rename(RenameArgs),
    /// Restart one or more containers
    Restart(RestartArgs),
    /// Remove one or more containers
    Rm(RmArgs),
    /// Remove one or more images
    Rmi(RmiArgs),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(SaveArgs),
    /// Start one or more stopped containers
    Start(StartArgs),
    /// Display a live stream of container(s) resource usage statistics
    Stats(StatsArgs),
    /// Stop one or more running containers
    Stop(StopArgs),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(TagArgs),
    /// Display the running processes of a container
    Top(TopArgs),
    /// Unpause all processes within one or more containers
    Unpause(UnpauseArgs),
    /// Update configuration of one or more containers
    Update(UpdateArgs),
    /// Block until one or more containers stop, then print their exit codes
    Wait(WaitArgs),
}

/// `ctl container …`: the same commands under their management name.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerAction {
    /// Attach local standard input, output, and error streams to a running container
    Attach(AttachArgs),
    /// Create a new image from a container's changes
    Commit(CommitArgs),
    /// Copy files/folders between a container and the local filesystem
    Cp(CpArgs),
    /// Create a new container
    Create(CreateArgs),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(DiffArgs),
    /// Export a container's filesystem as a tar archive
    Export(ExportArgs),
    /// Execute a command in a running container
    Exec(ExecArgs),
    /// Display detailed information on one or more containers
    Inspect(container::InspectContainerArgs),
    /// Kill one or more running containers
    Kill(KillArgs),
    /// Fetch the logs of a container
    Logs(LogsArgs),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Pause all processes within one or more containers
    Pause(PauseArgs),
    /// List port mappings or a specific mapping for the container
    Port(PortArgs),
    /// Remove all stopped containers
    Prune(PruneContainersArgs),
    /// Rename a container
    Rename(RenameArgs),
    /// Restart one or more containers
    Restart(RestartArgs),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Create and run a new container from an image
    Run(RunArgs),
    /// Start one or more stopped containers
    Start(StartArgs),
    /// Display a live stream of container(s) resource usage statistics
    Stats(StatsArgs),
    /// Stop one or more running containers
    Stop(StopArgs),
    /// Display the running processes of a container
    Top(TopArgs),
    /// Unpause all processes within one or more containers
    Unpause(UnpauseArgs),
    /// Update configuration of one or more containers
    Update(UpdateArgs),
    /// Block until one or more containers stop, then print their exit codes
    Wait(WaitArgs),
}

/// `ctl builder …`
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderAction {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Remove build cache
    Prune(build::PruneArgs),
}

/// `ctl image …`: the same commands under their management name.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageAction {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Show the history of an image
    History(HistoryArgs),
    /// Import the contents from a tarball to create a filesystem image
    Import(ImportArgs),
    /// Display detailed information on one or more images
    Inspect(image::InspectImageArgs),
    /// Load an image from a tar archive or STDIN
    Load(LoadArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Remove unused images
    Prune(PruneImagesArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(SaveArgs),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(TagArgs),
}

/// The clap command with Docker's flag rules: a later value of a flag
/// overrides an earlier one, a switch may be given as `--rm=false`, and
/// `--help` has no short form that would shadow `-h`/`--hostname`.
pub(crate) fn command() -> Command {
    with_docker_rules(
        Cli::command().disable_version_flag(true).arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print version information and quit")
                .action(ArgAction::Version),
        ),
    )
}

fn with_docker_rules(command: Command) -> Command {
    let help = Arg::new("help")
        .long("help")
        .help("Print usage")
        .action(ArgAction::Help)
        .hide(true);
    command
        .disable_help_flag(true)
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => as_switch(arg),
            _ => arg,
        })
        .arg(help)
        .mut_subcommands(with_docker_rules)
}

fn as_switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(
            clap::builder::NonEmptyStringValueParser::new()
                .try_map(|text| crate::parse::switch(&text)),
        )
}

/// Parses a whole command line, program name first.
pub(crate) fn parse(argv: &[std::ffi::OsString]) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(argv)?;
    Cli::from_arg_matches(&matches)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
