//! Commands that move files and archives.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// `ctl cp`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
       ctl cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    after_help = "ctl container cp, ctl cp"
)]
pub(crate) struct CpArgs {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(value_name = "SRC_PATH")]
    pub(crate) from: String,
    #[arg(value_name = "DEST_PATH")]
    pub(crate) to: String,
}

/// `ctl diff`
#[derive(Debug, Args)]
#[command(
    override_usage = "CONTAINER",
    after_help = "ctl container diff, ctl diff"
)]
pub(crate) struct DiffArgs {
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `ctl export`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER",
    after_help = "ctl container export, ctl export"
)]
pub(crate) struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    pub(crate) output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `ctl import`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] file|- [REPOSITORY[:TAG]]",
    after_help = "ctl image import, ctl import"
)]
pub(crate) struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list", action = ArgAction::Append)]
    pub(crate) change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    pub(crate) message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    #[arg(value_name = "file")]
    pub(crate) source: String,
    #[arg(value_name = "REPOSITORY")]
    pub(crate) reference: Option<String>,
}

/// `ctl save`
#[derive(Debug, Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [IMAGE...]",
    after_help = "ctl image save, ctl save"
)]
pub(crate) struct SaveArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    pub(crate) output: Option<PathBuf>,
    /// Save only the given platform variant
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `ctl image prune`
#[derive(Debug, Args)]
#[command(override_usage = "[OPTIONS]")]
pub(crate) struct PruneImagesArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Provide filter values (e.g. "until=TIMESTAMP")
    #[arg(long, value_name = "filter", action = ArgAction::Append)]
    pub(crate) filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(crate) force: bool,
}
