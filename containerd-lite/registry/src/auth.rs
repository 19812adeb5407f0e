//! What a registry is shown so that it answers: nothing, a password, or a
//! token that the server named in its challenge issued.
//!
//! Source: the registry token specification; RFC 7617 for Basic.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::body::{Body, BodyError};
use crate::challenge::Challenge;
use crate::config::{Config, Credentials};
use crate::endpoint::{Repository, host_of, is_loopback};
use crate::error::Error;
use crate::refusal;
use crate::transport::{Question, Transport};

/// A token that says nothing of its life lives this long, by the token
/// specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token this close to its end is not used any more, so that it does not
/// end on the way.
const MARGIN: Duration = Duration::from_secs(5);
/// Tokens are a few kilobytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// The `Authorization` values that worked, by repository.
#[derive(Debug, Default)]
pub(crate) struct Authorizations {
    by_repository: Mutex<HashMap<String, Authorization>>,
}

#[derive(Debug, Clone)]
struct Authorization {
    value: HeaderValue,
    /// `None`: for ever.
    until: Option<Instant>,
}

impl Authorizations {
    /// What was shown last time, if it is still good.
    pub(crate) fn known(&self, repository: &Repository) -> Option<HeaderValue> {
        let known = self
            .by_repository
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known
            .get(&repository.name)
            .filter(|known| known.until.is_none_or(|until| Instant::now() < until))
            .map(|known| known.value.clone())
    }

    /// Finds an answer to one of `challenges` and remembers it.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        config: &Config,
        repository: &Repository,
        challenges: &[Challenge],
    ) -> Result<HeaderValue, Error> {
        let credentials = config.credentials.get(&repository.domain);
        let offered = |scheme: &str| challenges.iter().find(|offer| offer.scheme == scheme);
        let authorization = match (offered("bearer"), offered("basic"), credentials) {
            (Some(challenge), _, credentials) => {
                token(transport, config, repository, challenge, credentials).await?
            }
            (None, Some(_), Some(credentials)) => Authorization {
                value: basic(credentials, repository)?,
                until: None,
            },
            (None, basic, _) => {
                let detail = match basic {
                    Some(_) => ": it wants a user name and a password",
                    None => "",
                };
                return Err(Error::Unauthorized {
                    repository: repository.name.clone(),
                    host: repository.domain.clone(),
                    detail: detail.to_owned(),
                });
            }
        };
        let value = authorization.value.clone();
        let mut known = self
            .by_repository
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(repository.name.clone(), authorization);
        Ok(value)
    }
}

fn basic(credentials: &Credentials, repository: &Repository) -> Result<HeaderValue, Error> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    secret(
        &format!("Basic {}", BASE64.encode(pair)),
        &repository.domain,
    )
}

