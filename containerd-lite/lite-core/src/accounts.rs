//! What is asked of a registry as a whole: whether credentials are good, and
//! which repositories it has.

use registry::{Client, Credentials, Hit};

use crate::error::{Because as _, Result};
use crate::remote;

/// Shows `credentials` to the registry `domain`, and returns what should be
/// kept: the refresh token that it gave out in place of a password, else the
/// credentials as they are.
///
/// # Errors
/// Unauthenticated if they are not good; Unavailable.
pub async fn login(client: &Client, domain: &str, credentials: Credentials) -> Result<Credentials> {
    let shown = client.login(domain, credentials).await;
    shown
        .map_err(remote::plain)
        .op(|| format!("log in to {domain}"))
}

/// The registries that have a directory of their own among the client's
/// settings, and whether what it says can be read.
#[must_use]
pub fn configured(client: &Client) -> Vec<(String, Result<()>)> {
    let all = client.configured().into_iter();
    all.map(|(domain, read)| (domain, read.map_err(remote::plain)))
        .collect()
}

/// At most `limit` repositories of the registry `domain` with `term` in their
/// name.
///
/// # Errors
/// Unauthenticated, PermissionDenied, Unavailable: the registry's answer.
pub async fn search(client: &Client, domain: &str, term: &str, limit: usize) -> Result<Vec<Hit>> {
    let found = client.search(domain, term, limit).await;
    found
        .map_err(remote::plain)
        .op(|| format!("search {domain} for {term:?}"))
}
