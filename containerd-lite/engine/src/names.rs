//! Container names: the rule for those a user picks, and invented ones of an
//! adjective and a scientist's surname.

use std::fmt;

/// A container name by Docker's rule: two or more of `[a-zA-Z0-9_.-]`, the
/// first a letter or a digit. Never with the leading slash that the API shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The text is no container name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            self.0
        )
    }
}

impl std::error::Error for BadName {}

impl Name {
    /// Checks a name as typed; one leading slash is dropped, as Docker does.
    ///
    /// # Errors
    /// [`BadName`] when it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        let starts_well = bare.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all_allowed = bare
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if starts_well && all_allowed && bare.len() >= 2 {
            Ok(Self(bare.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }

    /// The name an `attempt` invents from random bits. From the third attempt
    /// on a digit follows, so that a full list of names still ends.
    #[must_use]
    pub fn invent(random: u64, attempt: u32) -> Self {
        let pick = |words: &[&'static str], bits: u64| {
            let count = u64::try_from(words.len()).unwrap_or(1);
            words[usize::try_from(bits % count).unwrap_or(0)]
        };
        let adjective = pick(ADJECTIVES, random);
        let surname = pick(SURNAMES, random >> 24);
        if attempt < 2 {
            Self(format!("{adjective}_{surname}"))
        } else {
            Self(format!(
                "{adjective}_{surname}{}",
                (random >> 48) % (10 * u64::from(attempt))
            ))
        }
    }

    /// The name without a slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "amber", "apt", "azure", "balmy", "blithe", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "careful", "cheery", "civil", "clear", "clever", "coral",
    "crisp", "curious", "daring", "deft", "eager", "earnest", "early", "easy", "fair", "fine",
    "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "green", "hardy",
    "hearty", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "open", "patient", "placid",
    "plucky", "polite", "prompt", "proud", "quick", "quiet", "rapid", "ready", "robust", "rosy",
    "rustic", "sage", "sharp", "silver", "smart", "snug", "sober", "solid", "spry", "steady",
    "stout", "sturdy", "subtle", "sunny", "swift", "tidy", "tranquil", "true", "upbeat", "vivid",
    "warm", "wise", "witty", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "ampere",
    "anning",
    "arrhenius",
    "avogadro",
    "babbage",
    "banach",
    "bernoulli",
    "bohr",
    "boole",
    "born",
    "brahe",
    "cannon",
    "cantor",
    "carson",
    "cauchy",
    "cavendish",
    "chandra",
    "church",
    "curie",
    "dalton",
    "darwin",
    "dedekind",
    "descartes",
    "dijkstra",
    "dirac",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "haber",
    "halley",
    "hamilton",
    "heisenberg",
    "herschel",
    "hertz",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "jacobi",
    "joule",
    "kepler",
    "klein",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leavitt",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "milner",
    "mirzakhani",
    "napier",
    "newton",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "payne",
    "perlman",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "ritchie",
    "rubin",
    "rutherford",
    "sagan",
    "shannon",
    "somerville",
    "tarski",
    "tesla",
    "thales",
    "turing",
    "volta",
    "watt",
    "wiles",
    "wu",
    "yalow",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, ok: bool) {
        assert_eq!(Name::parse(text).is_ok(), ok, "{text:?}");
    }

    #[test]
    fn names_follow_dockers_rule() {
        check("web-1", true);
        check("/web", true);
        check("a.b_c-D", true);
        check("9x", true);
        check("a", false);
        check("", false);
        check("..", false);
        check("-x", false);
        check("a/b", false);
        check("//ab", false);
        check("über", false);
    }

    #[test]
    fn every_invented_name_is_a_name() {
        for bits in 0..5000_u64 {
            let random = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for attempt in [0, 5] {
                let name = Name::invent(random, attempt);
                assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
                assert!(name.as_str().contains('_'));
            }
        }
    }

    #[test]
    fn the_word_lists_hold_no_word_twice() {
        for list in [ADJECTIVES, SURNAMES] {
            let unique: std::collections::BTreeSet<_> = list.iter().collect();
            assert_eq!(unique.len(), list.len());
        }
    }
}
