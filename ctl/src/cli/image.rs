//! Commands on images.

use clap::Args;

/// `ctl pull`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] NAME[:TAG|@DIGEST]",
    after_help = "ctl image pull, ctl pull"
)]
pub(crate) struct PullArgs {
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(value_name = "NAME")]
    pub(crate) reference: String,
}

/// `ctl images`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] [REPOSITORY[:TAG]]",
    after_help = "ctl image ls, ctl image list, ctl images"
)]
pub(crate) struct ImagesArgs {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(value_name = "REPOSITORY")]
    pub(crate) reference: Option<String>,
}

/// `ctl rmi`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [IMAGE...]",
    after_help = "ctl image rm, ctl image remove, ctl rmi"
)]
pub(crate) struct RmiArgs {
    /// Force removal of the image
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `ctl load`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]", after_help = "ctl image load, ctl load")]
pub(crate) struct LoadArgs {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    pub(crate) input: Option<std::path::PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `ctl image inspect`
#[derive(Debug, Args)]
#[command(override_usage = "IMAGE [IMAGE...]")]
pub(crate) struct InspectImageArgs {
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}
