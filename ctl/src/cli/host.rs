//! Flags of `run` and `create` about what a container has of the host, and
//! those that `update` shares with them.

use clap::{ArgAction, Args};

use crate::parse::key_value;
use crate::parse::mount::Mount;
use crate::parse::network::Network;
use crate::parse::size::{Bytes, Cpus, GoDuration};

/// Limits.
#[derive(Debug, Args)]
pub(crate) struct LimitFlags {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16")]
    pub(crate) blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    pub(crate) cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", allow_negative_numbers = true)]
    pub(crate) cpus: Option<Cpus>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", allow_negative_numbers = true)]
    pub(crate) memory: Option<Bytes>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", allow_negative_numbers = true)]
    pub(crate) memory_reservation: Option<Bytes>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<Bytes>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits (default "no")
    #[arg(long, value_name = "string")]
    pub(crate) restart: Option<String>,
}

/// What else a container has of the host.
#[derive(Debug, Args)]
pub(crate) struct HostFlags {
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "map", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) annotation: Vec<(String, String)>,
    /// Add Linux capabilities
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    pub(crate) cgroup_parent: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string")]
    pub(crate) cgroupns: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device_read_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device_read_iops: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device_write_bps: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) device_write_iops: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) dns: Vec<String>,
    /// Set DNS options
    #[arg(long, value_name = "list", alias = "dns-opt", action = ArgAction::Append)]
    pub(crate) dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    pub(crate) domainname: Option<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) expose: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) group_add: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    pub(crate) health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration")]
    pub(crate) health_interval: Option<GoDuration>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int")]
    pub(crate) health_retries: Option<i32>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration")]
    pub(crate) health_start_interval: Option<GoDuration>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration")]
    pub(crate) health_start_period: Option<GoDuration>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration")]
    pub(crate) health_timeout: Option<GoDuration>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string")]
    pub(crate) ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string")]
    pub(crate) ip6: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    pub(crate) ipc: Option<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) label_file: Vec<std::path::PathBuf>,
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    pub(crate) log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) log_opt: Vec<(String, String)>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    pub(crate) mac_address: Option<String>,
    /// Tune container memory swappiness (0 to 100) (default -1)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", action = ArgAction::Append)]
    pub(crate) mount: Vec<Mount>,
    /// Connect a container to a network
    #[arg(long, value_name = "network", alias = "net", action = ArgAction::Append)]
    pub(crate) network: Vec<Network>,
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "list", alias = "net-alias", action = ArgAction::Append)]
    pub(crate) network_alias: Vec<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
    /// Disable OOM Killer
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i32>,
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) pid: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Security Options
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes")]
    pub(crate) shm_size: Option<Bytes>,
    /// Sysctl options
    #[arg(long, value_name = "map", action = ArgAction::Append, value_parser = key_value)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) tmpfs: Vec<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", action = ArgAction::Append)]
    pub(crate) ulimit: Vec<String>,
    /// User namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) userns: Option<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request")]
    pub(crate) gpus: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) uts: Option<String>,
    /// Bind mount a volume
    #[arg(short = 'v', long, value_name = "list", action = ArgAction::Append)]
    pub(crate) volume: Vec<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list", action = ArgAction::Append)]
    pub(crate) volumes_from: Vec<String>,
}
