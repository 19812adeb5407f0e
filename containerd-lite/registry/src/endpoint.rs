//! Where a registry is: the URLs behind the domain of a reference.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

use crate::error::Error;
use crate::hosts::Host;
use crate::reference::{DEFAULT_DOMAIN, Reference};
use crate::transport::Transport;

/// The host that serves Docker Hub's images.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A repository on one of the servers that have it, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// As in references, for messages: `docker.io/library/busybox`.
    pub(crate) name: String,
    /// Under which credentials are kept: the domain of the reference, or the
    /// host of a mirror.
    pub(crate) domain: String,
    /// Within the registry: `library/busybox`.
    pub(crate) path: String,
    /// What a token must allow, in the words of the token specification.
    pub(crate) scopes: Vec<String>,
    pub(crate) host: Arc<Host>,
    pub(crate) transport: Arc<Transport>,
    /// Another server can be asked when this one has no answer.
    pub(crate) has_next: bool,
    /// A mirror is told for which registry it stands in.
    namespace: Option<String>,
}

impl Repository {
    /// The repository of `reference` on `host`.
    pub(crate) fn on(
        reference: &Reference,
        host: Arc<Host>,
        transport: Arc<Transport>,
        has_next: bool,
    ) -> Self {
        let domain = reference.domain();
        let path = reference.path().to_owned();
        Self {
            name: reference.name().to_owned(),
            domain: if host.is_mirror {
                host_of(&host.base)
            } else {
                domain.to_owned()
            },
            scopes: vec![format!("repository:{path}:pull")],
            path,
            namespace: host.is_mirror.then(|| domain.to_owned()),
            host,
            transport,
            has_next,
        }
    }

    /// The same, to write to, and to mount blobs of the repositories `from`.
    pub(crate) fn for_push(mut self, from: &[String]) -> Self {
        self.scopes = vec![format!("repository:{}:pull,push", self.path)];
        let others = from.iter().filter(|path| **path != self.path);
        self.scopes
            .extend(others.map(|path| format!("repository:{path}:pull")));
        self
    }

    /// The URL of `kind` (`manifests` or `blobs`) `name` in this repository.
    ///
    /// Repository paths, tags and digests consist of characters that stand
    /// for themselves in a URL, and of no component `..`.
    pub(crate) fn url(&self, kind: &str, name: &str) -> Url {
        self.below(&format!("{}/{kind}/{name}", self.path))
    }

    /// The URL of `path` in the registry's API.
    pub(crate) fn below(&self, path: &str) -> Url {
        let mut url = self.host.base.clone();
        url.set_path(&format!("{}/{path}", self.host.base.path()));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Whether `url` is on the registry itself, so that it may see the
    /// credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.host.base.origin()
    }

    /// Whether the registry is reached without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.host.base.scheme() == "http"
    }

    /// Under which what was shown last time is kept.
    pub(crate) fn authorization_key(&self) -> String {
        format!(
            "{} {}",
            self.host.base.origin().ascii_serialization(),
            self.scopes.join(" ")
        )
    }
}

/// Where the API of `domain` begins: plain HTTP for loopback hosts and when
/// told, TLS for all others.
pub(crate) fn default_base(domain: &str, plain_http: bool) -> Result<Url, Error> {
    let host = if domain == DEFAULT_DOMAIN {
        DOCKER_HUB
    } else {
        domain
    };
    let scheme = if is_loopback_domain(domain) || plain_http {
        "http"
    } else {
        "https"
    };
    Url::parse(&format!("{scheme}://{host}/v2")).map_err(|err| Error::Protocol {
        host: domain.to_owned(),
        subject: "its address".to_owned(),
        what: err.to_string(),
    })
}

/// Host and port of `url`, for messages.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether `url` leads to this machine, going by its text alone.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// The same for the domain of a reference, which may have a port.
fn is_loopback_domain(domain: &str) -> bool {
    let host = match domain.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => domain.split(':').next(),
    };
    host.is_some_and(is_loopback_host)
}

fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::config::Config;

    fn repository(reference: &str) -> Repository {
        let client = Client::new(Config {
            plain_http: ["plain.example:5000".to_owned()].into(),
            ..Config::default()
        })
        .expect("client");
        let reference = Reference::parse(reference).expect("reference");
        client
            .repositories_where(&reference, |_| true)
            .expect("repository")
            .remove(0)
    }

    #[track_caller]
    fn check(reference: &str, url: &str) {
        let parsed = Reference::parse(reference).expect("reference");
        let tag = parsed.tag().expect("tag");
        assert_eq!(repository(reference).url("manifests", tag).as_str(), url);
    }

    #[test]
    fn loopback_and_told_hosts_are_plain_and_all_others_tls() {
        check(
            "busybox",
            "https://registry-1.docker.io/v2/library/busybox/manifests/latest",
        );
        check(
            "localhost:5000/a/b:c",
            "http://localhost:5000/v2/a/b/manifests/c",
        );
        check("127.9.8.7/a:c", "http://127.9.8.7/v2/a/manifests/c");
        check("[::1]:5000/a:c", "http://[::1]:5000/v2/a/manifests/c");
        check(
            "plain.example:5000/a:c",
            "http://plain.example:5000/v2/a/manifests/c",
        );
        check(
            "plain.example/a:c",
            "https://plain.example/v2/a/manifests/c",
        );
        check(
            "192.168.0.1:5000/a:c",
            "https://192.168.0.1:5000/v2/a/manifests/c",
        );
        check(
            "localhost.example/a:c",
            "https://localhost.example/v2/a/manifests/c",
        );
        check(
            "127.0.0.1.example/a:c",
            "https://127.0.0.1.example/v2/a/manifests/c",
        );
    }

    #[test]
    fn only_the_same_origin_is_the_registry_itself() {
        let repository = repository("127.0.0.1:5000/a");
        let owns = |url: &str| repository.owns(&Url::parse(url).expect("url"));
        assert!(owns("http://127.0.0.1:5000/elsewhere"));
        assert!(!owns("http://127.0.0.1:5001/v2/"));
        assert!(!owns("https://127.0.0.1:5000/v2/"));
        assert!(!owns("http://localhost:5000/v2/"));
    }
}
