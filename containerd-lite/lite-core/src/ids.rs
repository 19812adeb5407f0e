//! Identifiers: 64 lower-case hexadecimal digits from the kernel's random
//! source, for containers and for exec'd processes alike.

use std::fmt;
use std::fmt::Write as _;

/// How many digits people see and type.
pub const SHORT_DIGITS: usize = 12;

/// An identifier of 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// Draws 256 random bits.
    ///
    /// # Errors
    /// Only where the kernel has no random source (`getrandom(2)`).
    pub fn generate() -> std::io::Result<Self> {
        let mut bits = [0_u8; 32];
        getrandom::fill(&mut bits)?;
        let mut text = String::with_capacity(64);
        for byte in bits {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// Takes a full identifier as stored; a prefix is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first [`SHORT_DIGITS`], as Docker shows them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..SHORT_DIGITS]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_parses_and_two_differ() {
        let one = Id::generate().unwrap();
        assert_eq!(Id::parse(one.as_str()), Some(one.clone()));
        assert_eq!(one.short().len(), 12);
        assert_ne!(one, Id::generate().unwrap());
    }

    #[test]
    fn only_64_lower_case_digits_are_an_id() {
        assert!(Id::parse(&"a".repeat(63)).is_none());
        assert!(Id::parse(&"A".repeat(64)).is_none());
        assert!(Id::parse(&"g".repeat(64)).is_none());
    }
}
