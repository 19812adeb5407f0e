//! containerd's filter language, as list calls take it.
//!
//! A filter is selectors joined by `,`, all of which must hold; several
//! filters are alternatives. A selector is a field path (`name`,
//! `labels."a.b"`), alone (the field is present) or with `==`, `!=` or `~=` and
//! a value, quoted where it holds anything but letters, digits and a few signs.
//! `~=` takes a regular expression.

use crate::error::{Kind, Result};

mod parse;

/// Alternatives; none at all accepts everything.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<Vec<Selector>>);

#[derive(Debug, Clone)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(regex::Regex),
}

/// Something that filters can look at.
pub trait Fields {
    /// The value at `path`, `None` if there is no such field.
    fn field(&self, path: &[&str]) -> Option<String>;
}

impl Filters {
    /// Parses every filter of a list call. An empty text accepts everything.
    ///
    /// # Errors
    /// InvalidArgument naming the filter and the place.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self> {
        let parsed = filters.iter().map(|text| {
            let text = text.as_ref();
            parse::selectors(text).map_err(|fault| {
                Kind::InvalidArgument.error(format!("filter {text:?}: {fault}: invalid argument"))
            })
        });
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    /// Whether any alternative accepts `subject`.
    pub fn accept(&self, subject: &impl Fields) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|selectors| selectors.iter().all(|selector| selector.accepts(subject)))
    }
}

impl Selector {
    fn accepts(&self, subject: &impl Fields) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = subject.field(&path);
        match (&self.test, value) {
            (Test::Present, value) => value.is_some(),
            (Test::Equal(wanted), value) => value.is_some_and(|value| value == *wanted),
            (Test::NotEqual(wanted), value) => value.is_none_or(|value| value != *wanted),
            (Test::Matches(pattern), value) => value.is_some_and(|value| pattern.is_match(&value)),
        }
    }
}

/// The value of `labels.<key>`; an unquoted key with dots arrives in parts.
pub(crate) fn label_field(labels: &crate::labels::Labels, path: &[&str]) -> Option<String> {
    labels.get(&path.join(".")).cloned()
}
