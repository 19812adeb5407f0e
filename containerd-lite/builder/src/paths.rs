//! Paths inside images: text with slashes, that never leads above the root.

/// `path` below `dir`, cleaned: absolute, without `.`, `..` and doubled slashes. An absolute `path` stands alone.
#[must_use]
pub fn join(dir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{dir}/{path}")
    };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Whether `path` says that it is a directory: it ends with a slash, or with `.` or `..`.
#[must_use]
pub fn is_directory(path: &str) -> bool {
    path.is_empty() || path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."))
}

/// The last name of a cleaned path; empty for the root.
#[must_use]
pub fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(join("/a", "b/../c"), "/a/c");
        assert_eq!(join("/a", "/b//c/."), "/b/c");
        assert_eq!(join("/a", "../../.."), "/");
        assert_eq!(join("", ""), "/");
    }

    #[test]
    fn directories_say_so() {
        for path in ["a/", ".", "a/.", "..", ""] {
            assert!(is_directory(path), "{path}");
        }
        assert!(!is_directory("a/b") && !is_directory("a."));
    }
}
