//! What a [`Client`](crate::Client) is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::retry::RetryPolicy;

/// Settings of a client; the default suits the public registries.
#[derive(Debug, Clone)]
pub struct Config {
    /// By the domain of references: `docker.io`, `localhost:5000`.
    pub credentials: BTreeMap<String, Credentials>,
    /// Domains that are reached without TLS although they are not loopback.
    pub plain_http: BTreeSet<String>,
    /// Directories like `/etc/containerd/certs.d`, which hold a directory with
    /// `hosts.toml` or certificates by registry; the first that knows it counts.
    pub hosts_dirs: Vec<PathBuf>,
    /// Blobs are uploaded in chunks of this size; `None`: each in one piece.
    pub chunk_bytes: Option<u64>,
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
            hosts_dirs: Vec::new(),
            chunk_bytes: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(60),
            // What registries themselves accept, by the distribution-spec.
            max_manifest_bytes: 4 << 20,
            retry: RetryPolicy::default(),
        }
    }
}

/// What proves to a registry who is asking.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password or access token.
    Password {
        /// The user.
        username: String,
        /// Never printed.
        password: String,
    },
    /// A refresh token, as a login gives it out in place of the password.
    Identity {
        /// Never printed.
        token: String,
    },
    /// A token for the registry itself, shown as it is.
    Bearer {
        /// Never printed.
        token: String,
    },
}

impl Credentials {
    /// A user name and a password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password {
            username: username.into(),
            password: password.into(),
        }
    }

    /// Reads `name:password` in base64, as configurations have it in `auth`.
    #[must_use]
    pub fn from_auth(auth: &str) -> Option<Self> {
        let pair = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
        let (username, password) = pair.split_once(':')?;
        Some(Self::password(username, password.trim_end_matches('\0')))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => f
                .debug_struct("Password")
                .field("username", username)
                .finish_non_exhaustive(),
            Self::Identity { .. } => f.write_str("Identity { .. }"),
            Self::Bearer { .. } => f.write_str("Bearer { .. }"),
        }
    }
}
