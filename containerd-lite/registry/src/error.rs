//! What can go wrong between here and a registry, one line each.
//!
//! Every variant names the host or the thing that was asked for; what lies
//! beneath is the `source`. URLs are left out, because the ones a registry
//! redirects to carry signatures that grant access.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::digest::Digest;

/// A failure of one request to a registry, after all retries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry has no such manifest or blob.
    #[error("{subject} not found in registry {host}")]
    NotFound {
        /// What was asked for.
        subject: String,
        /// The registry.
        host: String,
    },
    /// The registry, or the server that issues its tokens, wants other
    /// credentials than the ones it got. Registries answer the same for
    /// repositories that do not exist.
    #[error(
        "access to {repository} denied by {host}{detail}; the repository does not exist or needs a login"
    )]
    Unauthorized {
        /// The repository with its registry.
        repository: String,
        /// Who refused.
        host: String,
        /// What it said: `: text`, or empty.
        detail: String,
    },
    /// No connection, or it broke, or TLS did not come about.
    #[error("registry {host} is unreachable")]
    Unreachable {
        /// Who did not answer.
        host: String,
        /// Why.
        source: TransportError,
    },
    /// The connection ended in the middle of an answer, on every attempt.
    #[error("connection to registry {host} was cut after {received} bytes of {subject}")]
    Cut {
        /// Who hung up.
        host: String,
        /// What was asked for.
        subject: String,
        /// How much of it is here.
        received: u64,
        /// What the transport saw.
        source: Option<TransportError>,
    },
    /// Nothing, or next to nothing, came for the whole idle timeout.
    #[error("registry {host} stalled: no data of {subject} for {}", Seconds(*.waited))]
    Stalled {
        /// Who does not answer.
        host: String,
        /// What was asked for.
        subject: String,
        /// The timeout.
        waited: Duration,
    },
    /// The registry is overloaded, in maintenance or limits the rate.
    #[error("registry {host} is unavailable: {status}{detail}")]
    Unavailable {
        /// Who said so.
        host: String,
        /// Code and phrase of the answer.
        status: String,
        /// What it said: `: text`, or empty.
        detail: String,
        /// The pause that it asked for.
        retry_after: Option<Duration>,
    },
    /// The registry refused in a way that has no better variant.
    #[error("registry {host} refused {subject}: {status}{detail}")]
    Refused {
        /// Who refused.
        host: String,
        /// What was asked for.
        subject: String,
        /// Code and phrase of the answer.
        status: String,
        /// What it said: `: text`, or empty.
        detail: String,
    },
    /// The bytes are not those that were promised.
    #[error("{subject} from registry {host} is corrupt: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was asked for.
        subject: String,
        /// Who sent it.
        host: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// More bytes than the limit, or than the descriptor says.
    #[error("{subject} from registry {host} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        subject: String,
        /// Who sent it.
        host: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Another length than the descriptor says.
    #[error("{subject} from registry {host} has {actual} bytes, expected {expected}")]
    SizeMismatch {
        /// What was asked for.
        subject: String,
        /// Who sent it.
        host: String,
        /// In the descriptor.
        expected: u64,
        /// In the answer.
        actual: u64,
    },
    /// The answer breaks the distribution protocol.
    #[error("answer of {host} to the request for {subject} makes no sense: {what}")]
    Protocol {
        /// Who answered.
        host: String,
        /// What was asked for.
        subject: String,
        /// What is wrong with it.
        what: String,
    },
    /// A redirect or token server would have the client leave TLS.
    #[error("{host} is reached over plain HTTP, which is allowed for loopback addresses only")]
    PlainHttp {
        /// The host that was not asked.
        host: String,
    },
    /// There is nothing to verify a server certificate with.
    #[error(
        "no CA certificates found on this machine, needed for TLS with {host} (Debian package ca-certificates)"
    )]
    NoRoots {
        /// The host that was not asked.
        host: String,
    },
    /// A file that says how to reach a registry cannot be used.
    #[error("{}: {what}", file.display())]
    Hosts {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong with it, and where.
        what: String,
    },
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client")]
    Setup(#[source] TransportError),
}

impl Error {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_tls,
            Self::Cut { .. } | Self::Stalled { .. } | Self::Unavailable { .. } => true,
            _ => false,
        }
    }

    /// The pause a registry asked for before the next attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The innermost reason of a failed exchange, without the layers of the HTTP
/// client around it: `Connection refused (os error 111)`.
#[derive(Debug)]
pub struct TransportError {
    reason: String,
    /// TLS did not come about, which trying again does not change.
    is_tls: bool,
}

impl TransportError {
    pub(crate) fn new(err: &(dyn StdError + 'static)) -> Self {
        let innermost = std::iter::successors(Some(err), |&err| err.source())
            .last()
            .unwrap_or(err);
        Self {
            reason: innermost.to_string(),
            is_tls: is_tls(innermost),
        }
    }
}

/// Whether `err` is of TLS; such errors travel inside ones of the system, which
/// do not name them as their source.
fn is_tls(err: &(dyn StdError + 'static)) -> bool {
    let inner = err
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    err.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

impl From<reqwest::Error> for TransportError {
    fn from(err: reqwest::Error) -> Self {
        Self::new(&err.without_url())
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl StdError for TransportError {}

/// `30 s`, or `0.2 s` below a second.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_bad_certificate_is_not_worth_another_attempt() {
        let unreachable = |err: io::Error| Error::Unreachable {
            host: "h".to_owned(),
            source: TransportError::new(&err),
        };
        let bad = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(!unreachable(io::Error::other(bad)).is_transient());
        assert!(unreachable(io::ErrorKind::ConnectionRefused.into()).is_transient());
    }
}
