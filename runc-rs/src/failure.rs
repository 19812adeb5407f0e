//! What went wrong, as a chain: each layer says what it did, the cause is its source.

use std::error::Error as StdError;
use std::fmt;

/// An operation that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    op: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result with a [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(op: impl Into<String>) -> Self {
        Self {
            op: op.into(),
            source: None,
        }
    }

    pub(crate) fn because(
        op: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            op: op.into(),
            source: Some(source.into()),
        }
    }

    /// `outer: inner: innermost`. Called once, where the error is printed.
    pub(crate) fn chain(&self) -> String {
        std::iter::successors(Some(self as &dyn StdError), |&e| e.source())
            .map(|e| {
                let io = e.downcast_ref::<std::io::Error>();
                let errno = e.downcast_ref::<nix::errno::Errno>();
                match (io, errno) {
                    (Some(io), _) => crate::phrases::io_error(io),
                    (None, Some(errno)) => crate::phrases::errno_words(*errno as i32),
                    (None, None) => e.to_string(),
                }
            })
            .collect::<Vec<_>>()
            .join(": ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.op)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Gives any error its operation.
pub(crate) trait Context<T> {
    fn context(self, op: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, op: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::because(op(), e))
    }
}
