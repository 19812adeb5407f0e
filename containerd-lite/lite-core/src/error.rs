//! The one error type of the core: what was attempted, of which kind the
//! failure is, and its cause.
//!
//! An [`Error`] displays only its own operation; [`chain`] joins an error with
//! its causes, once, where a person or a client reads it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The core's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is; callers decide by this, never by the text.
/// The first sixteen are gRPC's codes under the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller gave up.
    Cancelled,
    /// Something outside the core failed in a way that has no better kind.
    Unknown,
    /// The request can never work.
    InvalidArgument,
    /// The time allowed is over.
    DeadlineExceeded,
    /// The named thing does not exist.
    NotFound,
    /// The thing to be made exists.
    AlreadyExists,
    /// The system refused.
    PermissionDenied,
    /// Disk, quota or another limit is used up.
    ResourceExhausted,
    /// The state of the system does not allow it now.
    FailedPrecondition,
    /// A conflict with somebody else's work.
    Aborted,
    /// An offset or size outside what exists.
    OutOfRange,
    /// Not offered.
    Unimplemented,
    /// A fault on this side.
    Internal,
    /// Busy or away; trying again may help.
    Unavailable,
    /// What is stored is damaged.
    DataLoss,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The process's executable does not exist (Docker's exit code 127).
    ExecutableNotFound,
    /// The process's executable exists but cannot be run (Docker's 126).
    ExecutableNotRunnable,
}

impl Kind {
    /// An error of this kind about `op`.
    pub fn error(self, op: impl Into<String>) -> Error {
        Error::new(self, op)
    }
}

/// A failure: kind, operation with its subject, and the cause if there is one.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    op: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a cause. `op` is "operation subject", lower case.
    pub fn new(kind: Kind, op: impl Into<String>) -> Self {
        Self {
            kind,
            op: op.into(),
            source: None,
        }
    }

    /// The same error with `source` as its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind callers decide by.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// An error from the operating system; the kind follows from its number.
    pub fn io(op: impl Into<String>, source: io::Error) -> Self {
        Self::new(io_kind(&source), op).because(source)
    }

    /// This error one layer further out: same kind, `op` in front.
    #[must_use]
    pub fn within(self, op: impl Into<String>) -> Self {
        Self::new(self.kind, op).because(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.op)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Puts an operation in front of an error that has none.
pub trait Because<T> {
    /// Ok as it is; an error becomes the cause of `op`.
    ///
    /// # Errors
    /// The same failure as a core error.
    fn op(self, op: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Because<T> for io::Result<T> {
    fn op(self, op: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::io(op(), source))
    }
}

impl<T> Because<T> for nix::Result<T> {
    fn op(self, op: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::io(op(), errno.into()))
    }
}

impl<T> Because<T> for Result<T> {
    fn op(self, op: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| err.within(op()))
    }
}

/// Kinds by meaning: a full disk is not a missing file, whoever reports it.
fn io_kind(err: &io::Error) -> Kind {
    match err.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Kind::PermissionDenied
        }
        io::ErrorKind::AlreadyExists => Kind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Kind::ResourceExhausted
        }
        io::ErrorKind::InvalidInput => Kind::InvalidArgument,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Kind::DataLoss,
        io::ErrorKind::TimedOut => Kind::DeadlineExceeded,
        _ if err.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) => {
            Kind::ResourceExhausted
        }
        _ => Kind::Internal,
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let kind = match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Kind::ResourceExhausted,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Unavailable,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::DataLoss,
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => Kind::PermissionDenied,
            _ => Kind::Internal,
        };
        Self::new(kind, "metadata database").because(source)
    }
}

/// One line for a person: `outer: inner: innermost`.
pub fn chain(err: &dyn StdError) -> String {
    let mut line = err.to_string();
    let mut next = err.source();
    while let Some(source) = next {
        line.push_str(": ");
        line.push_str(&source.to_string());
        next = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_layer_once() {
        let full = io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
        let err = Error::io("write blob", full).within("pull image \"x\"");
        assert_eq!(err.kind(), Kind::ResourceExhausted);
        assert_eq!(
            chain(&err),
            "pull image \"x\": write blob: No space left on device (os error 28)"
        );
    }
}
