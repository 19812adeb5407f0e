//! Labels, and how records keep them.

use std::collections::BTreeMap;

use crate::error::{Kind, Result};

/// Key and value pairs on every kind of record.
pub type Labels = BTreeMap<String, String>;

/// Key and value together are at most this many bytes long.
const MAX_LABEL: usize = 4096;

/// Checks the length of every label.
///
/// # Errors
/// InvalidArgument naming the key (cut short).
pub fn check_labels(labels: &Labels) -> Result<()> {
    for (key, value) in labels {
        let total = key.len() + value.len();
        if total > MAX_LABEL {
            let shown: String = key.chars().take(64).collect();
            return Err(Kind::InvalidArgument.error(format!(
                "label key and value length ({total} bytes) greater than maximum size ({MAX_LABEL} bytes), key: {shown}: invalid argument"
            )));
        }
    }
    Ok(())
}

/// Which labels an update replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelUpdate {
    /// All of them: what is not given goes.
    Replace,
    /// Only these keys; an empty or absent value removes the key.
    Keys(Vec<String>),
}

impl LabelUpdate {
    /// Reads the paths of a field mask: none or `labels` replaces all,
    /// `labels.<key>` one key.
    ///
    /// # Errors
    /// InvalidArgument for any other path.
    pub fn from_paths(paths: &[String], subject: &str) -> Result<Self> {
        let mut keys = Vec::new();
        for path in paths {
            match path.strip_prefix("labels") {
                Some("") => return Ok(Self::Replace),
                Some(rest) if rest.starts_with('.') => keys.push(rest[1..].to_owned()),
                _ => {
                    return Err(Kind::InvalidArgument.error(format!(
                        "cannot update {path:?} field on {subject}: invalid argument"
                    )));
                }
            }
        }
        Ok(if keys.is_empty() {
            Self::Replace
        } else {
            Self::Keys(keys)
        })
    }

    /// `old` after this update with the values in `new`.
    ///
    /// # Errors
    /// InvalidArgument as [`check_labels`].
    pub fn apply(&self, old: Labels, new: &Labels) -> Result<Labels> {
        let labels = match self {
            Self::Replace => new
                .clone()
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            Self::Keys(keys) => {
                let mut labels = old;
                for key in keys {
                    match new.get(key).filter(|value| !value.is_empty()) {
                        Some(value) => labels.insert(key.clone(), value.clone()),
                        None => labels.remove(key),
                    };
                }
                labels
            }
        };
        check_labels(&labels)?;
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_mask_replaces_all_labels_or_single_keys() {
        let old = labels(&[("a", "1"), ("b.c", "2")]);
        let one = LabelUpdate::from_paths(&["labels.b.c".to_owned()], "x").unwrap();
        assert_eq!(
            one.apply(old.clone(), &labels(&[("b.c", "3"), ("z", "9")]))
                .unwrap(),
            labels(&[("a", "1"), ("b.c", "3")])
        );
        assert_eq!(
            one.apply(old.clone(), &labels(&[])).unwrap(),
            labels(&[("a", "1")])
        );
        let all = LabelUpdate::from_paths(&["labels".to_owned()], "x").unwrap();
        assert_eq!(
            all.apply(old, &labels(&[("z", "9")])).unwrap(),
            labels(&[("z", "9")])
        );
        assert_eq!(
            LabelUpdate::from_paths(&["name".to_owned()], "x")
                .unwrap_err()
                .kind(),
            Kind::InvalidArgument
        );
    }

    #[test]
    fn a_label_is_at_most_4096_bytes() {
        assert!(check_labels(&labels(&[("k", &"v".repeat(4095))])).is_ok());
        assert_eq!(
            check_labels(&labels(&[("k", &"v".repeat(4096))]))
                .unwrap_err()
                .kind(),
            Kind::InvalidArgument
        );
    }
}
