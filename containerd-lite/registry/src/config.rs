//! What a [`Client`](crate::Client) is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::retry::RetryPolicy;

/// Settings of a client; the default suits the public registries.
#[derive(Debug, Clone)]
pub struct Config {
    /// By the domain of references: `docker.io`, `localhost:5000`.
    pub credentials: BTreeMap<String, Credentials>,
    /// Domains that are reached without TLS although they are not loopback.
    pub plain_http: BTreeSet<String>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin, or to go on by a kilobyte.
    pub idle_timeout: Duration,
    /// How long a manifest or token may take as a whole.
    pub document_timeout: Duration,
    /// The largest manifest or index that is accepted.
    pub max_manifest_bytes: u64,
    /// How requests are repeated.
    pub retry: RetryPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credentials: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(60),
            // What registries themselves accept, by the distribution-spec.
            max_manifest_bytes: 4 << 20,
            retry: RetryPolicy::default(),
        }
    }
}

/// A user name and a password or access token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Never printed.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
