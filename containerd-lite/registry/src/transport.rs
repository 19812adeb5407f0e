//! One request and its redirects, with a limit on every wait.
//!
//! Redirects are followed here rather than by the HTTP client, because two
//! rules depend on them: the `Authorization` of a registry is shown to that
//! registry alone, and an exchange that began with TLS never leaves it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RANGE,
};
use reqwest::{Client as HttpClient, Method, RequestBuilder, Response, Url};

use crate::config::Config;
use crate::endpoint::{host_of, is_loopback};
use crate::error::Error;
use crate::hosts::Host;
use crate::payload::Payload;
use crate::tls;

/// Registries redirect once, to their storage; more is a loop.
const MAX_REDIRECTS: usize = 5;

/// The HTTP side of a client.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Through the proxy that the environment names, if any.
    proxied: HttpClient,
    /// For loopback, which no proxy can reach.
    direct: HttpClient,
    idle_timeout: Duration,
    document_timeout: Duration,
    has_roots: bool,
}

/// One question to a server.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// For messages: `blob sha256:…`.
    pub(crate) subject: String,
    pub(crate) accept: &'static str,
    /// Ask for the bytes from this offset on.
    pub(crate) from: u64,
    /// And up to this one, which is not among them; `None`: to the end.
    pub(crate) until: Option<u64>,
    /// What is sent along, and its media type.
    pub(crate) payload: Payload,
    pub(crate) content_type: &'static str,
    /// In place of `content_type`, when only the caller knows it.
    pub(crate) media_type: Option<String>,
}

impl Question {
    pub(crate) fn get(url: Url, subject: String, accept: &'static str) -> Self {
        Self {
            method: Method::GET,
            url,
            subject,
            accept,
            from: 0,
            until: None,
            payload: Payload::None,
            content_type: "",
            media_type: None,
        }
    }

    /// A question that changes something.
    pub(crate) fn send(method: Method, url: Url, subject: String, payload: Payload) -> Self {
        Self {
            method,
            payload,
            content_type: "application/octet-stream",
            ..Self::get(url, subject, "*/*")
        }
    }

    /// How far its payload has come, if that can be told.
    fn position(&self) -> Option<u64> {
        match &self.payload {
            Payload::Part(part) => Some(part.position.load(Ordering::Relaxed)),
            _ => None,
        }
    }

    fn fill(&self, mut request: RequestBuilder) -> RequestBuilder {
        request = request
            .header(ACCEPT, self.accept)
            // Digests are of the bytes as stored.
            .header(ACCEPT_ENCODING, "identity");
        match self.until {
            Some(until) => {
                let last = until.saturating_sub(1);
                request = request.header(RANGE, format!("bytes={}-{last}", self.from));
            }
            None if self.from > 0 => {
                request = request.header(RANGE, format!("bytes={}-", self.from));
            }
            None => {}
        }
        if let Payload::Part(part) = &self.payload
            && self.method == Method::PATCH
        {
            let last = (part.offset + part.len).saturating_sub(1);
            request = request.header(CONTENT_RANGE, format!("{}-{last}", part.offset));
        }
        match self.payload.clone().into_body() {
            Some(body) => {
                let media_type = self.media_type.as_deref().unwrap_or(self.content_type);
                request.header(CONTENT_TYPE, media_type).body(body)
            }
            None if matches!(self.method, Method::POST | Method::PUT) => {
                request.header("content-length", "0")
            }
            None => request,
        }
    }
}

impl Transport {
    pub(crate) fn new(config: &Config, host: &Host) -> Result<Self, Error> {
        let (tls, has_roots) = tls::configure(&host.tls)?;
        let headers = headers(host)?;
        let builder = || {
            HttpClient::builder()
                .default_headers(headers.clone())
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(config.connect_timeout)
                .user_agent(concat!("containerd-lite/", env!("CARGO_PKG_VERSION")))
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|err| Error::Setup(err.into()))
        };
        Ok(Self {
            proxied: build(builder())?,
            direct: build(builder().no_proxy())?,
            idle_timeout: config.idle_timeout,
            document_timeout: config.document_timeout,
            has_roots,
        })
    }

    /// Asks, and follows redirects. Any final answer is returned, whatever
    /// its status. `authorization` goes to the origin of the question only.
    pub(crate) async fn ask(
        &self,
        question: &Question,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        let mut url = question.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = url.origin() == question.url.origin();
            let response = self
                .ask_once(question, &url, authorization.filter(|_| own))
                .await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            url = redirect_target(question, &url, &response)?;
        }
        Err(Error::Protocol {
            host: host_of(&question.url),
            subject: question.subject.clone(),
            what: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    async fn ask_once(
        &self,
        question: &Question,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        if url.scheme() == "https" && !self.has_roots {
            return Err(Error::NoRoots { host: host_of(url) });
        }
        let http = if is_loopback(url) {
            &self.direct
        } else {
            &self.proxied
        };
        let mut request = question.fill(http.request(question.method.clone(), url.clone()));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.patiently(question, url, request).await
    }

    /// Waits for the answer's head as long as the payload moves on, and a while
    /// after all of it has gone: the registry verifies it then.
    async fn patiently(
        &self,
        question: &Question,
        url: &Url,
        request: RequestBuilder,
    ) -> Result<Response, Error> {
        let answer = request.send();
        tokio::pin!(answer);
        let mut position = question.position();
        let mut waited = Duration::ZERO;
        loop {
            let step = self.idle_timeout;
            match tokio::time::timeout(step, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(err)) => {
                    return Err(Error::Unreachable {
                        host: host_of(url),
                        source: err.into(),
                    });
                }
                Err(_elapsed) => {}
            }
            let now = question.position();
            waited = if now == position {
                waited + step
            } else {
                Duration::ZERO
            };
            position = now;
            let patience = match &question.payload {
                Payload::Part(part) if now == Some(part.offset + part.len) => {
                    self.document_timeout.max(step)
                }
                _ => step,
            };
            if waited >= patience {
                return Err(Error::Stalled {
                    host: host_of(url),
                    subject: question.subject.clone(),
                    waited,
                });
            }
        }
    }
}

/// The headers that a file wants to be sent to `host`.
fn headers(host: &Host) -> Result<HeaderMap, Error> {
    let mut map = HeaderMap::new();
    for (name, value) in &host.headers {
        let nonsense = || Error::Protocol {
            host: host_of(&host.base),
            subject: "its configuration".to_owned(),
            what: format!("header {name:?} cannot be sent"),
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| nonsense())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| nonsense())?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

fn redirect_target(question: &Question, from: &Url, response: &Response) -> Result<Url, Error> {
    let nonsense = |what: &str| Error::Protocol {
        host: host_of(from),
        subject: question.subject.clone(),
        what: what.to_owned(),
    };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| nonsense("a redirect without a location"))?;
    let target = from
        .join(location)
        .map_err(|_| nonsense("a redirect to something that is no URL"))?;
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(target),
        ("https", "http") => Err(Error::PlainHttp {
            host: host_of(&target),
        }),
        _ => Err(nonsense("a redirect to another protocol")),
    }
}
