//! Versions of the specification, and what each of them can do.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification that configurations may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0, and configurations that name no version.
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0: lists of plugins, results with interfaces.
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: GC and STATUS.
    V1_1_0,
}

/// All of them, oldest first.
pub const ALL: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

/// A version that is none of [`ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CNI version {0:?} is unknown: known are 0.1.0 to 0.4.0, 1.0.0 and 1.1.0")]
pub struct UnknownVersion(
    /// As it was given.
    pub String,
);

impl Version {
    /// The newest that is known here.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether plugins know CHECK.
    #[must_use]
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether DEL is told what ADD came to.
    #[must_use]
    pub fn has_result_at_del(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether plugins know GC and STATUS.
    #[must_use]
    pub fn has_gc_and_status(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        ALL.into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!(
            "2.0.0".parse::<Version>().unwrap_err().to_string(),
            "CNI version \"2.0.0\" is unknown: known are 0.1.0 to 0.4.0, 1.0.0 and 1.1.0"
        );
    }

    #[test]
    fn commands_came_with_versions() {
        let can = ALL.map(|v| (v.has_check(), v.has_gc_and_status()));
        assert_eq!(
            can,
            [
                (false, false),
                (false, false),
                (false, false),
                (false, false),
                (true, false),
                (true, false),
                (true, true)
            ]
        );
    }
}
