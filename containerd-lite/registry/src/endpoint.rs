//! Where a registry is: the URL behind the domain of a reference.

use std::collections::BTreeSet;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::Error;
use crate::reference::{DEFAULT_DOMAIN, Reference};

/// The host that serves Docker Hub's images.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A repository and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// As in references, for messages: `docker.io/library/busybox`.
    pub(crate) name: String,
    /// The domain of the reference, under which credentials are kept.
    pub(crate) domain: String,
    /// Within the registry: `library/busybox`.
    pub(crate) path: String,
    /// Ends in a slash: `https://registry-1.docker.io/v2/`.
    base: Url,
}

impl Repository {
    /// The repository of `reference`. Plain HTTP is used for loopback hosts
    /// and for the domains in `plain_http`, TLS for all others.
    pub(crate) fn of(reference: &Reference, plain_http: &BTreeSet<String>) -> Result<Self, Error> {
        let domain = reference.domain();
        let host = if domain == DEFAULT_DOMAIN {
            DOCKER_HUB
        } else {
            domain
        };
        let scheme = if is_loopback_domain(domain) || plain_http.contains(domain) {
            "http"
        } else {
            "https"
        };
        let base =
            Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|err| Error::Protocol {
                host: domain.to_owned(),
                subject: "its address".to_owned(),
                what: err.to_string(),
            })?;
        Ok(Self {
            name: reference.name().to_owned(),
            domain: domain.to_owned(),
            path: reference.path().to_owned(),
            base,
        })
    }

    /// The URL of `kind` (`manifests` or `blobs`) `name` in this repository.
    ///
    /// Repository paths, tags and digests consist of characters that stand
    /// for themselves in a URL, and of no component `..`.
    pub(crate) fn url(&self, kind: &str, name: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{kind}/{name}", self.path));
        url
    }

    /// Whether `url` is on the registry itself, so that it may see the
    /// credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether the registry is reached without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// What a token must allow, in the words of the token specification.
    pub(crate) fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.path)
    }
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

    #[track_caller]
    fn check(reference: &str, url: &str) {
        let told = BTreeSet::from(["plain.example:5000".to_owned()]);
        let reference = Reference::parse(reference).expect("reference");
        let repository = Repository::of(&reference, &told).expect("repository");
        let tag = reference.tag().expect("tag");
        assert_eq!(repository.url("manifests", tag).as_str(), url);
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
        let reference = Reference::parse("127.0.0.1:5000/a").expect("reference");
        let repository = Repository::of(&reference, &BTreeSet::new()).expect("repository");
        let owns = |url: &str| repository.owns(&Url::parse(url).expect("url"));
        assert!(owns("http://127.0.0.1:5000/elsewhere"));
        assert!(!owns("http://127.0.0.1:5001/v2/"));
        assert!(!owns("https://127.0.0.1:5000/v2/"));
        assert!(!owns("http://localhost:5000/v2/"));
    }
}
