//! The registry's errors as the core's: one table of kinds.

use crate::error::{Error, Kind};

/// `err` with its kind, below `op`.
pub(super) fn of(err: registry::Error, op: impl Into<String>) -> Error {
    kind(&err).error(op).because(err)
}

/// `err` as an error of its own, for callers that say themselves what they
/// were at.
pub(super) fn plain(err: registry::Error) -> Error {
    let kind = kind(&err);
    let line = err.to_string();
    match std::error::Error::source(&err) {
        Some(source) => kind.error(line).because(source.to_string()),
        None => kind.error(line),
    }
}

fn kind(err: &registry::Error) -> Kind {
    use registry::Error as E;
    match err {
        E::NotFound { .. } => Kind::NotFound,
        E::Unauthorized { .. } => Kind::Unauthenticated,
        E::Unreachable { .. } | E::Cut { .. } | E::Stalled { .. } | E::Unavailable { .. } => {
            Kind::Unavailable
        }
        E::DigestMismatch { .. } | E::SizeMismatch { .. } | E::TooLarge { .. } => Kind::DataLoss,
        E::PlainHttp { .. } | E::NoRoots { .. } => Kind::FailedPrecondition,
        E::Setup(_) => Kind::Internal,
        _ => Kind::Unknown,
    }
}
