//! The command line, flag for flag runc's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(
    name = "runc-rs",
    disable_version_flag = true,
    args_override_self = true
)]
pub(crate) struct Cli {
    /// Log more
    #[arg(long)]
    pub(crate) debug: bool,
    /// File to append log messages to; stderr without it
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Format of log messages
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Directory that holds the state of containers; should be on a tmpfs
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Let systemd make cgroups
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Ignore cgroup permission errors: true, false or auto
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) rootless: String,
    /// Path of criu, else found in PATH
    #[arg(long, hide = true)]
    pub(crate) criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container and leave its process waiting for start
    Create(CreateArgs),
    /// Create and start a container
    Run(RunArgs),
    /// Start the process of a created container
    Start(IdArg),
    /// Print the state of a container
    State(IdArg),
    /// Send a signal to a container's process
    Kill(KillArgs),
    /// Delete what a container holds
    Delete(DeleteArgs),
    /// List containers
    List(ListArgs),
    /// Run another process in a container
    Exec(Box<ExecArgs>),
    /// List the processes of a container
    Ps(PsArgs),
    /// Suspend all processes of a container
    Pause(IdArg),
    /// Resume all processes of a container
    Resume(IdArg),
    /// Change a container's limits
    Update(Box<UpdateArgs>),
    /// Print statistics and out-of-memory events
    Events(EventsArgs),
    /// Write a config.json to start from
    Spec(SpecArgs),
    /// Print what this runtime supports, as JSON
    Features,
    /// Print what create would do
    Plan(PlanArgs),
    /// Print completions for a shell
    Completion(CompletionArgs),
    /// Save a running container, and unless told otherwise end it
    Checkpoint(Box<CheckpointArgs>),
    /// Bring a container back out of a checkpoint
    Restore(Box<RestoreArgs>),
    /// Mount in a running container, and take such mounts away again
    #[command(subcommand)]
    Mounts(MountsCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum MountsCommand {
    /// Mount in a running container
    ///
    /// The mount is there until it is removed or the container ends; it is not part of the config. The target is looked up inside
    /// the container and made where it is missing. What programs have open there they keep.
    #[command(
        after_help = "EXAMPLES:\n   mounts add web --source /srv/data --target /data --options ro,nosuid\n   mounts add web --type tmpfs --target /scratch --options size=64m,mode=700"
    )]
    Add(AddMountArgs),
    /// Take away a mount that was added
    ///
    /// Programs that have files of it open keep them until they close them; nobody else finds it any more.
    Remove(RemoveMountArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddMountArgs {
    /// Container id
    pub(crate) id: String,
    /// File or directory of the host; for other types than bind what the filesystem takes as its source
    #[arg(long, value_name = "PATH")]
    pub(crate) source: Option<PathBuf>,
    /// Where in the container, from its root
    #[arg(long, value_name = "PATH")]
    pub(crate) target: PathBuf,
    /// Filesystem, or bind
    #[arg(long = "type", value_name = "TYPE", default_value = "bind")]
    pub(crate) kind: String,
    /// Options as in a config's mounts, separated by commas: ro, rbind, nosuid, idmap, size=64m and so on
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveMountArgs {
    /// Also a mount that the container was created with, or made itself
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Container id
    pub(crate) id: String,
    /// Where it is in the container
    pub(crate) target: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IdArg {
    /// Container id
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Container id
    pub(crate) id: String,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that receives the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Do not pivot: for a rootfs on an initial ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Pass this many descriptors after stdio and those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Do not wait for the process
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not delete the container when its process ends
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not adopt the container's orphans
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal all processes of the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Container id
    pub(crate) id: String,
    /// Signal by name or number
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kill the container first if it runs; no error if it does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Container ids
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Unix socket that receives the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Environment variable
    #[arg(short, long = "env", value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User as UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Supplementary group
    #[arg(short = 'g', long = "additional-gids", value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Never gain privileges by exec
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Capability to add
    #[arg(short, long = "cap", value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// Pass this many descriptors after stdio and those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Existing cgroup below the container's, as PATH or CONTROLLER:PATH
    #[arg(long, value_name = "CGROUP")]
    pub(crate) cgroup: Vec<String>,
    /// Also in a paused container
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Container id
    pub(crate) id: String,
    /// Command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Container id
    pub(crate) id: String,
    /// Options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// File with the limits as JSON, - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    #[arg(long)]
    pub(crate) cpu_burst: Option<u64>,
    #[arg(long)]
    pub(crate) cpu_share: Option<u64>,
    #[arg(long)]
    pub(crate) cpu_rt_period: Option<u64>,
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    #[arg(long)]
    pub(crate) cpu_idle: Option<i64>,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    #[arg(long)]
    pub(crate) l3_cache_schema: Option<String>,
    #[arg(long)]
    pub(crate) mem_bw_schema: Option<String>,
    /// Container id
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Time between statistics, as in 5s
    #[arg(long, default_value = "5s")]
    pub(crate) interval: String,
    /// Print statistics once and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// Container id
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For a container without root
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Bundle directory
    #[arg(default_value = ".")]
    pub(crate) bundle: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}

/// What checkpoint and restore have in common.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Directory of the images [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<PathBuf>,
    /// Directory for criu's logs and other files [default: that of the images]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Allow unix sockets connected to the outside
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// Allow shell jobs
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Handle file locks
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// What of cgroups is saved and restored: soft, full, strict or ignore
    #[arg(long, value_name = "MODE", default_value = "")]
    pub(crate) manage_cgroups_mode: String,
    /// Make this kind of namespace but leave it empty: network
    #[arg(long, value_name = "KIND")]
    pub(crate) empty_ns: Vec<String>,
    /// Leave out memory pages that an earlier image has
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// Move memory pages when they are needed
    #[arg(long)]
    pub(crate) lazy_pages: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    /// Directory of an earlier checkpoint, relative to that of the images
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// Skip TCP connections that are being made
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// Give deleted files that are in use a name
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// Descriptor that gets a zero byte once lazy pages can be asked for
    #[arg(
        long,
        value_name = "FD",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    pub(crate) status_fd: i32,
    /// Server that takes memory pages
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// Save memory only, and let the container go on
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// Container id
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that receives the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Do not adopt the container's orphans
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Do not pivot: for a rootfs on an initial ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Security module profile of the processes, as TYPE:NAME
    #[arg(long, value_name = "PROFILE")]
    pub(crate) lsm_profile: Option<String>,
    /// Security module context of the mounts
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// Container id
    pub(crate) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_containerds_client_passes_is_understood() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap();
        let cli = parse(
            "runc --root /run/r/default --log /b/log.json --log-format json --systemd-cgroup create --bundle /b \
             --pid-file /b/init.pid --console-socket /c.sock --no-pivot --no-new-keyring id",
        );
        assert_eq!(cli.log_format, LogFormat::Json);
        assert!(matches!(cli.command, Some(Command::Create(c)) if c.no_pivot && c.id == "id"));
        let cli = parse("runc exec --process /p.json --detach --pid-file /f id");
        assert!(matches!(cli.command, Some(Command::Exec(e)) if e.detach && e.command.is_empty()));
        let cli = parse("runc exec -e A=b -u 1:2 id ls -la");
        assert!(matches!(cli.command, Some(Command::Exec(e)) if e.command == ["ls", "-la"]));
        let cli = parse("runc kill --all id 9");
        assert!(matches!(cli.command, Some(Command::Kill(k)) if k.all && k.signal == "9"));
        let cli = parse("runc update --resources - id");
        assert!(matches!(cli.command, Some(Command::Update(u)) if u.resources.is_some()));
    }
}
