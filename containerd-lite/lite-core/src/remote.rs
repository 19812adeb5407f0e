//! What pulls and pushes share: the registry's errors as the core's, by one
//! table of kinds, and the labels that note where a blob came from.

use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::labels::Labels;
use crate::namespace::Namespace;

/// The prefix of labels that name the repositories of one registry that have
/// the blob, as containerd's clients write and read them.
const SOURCE: &str = "containerd.io/distribution.source.";

/// The label's name for the registry `domain`.
pub(crate) fn source_label(domain: &str) -> String {
    format!("{SOURCE}{domain}")
}

/// Notes that the repository of `reference` has the blob. A label that would
/// become too long stays as it is.
///
/// # Errors
/// NotFound; those of the database.
pub(crate) fn note_source(
    content: &ContentStore,
    ns: &Namespace,
    digest: &Digest,
    reference: &registry::Reference,
) -> Result<()> {
    let key = source_label(reference.domain());
    let known = content.info(ns, digest)?.labels.remove(&key);
    let value = match known {
        Some(known) if known.split(',').any(|path| path == reference.path()) => return Ok(()),
        Some(known) if !known.is_empty() => format!("{known},{}", reference.path()),
        _ => reference.path().to_owned(),
    };
    let labels = Labels::from([(key, value)]);
    match content.add_labels(ns, digest, &labels) {
        Err(err) if err.kind() == Kind::InvalidArgument => Ok(()),
        noted => noted.map(drop),
    }
}

/// The same digest in the registry's type.
pub(crate) fn digest(digest: &Digest) -> Result<registry::Digest> {
    registry::Digest::parse(digest.as_str())
        .map_err(|err| Kind::InvalidArgument.error("read a digest").because(err))
}

/// `err` as an error of its own, for callers that say themselves what they
/// were at.
pub(crate) fn plain(err: registry::Error) -> Error {
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
        E::PlainHttp { .. } | E::NoRoots { .. } | E::Hosts { .. } => Kind::FailedPrecondition,
        E::Setup(_) => Kind::Internal,
        _ => Kind::Unknown,
    }
}
