//! The tags of a repository, page by page.

use reqwest::Url;
use reqwest::header::LINK;
use serde::Deserialize;

use crate::client::Client;
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::reference::Reference;
use crate::transport::Question;

/// A page of a thousand tags, each of the greatest length, fits.
const MAX_PAGE_BYTES: u64 = 1 << 20;
/// What is asked for at a time.
const PAGE: &str = "1000";
/// A registry that has more pages than this goes round in circles.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of the repository of `reference`, in the registry's order.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        let repositories = self.repositories_where(reference, |host| host.can_resolve)?;
        let mut last = None;
        for repository in &repositories {
            match self.tags_on(repository).await {
                Err(err) if repository.has_next => last = Some(err),
                told => return told,
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound {
            subject: format!("tags of {}", reference.name()),
            host: reference.domain().to_owned(),
        }))
    }

    async fn tags_on(&self, repository: &Repository) -> Result<Vec<String>, Error> {
        let subject = format!("tags of {}", repository.name);
        let mut url = repository.below(&format!("{}/tags/list", repository.path));
        url.query_pairs_mut().append_pair("n", PAGE);
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let question = Question::get(url.clone(), subject.clone(), "application/json");
            let response = self.ask(repository, &question).await?;
            let host = host_of(response.url());
            let next = response
                .headers()
                .get(LINK)
                .and_then(|link| link.to_str().ok())
                .and_then(next_page)
                .and_then(|target| url.join(target).ok())
                .filter(|target: &Url| repository.owns(target));
            let bytes = self.document(response, &subject, MAX_PAGE_BYTES).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|err| Error::Protocol {
                host,
                subject: subject.clone(),
                what: err.to_string(),
            })?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => url = next,
                None => return Ok(all),
            }
        }
        Err(Error::Protocol {
            host: repository.domain.clone(),
            subject,
            what: format!("more than {MAX_PAGES} pages"),
        })
    }
}

/// `/v2/…` of `</v2/…>; rel="next"`.
pub(crate) fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_page("</v2/a?last=x>; rel=\"next\""),
            Some("/v2/a?last=x")
        );
        assert_eq!(next_page("</v2/a>; rel=\"prev\""), None);
        assert_eq!(next_page("next"), None);
    }
}
