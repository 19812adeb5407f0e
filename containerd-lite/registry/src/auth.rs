//! What a registry is shown so that it answers: nothing, a password, or a
//! token that the server named in its challenge issued.
//!
//! Source: the registry token specification; RFC 7617 for Basic.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::client::read_document;
use crate::config::{Config, Credentials};
use crate::endpoint::{Repository, host_of, is_loopback};
use crate::error::Error;
use crate::payload::Payload;
use crate::refusal;
use crate::transport::Question;

/// A token that says nothing of its life lives this long, by the token
/// specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token this close to its end is not used any more, so that it does not
/// end on the way.
const MARGIN: Duration = Duration::from_secs(5);
/// Tokens are a few kilobytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Who asks, as the token specification wants to know.
const CLIENT_ID: &str = "containerd-lite";

/// The `Authorization` values that worked, by repository and what is done there.
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
            .get(&repository.authorization_key())
            .filter(|known| known.until.is_none_or(|until| Instant::now() < until))
            .map(|known| known.value.clone())
    }

    /// Finds an answer to one of `challenges` and remembers it.
    pub(crate) async fn answer(
        &self,
        config: &Config,
        repository: &Repository,
        challenges: &[Challenge],
    ) -> Result<HeaderValue, Error> {
        let credentials = config.credentials.get(&repository.domain);
        let offered = |scheme: &str| challenges.iter().find(|offer| offer.scheme == scheme);
        let authorization = match (offered("bearer"), offered("basic"), credentials) {
            (Some(_), _, Some(Credentials::Bearer { token })) => Authorization {
                value: secret(&format!("Bearer {token}"), &repository.domain)?,
                until: None,
            },
            (Some(challenge), ..) => token(config, repository, challenge, credentials)
                .await
                .map(|issued| issued.authorization)?,
            (None, Some(_), Some(Credentials::Password { username, password })) => Authorization {
                value: basic(username, password, repository)?,
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
        known.insert(repository.authorization_key(), authorization);
        Ok(value)
    }
}

fn basic(user: &str, password: &str, repository: &Repository) -> Result<HeaderValue, Error> {
    let pair = format!("{user}:{password}");
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
    #[serde(default)]
    refresh_token: Option<String>,
}

/// What a token server gave out.
pub(crate) struct Issued {
    authorization: Authorization,
    /// In place of the password from now on, where the server offers it.
    pub(crate) refresh_token: Option<String>,
}

/// Asks the token server of `challenge`: with a password by GET, as all of them
/// know it, with a refresh token by the POST of OAuth 2.
pub(crate) async fn token(
    config: &Config,
    repository: &Repository,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
) -> Result<Issued, Error> {
    let subject = "a token".to_owned();
    let url = token_url(repository, challenge)?;
    let host = host_of(&url);
    let (question, authorization) = match credentials {
        Some(Credentials::Identity { token }) => (refresh(&url, subject.clone(), token), None),
        Some(Credentials::Password { username, password }) => {
            let mut url = url;
            url.query_pairs_mut()
                .append_pair("account", username)
                .append_pair("client_id", CLIENT_ID)
                .append_pair("offline_token", "true");
            let value = basic(username, password, repository)?;
            let question = Question::get(url, subject.clone(), "application/json");
            (question, Some(value))
        }
        Some(Credentials::Bearer { .. }) | None => (
            Question::get(url, subject.clone(), "application/json"),
            None,
        ),
    };
    let asked_at = Instant::now();
    let transport = &repository.transport;
    let response = transport.ask(&question, authorization.as_ref()).await?;
    if !response.status().is_success() {
        let patience = config.idle_timeout;
        return Err(refusal::error(response, &repository.name, &subject, patience).await);
    }
    let bytes = read_document(config, response, &subject, MAX_TOKEN_BYTES).await?;
    issued(&bytes, &host, asked_at)
}

/// The same question as an OAuth 2 form with a refresh token.
fn refresh(url: &Url, subject: String, token: &str) -> Question {
    let mut form = url.clone();
    {
        let mut pairs = form.query_pairs_mut();
        pairs.clear();
        let scopes: Vec<_> = url
            .query_pairs()
            .filter(|(key, _)| key == "scope")
            .map(|(_, scope)| scope.into_owned())
            .collect();
        for (key, value) in url.query_pairs().filter(|(key, _)| key != "scope") {
            pairs.append_pair(&key, &value);
        }
        pairs
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token);
    }
    let body = form.query().unwrap_or_default().to_owned();
    let mut to = url.clone();
    to.set_query(None);
    let mut question = Question::send(Method::POST, to, subject, Payload::Bytes(body.into()));
    question.content_type = "application/x-www-form-urlencoded";
    question.accept = "application/json";
    question
}

fn issued(bytes: &[u8], host: &str, asked_at: Instant) -> Result<Issued, Error> {
    let nonsense = |what: &str| Error::Protocol {
        host: host.to_owned(),
        subject: "a token".to_owned(),
        what: what.to_owned(),
    };
    let document: TokenDocument = serde_json::from_slice(bytes)
        .map_err(|_| nonsense("it is not the JSON document of a token"))?;
    let token = document
        .token
        .or(document.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| nonsense("it has no token in it"))?;
    let life = document
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs);
    Ok(Issued {
        authorization: Authorization {
            value: secret(&format!("Bearer {token}"), host)?,
            until: asked_at.checked_add(life.saturating_sub(MARGIN)),
        },
        refresh_token: document.refresh_token.filter(|token| !token.is_empty()),
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
    let wanted: Vec<&str> = wanted
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .collect();
    let missing: Vec<&String> = repository
        .scopes
        .iter()
        .filter(|own| !wanted.iter().any(|scope| includes(scope, own)))
        .collect();
    let mut query = url.query_pairs_mut();
    if let Some(service) = challenge.params.get("service") {
        query.append_pair("service", service);
    }
    for scope in wanted {
        query.append_pair("scope", scope);
    }
    for scope in missing {
        query.append_pair("scope", scope);
    }
    drop(query);
    Ok(url)
}

/// Whether `scope` allows all that `own` does.
fn includes(scope: &str, own: &str) -> bool {
    let (Some((subject, allowed)), Some((own_subject, needed))) =
        (scope.rsplit_once(':'), own.rsplit_once(':'))
    else {
        return false;
    };
    subject == own_subject
        && needed
            .split(',')
            .all(|action| allowed.split(',').any(|has| has == action || has == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge;
    use crate::client::Client;
    use crate::reference::Reference;

    fn url_for(reference: &str, header: &str) -> Result<String, Error> {
        let reference = Reference::parse(reference).expect("reference");
        let client = Client::new(Config::default()).expect("client");
        let repository = client
            .repositories_where(&reference, |_| true)
            .expect("hosts")
            .remove(0);
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
