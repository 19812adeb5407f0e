//! What changes a file system: the steps of a stage, with every variable replaced.

use crate::modes::Mode;
use crate::mounts::Mount;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Runs a process.
    Run(RunOp),
    /// Copies files.
    Copy(CopyOp),
    /// Makes a directory where there is none.
    MakeDir {
        /// Its path.
        path: String,
    },
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// Its command line.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// More of it, which does not decide whether a cached result fits: proxies.
    pub unkeyed_env: Vec<String>,
    /// Where.
    pub cwd: String,
    /// As whom: `user[:group]`.
    pub user: String,
    /// What it sees besides.
    pub mounts: Vec<Mount>,
    /// With which network.
    pub network: Network,
    /// With all capabilities.
    pub insecure: bool,
    /// A script with an interpreter line of its own: name and text. `argv` runs it.
    pub script: Option<(String, String)>,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// What the build was asked for.
    Default,
    /// Loopback alone.
    None,
    /// The host's.
    Host,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// A stage or image; the context where not given.
    pub from: Option<String>,
    /// It is `ADD`.
    pub add: bool,
    /// What.
    pub sources: Vec<CopySource>,
    /// Where to: an absolute path.
    pub destination: String,
    /// It is a directory, whether it exists or not.
    pub into_directory: bool,
    /// `user[:group]`; root's where not given.
    pub owner: Option<String>,
    /// The permissions; those of the source where not given.
    pub mode: Option<Mode>,
    /// Directories above a source are made as well.
    pub parents: bool,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Archives are unpacked; where not said, those of a context with `ADD`, and none that is fetched.
    pub unpack: Option<bool>,
    /// The digest of what is fetched.
    pub checksum: Option<String>,
}

/// One thing to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern.
    Path(String),
    /// A file of the web.
    Address(String),
    /// A file that stands in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// Its text.
        content: String,
    },
}

/// A source of `ADD`.
///
/// # Errors
/// For a git repository, which is not fetched.
pub fn added(text: String) -> Result<CopySource, String> {
    let address = text.split('#').next().unwrap_or_default();
    let is_web = address.starts_with("http://") || address.starts_with("https://");
    let is_git = ["git://", "git@", "ssh://"]
        .iter()
        .any(|prefix| address.starts_with(prefix));
    if is_git || (is_web && address.ends_with(".git")) {
        return Err(format!(
            "{address:?}: ADD does not fetch git repositories: build from one, or RUN git clone"
        ));
    }
    Ok(match is_web {
        true => CopySource::Address(text),
        false => CopySource::Path(text),
    })
}

/// Where a mount's files come from, of all the steps' sources.
impl Op {
    /// The stages and images that the step reads.
    #[must_use]
    pub fn sources(&self) -> Vec<&str> {
        match self {
            Self::Copy(copy) => copy.from.iter().map(String::as_str).collect(),
            Self::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| match &mount.kind {
                    crate::mounts::Kind::Bind { from, .. } => from.as_deref(),
                    _ => None,
                })
                .collect(),
            Self::MakeDir { .. } => Vec::new(),
        }
    }
}
