//! Why a request failed: the code that crosses the wire and the words with it.
//!
//! Go's clients expect the kind's name at the end of the words and cut it
//! off; a failure of kind unknown has none.

use std::error::Error;
use std::fmt;

use ttrpc_wire::{Code, Status};

/// A failed operation.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    words: String,
}

/// The result of an operation.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of kind `code`.
    pub(crate) fn new(code: Code, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }

    /// A failure that only a person can tell more about.
    pub(crate) fn unknown(words: impl Into<String>) -> Self {
        Self::new(Code::Unknown, words)
    }

    /// A failure because something does not exist.
    pub(crate) fn not_found(words: impl Into<String>) -> Self {
        Self::new(Code::NotFound, words)
    }

    /// A failure because the state does not allow it.
    pub(crate) fn precondition(words: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, words)
    }

    /// A failure because the request makes no sense.
    pub(crate) fn invalid(words: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, words)
    }

    /// Whether it is because something does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// The operation `op`, and what stopped it.
    pub(crate) fn because(op: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::unknown(format!("{op}: {}", chain(cause)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let suffix = match failure.code {
            Code::NotFound => ": not found",
            Code::AlreadyExists => ": already exists",
            Code::FailedPrecondition => ": failed precondition",
            Code::InvalidArgument => ": invalid argument",
            Code::Unimplemented => ": not implemented",
            _ => "",
        };
        Self::new(failure.code, failure.words + suffix)
    }
}

/// One line for a person: `outer: inner: innermost`.
pub(crate) fn chain(err: &dyn Error) -> String {
    std::iter::successors(Some(err), |&e| e.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Writes a line to the shim's log: the fifo that containerd copies into its
/// own. A reader that is slow or gone costs the line, never the shim.
pub(crate) fn warn(what: &str, why: &dyn Error) {
    use std::io::Write;
    let line = format!("level=warning msg={:?} error={:?}\n", what, chain(why));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
