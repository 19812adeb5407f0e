//! Small values that cross between the stores and their callers.

use std::path::Path;

/// A message of a type that the core does not look into, with its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnyValue {
    /// The type, for example `containerd.runc.v1.Options`.
    pub type_url: String,
    /// The encoded message (protobuf, or JSON for specs).
    pub value: Vec<u8>,
}

/// A mount as a snapshotter describes it: mount(8)'s words, not performed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// `overlay` or `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where below the root file system; empty is its root.
    pub target: String,
    /// mount(8)'s options.
    pub options: Vec<String>,
}

impl Mount {
    /// A recursive bind of `source`, writable or not.
    pub fn bind(source: &Path, writable: bool) -> Self {
        let access = if writable { "rw" } else { "ro" };
        Self {
            kind: "bind".to_owned(),
            source: source.to_string_lossy().into_owned(),
            target: String::new(),
            options: vec![access.to_owned(), "rbind".to_owned()],
        }
    }
}

/// An operating system and processor, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ….
    pub architecture: String,
    /// `v8`, `v7`, …; empty where the architecture has none.
    pub variant: String,
}

impl Platform {
    /// The platform this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// Reads `os`, `os/arch` or `os/arch/variant`, with the usual aliases
    /// (`x86_64`, `aarch64`).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let os = parts.next().filter(|os| !os.is_empty())?.to_lowercase();
        let host = Self::host();
        let (architecture, variant) = match parts.next() {
            None => (host.architecture, host.variant),
            Some("x86_64" | "x86-64" | "amd64") => ("amd64".to_owned(), String::new()),
            Some("aarch64" | "arm64") => ("arm64".to_owned(), "v8".to_owned()),
            Some("") => return None,
            Some(other) => (other.to_lowercase(), String::new()),
        };
        let variant = parts.next().map_or(variant, str::to_lowercase);
        parts.next().is_none().then_some(Self {
            os,
            architecture,
            variant,
        })
    }

    /// Whether something made for `other` runs here; an absent variant says
    /// nothing, and arm64 without one is v8.
    pub fn accepts(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant == other.variant
                || other.variant.is_empty()
                || self.variant.is_empty())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_read_as_they_print() {
        assert_eq!(
            Platform::parse("linux/x86_64").unwrap().to_string(),
            "linux/amd64"
        );
        assert_eq!(
            Platform::parse("linux/arm/v6").unwrap().to_string(),
            "linux/arm/v6"
        );
        assert_eq!(Platform::parse("linux").unwrap(), Platform::host());
        for bad in ["", "linux/", "linux/arm/v6/x"] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }
}
