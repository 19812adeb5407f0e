//! Digests and the descriptors that point to blobs by them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};

const PREFIX: &str = "sha256:";

/// `sha256:` and 64 lower-case hexadecimal digits: safe as a path component
/// and, in [`Digest::hex`], without the colon.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Checks the form. Other algorithms than SHA-256 are not offered.
    ///
    /// # Errors
    /// InvalidArgument naming the text.
    pub fn parse(text: &str) -> Result<Self> {
        let hex = text.strip_prefix(PREFIX).unwrap_or_default();
        let good = hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(Kind::InvalidArgument.error(format!(
            "invalid digest {text:?}: expected sha256: and 64 lower-case hexadecimal digits"
        )))
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&Sha256::digest(bytes))
    }

    /// The digest that a finished SHA-256 gives.
    pub fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// With the algorithm, as in descriptors.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Points to a blob: what it is, its digest, its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// For example `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
    /// Of the blob's bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// As in the manifest or index the descriptor was read from.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of `bytes`, without annotations.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }
}

/// What an ingest is expected to become; what is known is verified on commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The digest, when the writer knows it beforehand.
    pub digest: Option<Digest>,
    /// The size in bytes, when known.
    pub size: Option<u64>,
}

impl From<&Descriptor> for Expected {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            digest: Some(descriptor.digest.clone()),
            size: Some(descriptor.size),
        }
    }
}

impl From<Option<&Descriptor>> for Expected {
    fn from(descriptor: Option<&Descriptor>) -> Self {
        descriptor.map(Self::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_digest() {
        let good = Digest::of(b"");
        assert_eq!(
            good.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::parse(good.as_str()).unwrap(), good);
        for bad in [
            "",
            "sha256:",
            "sha256:E3B0",
            &good.as_str().to_uppercase(),
            good.hex(),
            "sha512:00",
            "sha256:../../../etc",
        ] {
            assert_eq!(
                Digest::parse(bad).unwrap_err().kind(),
                Kind::InvalidArgument,
                "{bad}"
            );
        }
    }
}
