//! `--filter key=value`, as lists and prunes take it: values of one key are
//! alternatives, keys narrow each other down.

use std::collections::BTreeMap;

use lite_core::{Kind, Result};

/// Filters by key, checked against the keys that a command knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(BTreeMap<String, Vec<String>>);

impl Filter {
    /// Reads what was typed.
    ///
    /// # Errors
    /// InvalidArgument for a key that is not `known`, or without a value.
    pub fn parse(typed: &[String], known: &[&str]) -> Result<Self> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in typed {
            let (mut key, value) = text.split_once('=').ok_or_else(|| {
                Kind::InvalidArgument.error(format!("invalid argument \"{text}\" for \"-f, --filter\" flag: bad format of filter (expected name=value)"))
            })?;
            key = key.trim();
            if !known.contains(&key) {
                return Err(Kind::InvalidArgument.error(format!(
                    "invalid filter '{key}': expected one of {}",
                    known.join(", ")
                )));
            }
            filters
                .entry(key.to_owned())
                .or_default()
                .push(value.trim().to_owned());
        }
        Ok(Self(filters))
    }

    /// The values of a key.
    #[must_use]
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// True where the key was not given, or one of its values matches.
    pub fn any(&self, key: &str, matches: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().map(String::as_str).any(matches)
    }

    /// A key that is on or off.
    ///
    /// # Errors
    /// InvalidArgument for anything else.
    pub fn switch(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key).last().map(String::as_str) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => {
                Err(Kind::InvalidArgument.error(format!("invalid filter '{key}={other}'")))
            }
        }
    }

    /// True where every `label` is there and no `label!` is. A label without a
    /// value asks for the key alone.
    #[must_use]
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_alternatives_and_keys_narrow() {
        let typed = ["name=a", "name=b", "label=x", "label!=y=1"].map(str::to_owned);
        let filter = Filter::parse(&typed, &["name", "label", "label!"]).unwrap();
        assert!(filter.any("name", |value| value == "b"));
        assert!(!filter.any("name", |value| value == "c"));
        assert!(filter.any("status", |_| false));
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert!(filter.labels(&labels(&[("x", "")])));
        assert!(filter.labels(&labels(&[("x", ""), ("y", "2")])));
        assert!(!filter.labels(&labels(&[("x", ""), ("y", "1")])));
        assert!(!filter.labels(&labels(&[])));
    }

    #[test]
    fn unknown_keys_and_bare_words_are_refused() {
        let parse = |text: &str| Filter::parse(&[text.to_owned()], &["name"]);
        assert!(
            parse("bogus=1")
                .unwrap_err()
                .to_string()
                .contains("invalid filter 'bogus'")
        );
        assert!(parse("name").is_err());
    }
}
