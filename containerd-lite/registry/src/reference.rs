//! Image references: the grammar of the distribution project and Docker's
//! rules for names that leave out the registry, the owner or the tag.
//!
//! Source: the grammar comment of the `distribution/reference` Go package and
//! the behaviour of `docker pull`.
//!
//! ```text
//! reference  := name [":" tag] ["@" digest]
//! name       := [host [":" port] "/"] component ("/" component)*
//! component  := [a-z0-9]+ ((one of . _ __ or any number of -) [a-z0-9]+)*
//! tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry a name without one belongs to.
pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";
/// An older name of the default registry, still found in configurations.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The owner of a Docker Hub image that was named without one.
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// A complete image reference: registry, repository, and a tag or a digest or
/// both.
///
/// Its [`Display`](fmt::Display) form is the full normalised one, under which
/// images are stored; [`Reference::familiar`] is the short one people type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `domain/path`.
    name: String,
    /// Length of the domain within `name`.
    domain_len: usize,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The longest repository path, in bytes, that registries accept.
    pub const MAX_PATH_BYTES: usize = 255;
    /// The longest host name that the DNS can hold, and room for a port.
    pub const MAX_DOMAIN_BYTES: usize = 253 + ":65535".len();
    /// The longest tag, in bytes.
    pub const MAX_TAG_BYTES: usize = 128;

    /// Parses what a person typed: `busybox` becomes
    /// `docker.io/library/busybox:latest`.
    ///
    /// A reference with neither tag nor digest gets the tag `latest`.
    ///
    /// # Errors
    /// [`ParseReferenceError`] names the text and the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        parse(text).map_err(|reason| ParseReferenceError {
            given: text.to_owned(),
            reason,
        })
    }

    /// The registry, with its port if one was given: `docker.io`,
    /// `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.name[..self.domain_len]
    }

    /// The repository within the registry: `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.name[self.domain_len + 1..]
    }

    /// Registry and repository: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag; `None` only if there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, pinned to `digest` and without a tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same, by its tag alone where it has one.
    #[must_use]
    pub fn by_tag(&self) -> Self {
        let digest = match self.tag {
            Some(_) => None,
            None => self.digest.clone(),
        };
        Self {
            digest,
            ..self.clone()
        }
    }

    /// The shortest form that parses to this reference: `busybox:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The shortest form of [`Self::name`]: `busybox`, `owner/tool`,
    /// `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> &str {
        if self.domain() != DEFAULT_DOMAIN {
            return &self.name;
        }
        let path = self.path();
        match path.split_once('/') {
            Some((OFFICIAL, rest)) if !rest.contains('/') => rest,
            // Without its registry the path would be read as one that starts
            // with a host name.
            Some((first, _)) if is_domain(first) => &self.name,
            _ => path,
        }
    }

    fn with_suffix(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(&self.name))
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse(text)
    }
}

/// A text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference {given:?}: {reason}")]
pub struct ParseReferenceError {
    /// The text as given.
    pub given: String,
    /// The first rule it breaks.
    pub reason: BadReference,
}

/// The rule of the reference grammar that a text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// Nothing where the repository should be.
    #[error("the repository name is empty")]
    Empty,
    /// Upper-case letters are allowed in host names and tags only.
    #[error("the repository name must be lower case")]
    UpperCase,
    /// A path component breaks the grammar.
    #[error(
        "a repository name has parts of a-z and 0-9, joined by one of . _ __ or by -, and separated by /"
    )]
    Path,
    /// The registry is not a host name, an address or `[IPv6]`, with an
    /// optional port.
    #[error("the registry must be a host name or an address, with an optional port")]
    Domain,
    /// The tag breaks the grammar.
    #[error("a tag has 1 to 128 of A-Z a-z 0-9 _ . - and does not start with . or -")]
    Tag,
    /// The digest is not a sha256 digest.
    #[error("the digest must be sha256: and 64 lower-case hex digits")]
    Digest,
    /// The repository path is over [`Reference::MAX_PATH_BYTES`].
    #[error("the repository name is longer than 255 bytes")]
    PathTooLong,
    /// The registry is over [`Reference::MAX_DOMAIN_BYTES`].
    #[error("the registry name is longer than 253 bytes")]
    DomainTooLong,
    /// 64 hex digits alone are an image id everywhere else.
    #[error("64 hex digits are an image id and cannot be a repository name")]
    ImageId,
}

fn parse(text: &str) -> Result<Reference, BadReference> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(BadReference::ImageId);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = Digest::parse(digest).map_err(|_| BadReference::Digest)?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (domain, rest) = match rest.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, path)) => (DEFAULT_DOMAIN, path),
        Some((first, path)) if is_domain(first) => (first, path),
        _ => (DEFAULT_DOMAIN, rest),
    };
    // The port, the only other colon, went away with the domain.
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    check_domain(domain)?;
    let path = if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
        format!("{OFFICIAL}/{path}")
    } else {
        path.to_owned()
    };
    check_path(&path)?;
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    Ok(Reference {
        name: format!("{domain}/{path}"),
        domain_len: domain.len(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

/// Whether the part before the first `/` names a registry rather than the
/// first component of a path: it has a dot, a port, or an upper-case letter
/// (which a path cannot have), or it is `localhost`.
fn is_domain(first: &str) -> bool {
    first == "localhost"
        || first
            .bytes()
            .any(|b| b == b'.' || b == b':' || b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), BadReference> {
    if domain.len() > Reference::MAX_DOMAIN_BYTES {
        return Err(BadReference::DomainTooLong);
    }
    let (host_is_good, after) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(BadReference::Domain)?;
            (address.parse::<Ipv6Addr>().is_ok(), after)
        }
        None => {
            let end = domain.find(':').unwrap_or(domain.len());
            (is_host_name(&domain[..end]), &domain[end..])
        }
    };
    let port_is_good = match after.strip_prefix(':') {
        Some(port) => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => after.is_empty(),
    };
    if host_is_good && port_is_good {
        Ok(())
    } else {
        Err(BadReference::Domain)
    }
}

fn is_host_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn check_path(path: &str) -> Result<(), BadReference> {
    if path.is_empty() {
        return Err(BadReference::Empty);
    }
    if path.len() > Reference::MAX_PATH_BYTES {
        return Err(BadReference::PathTooLong);
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(BadReference::UpperCase);
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(BadReference::Path)
    }
}

fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words =
        bytes.first().is_some_and(|&b| is_word(b)) && bytes.last().is_some_and(|&b| is_word(b));
    ends_are_words
        && bytes
            .split(|&b| is_word(b))
            .all(|separator| match separator {
                b"" | b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|&b| b == b'-'),
            })
}

fn check_tag(tag: &str) -> Result<(), BadReference> {
    let starts_well = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let all_allowed = tag
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if starts_well && all_allowed && tag.len() <= Reference::MAX_TAG_BYTES {
        Ok(())
    } else {
        Err(BadReference::Tag)
    }
}

#[cfg(test)]
mod tests;
