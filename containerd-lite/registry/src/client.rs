//! The client: questions with authorization and retries around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Response, StatusCode};

use crate::auth::Authorizations;
use crate::body::{Body, BodyError};
use crate::challenge::{self, Challenge};
use crate::config::{Config, Credentials};
use crate::endpoint::{Repository, host_of};
use crate::error::Error;
use crate::hosts::{Host, Hosts};
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
    transports: Arc<Transports>,
    authorizations: Authorizations,
}

/// One for every way to reach a server, made when it is first needed.
#[derive(Debug, Default)]
struct Transports(Mutex<BTreeMap<TransportKey, Arc<Transport>>>);

type TransportKey = (crate::hosts::TlsSettings, Vec<(String, String)>);

impl Transports {
    fn to(&self, config: &Config, host: &Host) -> Result<Arc<Transport>, Error> {
        let key = (host.tls.clone(), host.headers.clone());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = known.get(&key) {
            return Ok(transport.clone());
        }
        let made = Arc::new(Transport::new(config, host)?);
        known.insert(key, made.clone());
        Ok(made)
    }
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self::sharing(config, Arc::default()))
    }

    /// A client for somebody else: the same settings and connections, other
    /// credentials, and none of the tokens.
    #[must_use]
    pub fn with_credentials(&self, credentials: BTreeMap<String, Credentials>) -> Self {
        let config = Config {
            credentials,
            ..self.inner.config.clone()
        };
        Self::sharing(config, self.inner.transports.clone())
    }

    fn sharing(config: Config, transports: Arc<Transports>) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                transports,
                authorizations: Authorizations::default(),
            }),
        }
    }

    /// The registries that have a directory of their own among
    /// [`Config::hosts_dirs`], and whether what it says can be read.
    #[must_use]
    pub fn configured(&self) -> Vec<(String, Result<(), Error>)> {
        let config = self.config();
        let mut domains: Vec<String> = Vec::new();
        for dir in &config.hosts_dirs {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                domains.extend(entry.file_name().into_string());
            }
        }
        domains.sort();
        domains.dedup();
        let read = |domain: &str| {
            let hosts = Hosts {
                dirs: &config.hosts_dirs,
                plain_http: config.plain_http.contains(domain),
            };
            hosts.of(domain).map(drop)
        };
        domains
            .into_iter()
            .map(|domain| {
                let outcome = read(&domain);
                (domain, outcome)
            })
            .collect()
    }

    /// The way to this server.
    pub(crate) fn transport(&self, host: &Host) -> Result<Arc<Transport>, Error> {
        self.inner.transports.to(self.config(), host)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The repository of `reference` on every server that has it and `fits`, in
    /// the order to ask them; at least one.
    pub(crate) fn repositories_where(
        &self,
        reference: &Reference,
        fits: impl Fn(&Host) -> bool,
    ) -> Result<Vec<Repository>, Error> {
        let config = self.config();
        let domain = reference.domain();
        let hosts = Hosts {
            dirs: &config.hosts_dirs,
            plain_http: config.plain_http.contains(domain),
        };
        let mut hosts = hosts.of(domain)?;
        hosts.retain(fits);
        let count = hosts.len();
        if count == 0 {
            return Err(Error::Refused {
                host: domain.to_owned(),
                subject: reference.name().to_owned(),
                status: "no server is configured for it".to_owned(),
                detail: String::new(),
            });
        }
        hosts
            .into_iter()
            .enumerate()
            .map(|(at, host)| {
                let transport = self.inner.transports.to(config, &host)?;
                let has_next = at + 1 < count;
                Ok(Repository::on(
                    reference,
                    Arc::new(host),
                    transport,
                    has_next,
                ))
            })
            .collect()
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
            match self.ask_once(repository, question).await {
                Ok(response) => return Ok(response),
                // The next server is quicker than a pause.
                Err(err) if repository.has_next => return Err(err),
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
    pub(crate) async fn ask_once(
        &self,
        repository: &Repository,
        question: &Question,
    ) -> Result<Response, Error> {
        let Inner {
            config,
            authorizations,
            ..
        } = &*self.inner;
        let transport = &repository.transport;
        // An upload may have been sent to a storage server, which must not
        // learn anything.
        let own = repository.owns(&question.url);
        let known = authorizations.known(repository).filter(|_| own);
        let mut response = transport.ask(question, known.as_ref()).await?;
        // One that a registry redirected to may want authorization as well.
        if response.status() == StatusCode::UNAUTHORIZED && own && repository.owns(response.url()) {
            let challenges = challenges(&response);
            if !challenges.is_empty() {
                let fresh = authorizations
                    .answer(config, repository, &challenges)
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

    /// All of a small body.
    pub(crate) async fn document(
        &self,
        response: Response,
        subject: &str,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let config = self.config();
        read_document(config, response, subject, limit).await
    }
}

/// All of the body of `response`, which may have `limit` bytes.
pub(crate) async fn read_document(
    config: &Config,
    response: Response,
    subject: &str,
    limit: u64,
) -> Result<Bytes, Error> {
    let (host, subject) = (host_of(response.url()), subject.to_owned());
    let body = Body::new(response, config.idle_timeout).collect(limit);
    match tokio::time::timeout(config.document_timeout, body).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(Error::TooLarge {
            subject,
            host,
            limit,
        }),
        Ok(Err(BodyError::Cut(source))) => Err(Error::Cut {
            host,
            subject,
            received: 0,
            source: Some(source),
        }),
        Ok(Err(BodyError::Stalled)) => Err(Error::Stalled {
            host,
            subject,
            waited: config.idle_timeout,
        }),
        Err(_elapsed) => Err(Error::Stalled {
            host,
            subject,
            waited: config.document_timeout,
        }),
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
