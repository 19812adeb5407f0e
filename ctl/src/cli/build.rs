//! Building images.

use clap::Args;

use crate::parse::size::Bytes;

/// `ctl build`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] PATH | -",
    after_help = "ctl build, ctl builder build, ctl image build"
)]
pub(crate) struct BuildArgs {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    pub(crate) add_host: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "stringArray")]
    pub(crate) build_arg: Vec<String>,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    pub(crate) file: Option<std::path::PathBuf>,
    /// Write the image ID to a file
    #[arg(long, value_name = "string")]
    pub(crate) iidfile: Option<std::path::PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "stringArray")]
    pub(crate) label: Vec<String>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "string")]
    pub(crate) network: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "stringArray", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Set target platform for build
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Set type of progress output ("auto", "plain", "quiet")
    #[arg(long, value_name = "string", default_value = "auto")]
    pub(crate) progress: String,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "stringArray")]
    pub(crate) secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "bytes")]
    pub(crate) shm_size: Option<Bytes>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long, value_name = "stringArray")]
    pub(crate) tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    pub(crate) target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit")]
    pub(crate) ulimit: Vec<String>,
    #[arg(value_name = "PATH")]
    pub(crate) context: std::path::PathBuf,
}

/// `ctl builder prune`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]")]
pub(crate) struct PruneArgs {
    /// Remove all build cache, not just dangling ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}
