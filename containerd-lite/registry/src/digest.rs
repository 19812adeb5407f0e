//! Digests as registries write them: `sha256:` and 64 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A sha256 digest, checked at the time it was parsed.
///
/// Other algorithms of the image-spec are rejected, because the content store
/// below is addressed by sha256 alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    const ALGORITHM: &'static str = "sha256:";
    const HEX_DIGITS: usize = 64;

    /// Parses `sha256:<64 lower-case hex digits>`.
    ///
    /// # Errors
    /// Anything else, naming the text.
    pub fn parse(text: &str) -> Result<Self, ParseDigestError> {
        let well_formed = text.strip_prefix(Self::ALGORITHM).is_some_and(|hex| {
            hex.len() == Self::HEX_DIGITS
                && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseDigestError {
                given: text.to_owned(),
            })
        }
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(Self::ALGORITHM.len() + Self::HEX_DIGITS);
        text.push_str(Self::ALGORITHM);
        for byte in Sha256::digest(bytes) {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Self(text)
    }

    /// `sha256:<hex>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[Self::ALGORITHM.len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        Self::parse(text)
    }
}

/// The text is not a sha256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {given:?}: expected sha256: and 64 lower-case hex digits")]
pub struct ParseDigestError {
    /// The text as given.
    pub given: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(Digest::parse(digest.as_str()).as_ref(), Ok(&digest));
        assert_eq!(digest.hex().len(), 64);
    }

    #[test]
    fn other_texts_are_no_digests() {
        let good = Digest::of(b"x").to_string();
        for text in [
            "",
            "sha256:",
            "sha256:abc",
            &good.to_uppercase(),
            &good.replace("sha256", "sha512"),
            &format!("{good}0"),
            &good[..good.len() - 1],
        ] {
            assert!(Digest::parse(text).is_err(), "{text:?}");
        }
    }
}
