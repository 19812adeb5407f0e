//! One request and its redirects, with a limit on every wait.
//!
//! Redirects are followed here rather than by the HTTP client, because two
//! rules depend on them: the `Authorization` of a registry is shown to that
//! registry alone, and an exchange that began with TLS never leaves it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::{Client as HttpClient, Method, Response, Url};

use crate::config::Config;
use crate::endpoint::{host_of, is_loopback};
use crate::error::{Error, TransportError};

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
}

impl Question {
    pub(crate) fn get(url: Url, subject: String, accept: &'static str) -> Self {
        Self {
            method: Method::GET,
            url,
            subject,
            accept,
            from: 0,
        }
    }
}

impl Transport {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let (tls, has_roots) = tls()?;
        let builder = || {
            HttpClient::builder()
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
        let mut request = http
            .request(question.method.clone(), url.clone())
            .header(ACCEPT, question.accept)
            // Digests are of the bytes as stored.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if question.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", question.from));
        }
        match tokio::time::timeout(self.idle_timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(err)) => Err(Error::Unreachable {
                host: host_of(url),
                source: err.into(),
            }),
            Err(_elapsed) => Err(Error::Stalled {
                host: host_of(url),
                subject: question.subject.clone(),
                waited: self.idle_timeout,
            }),
        }
    }
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

/// TLS with ring, and the certificates that this machine trusts, so that a
/// private registry's authority needs to be made known in one place only.
/// A machine without any can still reach loopback registries.
fn tls() -> Result<(rustls::ClientConfig, bool), Error> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _unreadable) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Setup(TransportError::new(&err)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Our own configuration replaces the HTTP client's, this offer included.
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((tls, added > 0))
}
