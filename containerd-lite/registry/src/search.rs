//! Images of a registry by a part of their name.
//!
//! Docker Hub answers `/v1/search`, as do a few others; the distribution-spec
//! has only the list of all repositories, which is then looked through here.

use reqwest::Url;
use reqwest::header::LINK;
use serde::Deserialize;

use crate::client::Client;
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::reference::{DEFAULT_DOMAIN, Reference};
use crate::tags::next_page;
use crate::transport::Question;

/// A hundred results with long descriptions fit.
const MAX_BYTES: u64 = 4 << 20;
/// The server of Docker Hub that searches.
const HUB: &str = "https://index.docker.io/v1/search";
/// What is asked for at a time of a registry that cannot search.
const PAGE: &str = "1000";
/// As many pages are looked through.
const MAX_PAGES: usize = 100;

/// One result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Hit {
    /// The repository's name, without the registry's.
    #[serde(default)]
    pub name: String,
    /// What it is, in its owner's words.
    #[serde(default)]
    pub description: String,
    /// How many like it.
    #[serde(default, rename = "star_count")]
    pub stars: i64,
    /// Docker's own.
    #[serde(default, rename = "is_official")]
    pub official: bool,
}

#[derive(Deserialize)]
struct Hits {
    #[serde(default)]
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Client {
    /// At most `limit` repositories of the registry `domain` with `term` in their
    /// name or description.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn search(&self, domain: &str, term: &str, limit: usize) -> Result<Vec<Hit>, Error> {
        // Any repository leads to the registry.
        let any = Reference::parse(&format!("{domain}/search")).map_err(|err| Error::Protocol {
            host: domain.to_owned(),
            subject: "its name".to_owned(),
            what: err.to_string(),
        })?;
        let mut found = self.repositories_where(&any, |host| !host.is_mirror)?;
        let mut repository = found.remove(0);
        repository.scopes.clear();
        repository.has_next = false;
        let mut hits = match self.by_index(&repository, domain, term, limit).await {
            Err(Error::NotFound { .. }) if domain != DEFAULT_DOMAIN => {
                self.by_catalog(&repository, term).await?
            }
            found => found?,
        };
        hits.truncate(limit);
        Ok(hits)
    }

    async fn by_index(
        &self,
        repository: &Repository,
        domain: &str,
        term: &str,
        limit: usize,
    ) -> Result<Vec<Hit>, Error> {
        let mut url = repository.below("");
        if domain == DEFAULT_DOMAIN {
            url = Url::parse(HUB).unwrap_or(url);
        } else {
            url.set_path("/v1/search");
        }
        url.query_pairs_mut()
            .append_pair("q", term)
            .append_pair("n", &limit.to_string());
        let (hits, _): (Hits, _) = self.fetch(repository, url).await?;
        Ok(hits.results)
    }

    async fn by_catalog(&self, repository: &Repository, term: &str) -> Result<Vec<Hit>, Error> {
        let mut repository = repository.clone();
        repository.scopes = vec!["registry:catalog:*".to_owned()];
        let mut url = repository.below("_catalog");
        url.query_pairs_mut().append_pair("n", PAGE);
        let mut hits = Vec::new();
        for _ in 0..MAX_PAGES {
            let (page, next): (Catalog, _) = self.fetch(&repository, url).await?;
            let names = page.repositories.unwrap_or_default().into_iter();
            hits.extend(names.filter(|name| name.contains(term)).map(|name| Hit {
                name,
                ..Hit::default()
            }));
            match next {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(hits)
    }

    async fn fetch<T: serde::de::DeserializeOwned>(
        &self,
        repository: &Repository,
        url: Url,
    ) -> Result<(T, Option<Url>), Error> {
        let subject = "a search".to_owned();
        let question = Question::get(url.clone(), subject.clone(), "application/json");
        let response = self.ask(repository, &question).await?;
        let host = host_of(response.url());
        let next = response
            .headers()
            .get(LINK)
            .and_then(|link| link.to_str().ok())
            .and_then(next_page)
            .and_then(|target| url.join(target).ok())
            .filter(|target| repository.owns(target));
        let bytes = self.document(response, &subject, MAX_BYTES).await?;
        let document = serde_json::from_slice(&bytes).map_err(|err| Error::Protocol {
            host,
            subject,
            what: err.to_string(),
        })?;
        Ok((document, next))
    }
}