/// A header value that is never printed.
fn secret(text: &str, host: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Protocol {
        host: host.to_owned(),
        subject: "a token".to_owned(),
        what: "the token has characters that no header can carry".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A token server's answer; the specification allows either name.
#[derive(Deserialize)]
struct TokenDocument {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

async fn token(
    transport: &Transport,
    config: &Config,
    repository: &Repository,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
) -> Result<Authorization, Error> {
    let subject = "a token".to_owned();
    let url = token_url(repository, challenge)?;
    let host = host_of(&url);
    let nonsense = |what: &str| Error::Protocol {
        host: host.clone(),
        subject: "a token".to_owned(),
        what: what.to_owned(),
    };
    let authorization = credentials
        .map(|given| basic(given, repository))
        .transpose()?;
    let question = Question::get(url, subject.clone(), "application/json");
    let asked_at = Instant::now();
    let response = transport.ask(&question, authorization.as_ref()).await?;
    if !response.status().is_success() {
        return Err(
            refusal::error(response, &repository.name, &subject, config.idle_timeout).await,
        );
    }
    let body = Body::new(response, config.idle_timeout).collect(MAX_TOKEN_BYTES);
    let bytes = match tokio::time::timeout(config.document_timeout, body).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => {
            return Err(Error::TooLarge {
                subject,
                host,
                limit: MAX_TOKEN_BYTES,
            });
        }
        Ok(Err(BodyError::Cut(source))) => return Err(Error::Unreachable { host, source }),
        Ok(Err(BodyError::Stalled)) => {
            return Err(Error::Stalled {
                host,
                subject,
                waited: config.idle_timeout,
            });
        }
        Err(_elapsed) => {
            return Err(Error::Stalled {
                host,
                subject,
                waited: config.document_timeout,
            });
        }
    };
    let document: TokenDocument = serde_json::from_slice(&bytes)
        .map_err(|_| nonsense("it is not the JSON document of a token"))?;
    let token = document
        .token
        .or(document.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| nonsense("it has no token in it"))?;
    let life = document
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs);
    Ok(Authorization {
        value: secret(&format!("Bearer {token}"), &host)?,
        until: asked_at.checked_add(life.saturating_sub(MARGIN)),
    })
}

/// Where to ask for a token, and for what: the scopes of the challenge, and
/// at least to pull from `repository`.
fn token_url(repository: &Repository, challenge: &Challenge) -> Result<Url, Error> {
    let nonsense = |what: &str| Error::Protocol {
        host: repository.domain.clone(),
        subject: "a challenge".to_owned(),
        what: what.to_owned(),
    };
    let realm = challenge
        .params
        .get("realm")
        .ok_or_else(|| nonsense("it has no realm"))?;
    let mut url = Url::parse(realm).map_err(|_| nonsense("its realm is no URL"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) || repository.is_plain() => {}
        "http" => {
            return Err(Error::PlainHttp {
                host: host_of(&url),
            });
        }
        _ => return Err(nonsense("its realm is no address of a web server")),
    }
    let wanted = challenge.params.get("scope").map_or("", String::as_str);
    let own = repository.pull_scope();
    let own_is_missing = !wanted
        .split(' ')
        .any(|scope| allows_pull(scope, &repository.path));
    let mut query = url.query_pairs_mut();
    if let Some(service) = challenge.params.get("service") {
        query.append_pair("service", service);
    }
    for scope in wanted.split(' ').filter(|scope| !scope.is_empty()) {
        query.append_pair("scope", scope);
    }
    if own_is_missing {
        query.append_pair("scope", &own);
    }
    drop(query);
    Ok(url)
}

fn allows_pull(scope: &str, path: &str) -> bool {
    scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.strip_prefix(path))
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|actions| actions.split(',').any(|action| action == "pull"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::challenge;
    use crate::reference::Reference;

    fn url_for(reference: &str, header: &str) -> Result<String, Error> {
        let reference = Reference::parse(reference).expect("reference");
        let repository = Repository::of(&reference, &BTreeSet::new()).expect("repository");
        let challenge = challenge::parse(header).remove(0);
        token_url(&repository, &challenge).map(String::from)
    }

    #[test]
    fn the_token_is_asked_for_what_the_challenge_names_and_at_least_to_pull() {
        assert_eq!(
            url_for(
                "a/b",
                r#"Bearer realm="https://auth.example/t?x=1",service="s""#
            )
            .expect("url"),
            "https://auth.example/t?x=1&service=s&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(
            url_for(
                "a/b",
                r#"Bearer realm="https://auth.example/t",scope="repository:a/b:push,pull""#
            )
            .expect("url"),
            "https://auth.example/t?scope=repository%3Aa%2Fb%3Apush%2Cpull"
        );
    }

    #[test]
    fn a_tls_registry_cannot_send_the_password_to_a_plain_token_server() {
        let err = url_for("a/b", r#"Bearer realm="http://auth.example/t""#).expect_err("plain");
        assert!(matches!(err, Error::PlainHttp { host } if host == "auth.example"));
        assert!(url_for("a/b", r#"Bearer realm="file:///etc/passwd""#).is_err());
        assert!(url_for("a/b", "Bearer service=x").is_err());
    }
}
