//! Names: containerd's tenants and the rule its identifiers follow.

use std::fmt;

use crate::error::{Kind, Result};

/// The longest identifier, in bytes.
const MAX_IDENTIFIER: usize = 76;

/// Checks containerd's rule for ids and tenant names: 1 to 76 bytes of letters
/// and digits, with single `.`, `_` or `-` between them (two in a row never).
///
/// # Errors
/// InvalidArgument naming the identifier.
pub fn check_identifier(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Kind::InvalidArgument.error("identifier must not be empty: invalid argument"));
    }
    if text.len() > MAX_IDENTIFIER {
        return Err(Kind::InvalidArgument.error(format!(
            "identifier {text:?} greater than maximum length ({MAX_IDENTIFIER} characters): invalid argument"
        )));
    }
    let well_formed = text
        .split(['.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if well_formed {
        return Ok(());
    }
    Err(Kind::InvalidArgument.error(format!(
        "identifier {text:?} must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"
    )))
}

/// containerd's tenant: images, containers and all else belong to one. The
/// default is `default`. Safe as a path component.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// Checks `text` against [`check_identifier`].
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn parse(text: &str) -> Result<Self> {
        check_identifier(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, good: bool) {
        assert_eq!(Namespace::parse(text).is_ok(), good, "{text:?}");
    }

    #[test]
    fn identifiers_are_safe_path_components() {
        check("default", true);
        check("k8s.io", true);
        check("a-b_c.d", true);
        check("", false);
        check("..", false);
        check("a..b", false);
        check("-a", false);
        check("a/b", false);
        check("a\0", false);
        check("é", false);
        check(&"a".repeat(76), true);
        check(&"a".repeat(77), false);
    }
}
