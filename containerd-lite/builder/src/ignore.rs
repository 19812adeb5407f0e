//! `.dockerignore`: which files of a context a build cannot see.

use crate::pattern::{BadPattern, Pattern};

/// The rules of one file, in order: the last that covers a path decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `!pattern`: what it covers is seen again.
    seen: bool,
    pattern: Pattern,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`. Lines that begin with `#` and empty ones mean nothing; a pattern is cleaned as a
    /// path, and a leading slash means nothing.
    ///
    /// # Errors
    /// A pattern that means nothing, with the number of its line.
    pub fn parse(text: &str) -> Result<Self, (usize, BadPattern)> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (seen, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() || pattern == "/" || pattern == "." {
                continue;
            }
            let pattern = clean(pattern);
            let pattern = Pattern::parse(&pattern).map_err(|bad| (index + 1, bad))?;
            rules.push(Rule { seen, pattern });
        }
        Ok(Self { rules })
    }

    /// Whether the build cannot see `path`.
    #[must_use]
    pub fn hides(&self, path: &str) -> bool {
        let decides = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.pattern.covers(path));
        decides.is_some_and(|rule| !rule.seen)
    }

    /// Whether neither the directory `path` nor anything below it can be seen.
    #[must_use]
    pub fn hides_whole(&self, path: &str) -> bool {
        self.hides(path)
            && !self
                .rules
                .iter()
                .any(|rule| rule.seen && rule.pattern.reaches_below(path))
    }
}

/// Takes `..` back where it can be: `a/../b` is `b`.
fn clean(pattern: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, hidden: &[&str], seen: &[&str]) {
        let ignore = Ignore::parse(text).unwrap();
        for path in hidden {
            assert!(ignore.hides(path), "{text:?} on {path}");
        }
        for path in seen {
            assert!(!ignore.hides(path), "{text:?} on {path}");
        }
    }

    #[test]
    fn the_last_rule_that_covers_decides() {
        check("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]);
        check("*\n!src", &["a", "b/c"], &["src", "src/a"]);
        check("!src\n*", &["src"], &[]);
        check("# c\n\n  node_modules/ ", &["node_modules/x"], &["x"]);
        check("/a\n./b\nc/../d", &["a", "b", "d"], &["c"]);
        check("**/*.o", &["a.o", "x/y.o"], &["a.c"]);
        check(".", &[], &["a"]);
    }

    #[test]
    fn a_directory_with_something_to_see_in_it_is_entered() {
        let ignore = Ignore::parse("vendor\n!vendor/keep/*").unwrap();
        assert!(ignore.hides("vendor") && !ignore.hides_whole("vendor"));
        assert!(ignore.hides_whole("vendor/other"));
        assert!(!ignore.hides("vendor/keep/x"));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        assert_eq!(Ignore::parse("a\n[").unwrap_err().0, 2);
    }
}
