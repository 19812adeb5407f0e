//! Whether credentials are good, and what to keep of them.

use reqwest::StatusCode;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::auth;
use crate::challenge::{self, Challenge};
use crate::client::Client;
use crate::config::Credentials;
use crate::endpoint::Repository;
use crate::error::Error;
use crate::reference::Reference;
use crate::transport::Question;

impl Client {
    /// Shows `credentials` to the registry `domain`, and returns what should be
    /// kept: the refresh token that it gave out in place of a password, else
    /// the credentials as they are.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if they are not good, and those of
    /// [`Client::resolve`].
    pub async fn login(
        &self,
        domain: &str,
        credentials: Credentials,
    ) -> Result<Credentials, Error> {
        let nonsense = |err: &dyn std::fmt::Display| Error::Protocol {
            host: domain.to_owned(),
            subject: "its name".to_owned(),
            what: err.to_string(),
        };
        // Any repository leads to the registry.
        let reference =
            Reference::parse(&format!("{domain}/login")).map_err(|err| nonsense(&err))?;
        if reference.domain() != domain {
            return Err(nonsense(&"it is not the name of a registry"));
        }
        let client = self.with_credentials([(domain.to_owned(), credentials.clone())].into());
        let mut found = client.repositories_where(&reference, |host| !host.is_mirror)?;
        let mut repository = found.remove(0);
        repository.scopes.clear();
        let url = repository.below("");
        let question = Question::get(url, "a login".to_owned(), "*/*");
        let response = repository.transport.ask(&question, None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            // It wants nothing from anybody, so there is nothing to be wrong.
            return Ok(credentials);
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let kept = match challenges.iter().find(|offer| offer.scheme == "bearer") {
            Some(challenge) => {
                let issued =
                    auth::token(client.config(), &repository, challenge, Some(&credentials))
                        .await?;
                issued
                    .refresh_token
                    .map_or(credentials, |token| Credentials::Identity { token })
            }
            None => credentials,
        };
        client.accepted(&repository, &question).await?;
        Ok(kept)
    }

    /// Asks with authorization.
    async fn accepted(&self, repository: &Repository, question: &Question) -> Result<(), Error> {
        match self.ask(repository, question).await {
            Ok(_) => Ok(()),
            // Some token servers give out tokens that are good for nothing but
            // a repository: the token itself was the proof.
            Err(Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }
}
