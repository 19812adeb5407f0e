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
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", action = clap::ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
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
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub(crate) format: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `ctl tag`
#[derive(Debug, Args)]
#[command(
    override_usage = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    after_help = "ctl image tag, ctl tag"
)]
pub(crate) struct TagArgs {
    #[arg(value_name = "SOURCE_IMAGE")]
    pub(crate) source: String,
    #[arg(value_name = "TARGET_IMAGE")]
    pub(crate) target: String,
}

/// `ctl history`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE",
    after_help = "ctl image history, ctl history"
)]
pub(crate) struct HistoryArgs {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::parse::switch)]
    pub(crate) human: Option<bool>,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}
