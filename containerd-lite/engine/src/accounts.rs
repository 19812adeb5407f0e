//! Registries as a whole: whose name a call is made in, logins, searches.

use std::collections::BTreeMap;

use lite_core::{Credentials, Hit, Kind, Reference, RegistryClient, Result, accounts};

use crate::engine::Engine;
use crate::list_filter::Filter;

/// As Docker's.
const DEFAULT_LIMIT: usize = 25;
/// As many as Docker Hub gives out at a time.
const LARGEST_LIMIT: usize = 100;

/// The daemon's registry client for one call, in the name of whoever makes it.
pub(crate) fn client(
    engine: &Engine,
    domain: &str,
    credentials: Option<Credentials>,
) -> RegistryClient {
    match credentials {
        None => engine.core().registry.clone(),
        Some(credentials) => {
            let all = BTreeMap::from([(domain.to_owned(), credentials)]);
            engine.core().registry.with_credentials(all)
        }
    }
}

/// The registry that a login's server means: `https://index.docker.io/v1/`,
/// `docker.io` and nothing at all are Docker Hub.
///
/// # Errors
/// InvalidArgument for what is no registry's name.
pub fn domain(server: &str) -> Result<String> {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            return Ok("docker.io".to_owned());
        }
        _ => {}
    }
    let reference = Reference::parse(&format!("{host}/any")).ok();
    match reference {
        Some(reference) if reference.domain() == host => Ok(host.to_owned()),
        _ => Err(Kind::InvalidArgument.error(format!(
            "{server:?} is not the name of a registry: expected a host name with a dot or a port, such as registry.example:5000"
        ))),
    }
}

/// Shows `credentials` to a registry; returns what to keep.
///
/// # Errors
/// InvalidArgument; Unauthenticated if they are not good; Unavailable.
pub async fn login(engine: &Engine, domain: &str, credentials: Credentials) -> Result<Credentials> {
    accounts::login(&engine.core().registry, domain, credentials).await
}

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `[registry/]term`, as typed.
    pub term: String,
    /// At most so many; zero for Docker's default.
    pub limit: usize,
    /// `stars=3`, `is-official=true`.
    pub filters: Vec<String>,
    /// Whoever searches.
    pub credentials: Option<Credentials>,
}

/// Searches a registry for repositories.
///
/// # Errors
/// InvalidArgument; the registry's answer.
pub async fn search(engine: &Engine, search: Search) -> Result<Vec<Hit>> {
    let filter = Filter::parse(&search.filters, &["is-automated", "is-official", "stars"])?;
    let official = filter.switch("is-official")?;
    let automated = filter.switch("is-automated")?;
    let stars = match filter.values("stars").last() {
        None => 0,
        Some(text) => text.parse::<i64>().map_err(|_| {
            Kind::InvalidArgument.error(format!("invalid filter 'stars={text}': expected a number"))
        })?,
    };
    let limit = match search.limit {
        0 => DEFAULT_LIMIT,
        limit if limit <= LARGEST_LIMIT => limit,
        limit => {
            return Err(Kind::InvalidArgument.error(format!(
                "limit {limit} is outside the range of [1, {LARGEST_LIMIT}]"
            )));
        }
    };
    let (domain, term) = match search.term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => {
            (domain(host)?, term)
        }
        _ => (domain("")?, search.term.as_str()),
    };
    let client = client(engine, &domain, search.credentials);
    let mut hits = accounts::search(&client, &domain, term, limit).await?;
    hits.retain(|hit| {
        hit.stars >= stars
            && official.is_none_or(|wanted| wanted == hit.official)
            // Nothing is built so any more.
            && automated != Some(true)
    });
    if domain != "docker.io" {
        for hit in &mut hits {
            hit.name = format!("{domain}/{}", hit.name);
        }
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_written_as_an_address() {
        for (typed, want) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("r.example:5000", "r.example:5000"),
            ("https://r.example/v2/", "r.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(domain(typed).unwrap(), want, "{typed}");
        }
        for bad in ["nodots", "under_score..", "spa ce"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}
