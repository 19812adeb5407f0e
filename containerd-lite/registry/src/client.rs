//! The client: questions with authorization and retries around them.

use std::sync::Arc;

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Response, StatusCode};

use crate::auth::Authorizations;
use crate::challenge::{self, Challenge};
use crate::config::Config;
use crate::endpoint::Repository;
use crate::error::Error;
use crate::reference::Reference;
use crate::refusal;
use crate::transport::{Question, Transport};

/// Talks to registries. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    transport: Transport,
    authorizations: Authorizations,
}

impl Client {
    /// Reads the machine's CA certificates; connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let transport = Transport::new(&config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                transport,
                authorizations: Authorizations::default(),
            }),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn repository(&self, reference: &Reference) -> Result<Repository, Error> {
        Repository::of(reference, &self.inner.config.plain_http)
    }

    /// Asks until there is an answer that is a success, or the error is not
    /// transient, or the attempts are used up.
    pub(crate) async fn ask(
        &self,
        repository: &Repository,
        question: &Question,
    ) -> Result<Response, Error> {
        let mut failed = 0;
        loop {
            match self.ask_authorized(repository, question).await {
                Ok(response) => return Ok(response),
                Err(err) => self.pause_or_give_up(&mut failed, err).await?,
            }
        }
    }

    /// Counts a failure and waits as the policy says.
    ///
    /// # Errors
    /// `err` when there is to be no further attempt.
    pub(crate) async fn pause_or_give_up(&self, failed: &mut u32, err: Error) -> Result<(), Error> {
        *failed += 1;
        let pause = self.inner.config.retry.pause(*failed, err.retry_after());
        let Some(pause) = pause.filter(|_| err.is_transient()) else {
            return Err(err);
        };
        tracing::debug!(attempt = *failed, ?pause, error = %err, "registry request will be repeated");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks once, or twice if the registry wants authorization first.
    async fn ask_authorized(
        &self,
        repository: &Repository,
        question: &Question,
    ) -> Result<Response, Error> {
        let Inner {
            config,
            transport,
            authorizations,
        } = &*self.inner;
        let known = authorizations.known(repository);
        let mut response = transport.ask(question, known.as_ref()).await?;
        // A storage server that a registry redirected to may say the same,
        // but it must not learn anything.
        if response.status() == StatusCode::UNAUTHORIZED && repository.owns(response.url()) {
            let challenges = challenges(&response);
            if !challenges.is_empty() {
                let fresh = authorizations
                    .answer(transport, config, repository, &challenges)
                    .await?;
                response = transport.ask(question, Some(&fresh)).await?;
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal::error(
            response,
            &repository.name,
            &question.subject,
            config.idle_timeout,
        )
        .await)
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    response
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect()
}
