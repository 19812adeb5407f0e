//! Wildcards by the rules of Go's `filepath.Match`, with `**` for any number of directories.
//!
//! `*` matches within one name, `?` one character but a slash, `[a-z]` and `[^a-z]` one of a class, a backslash takes the next
//! character literally.

use std::fmt;

/// A pattern for slash-separated paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    names: Vec<Name>,
}

/// One name of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// `**`: any number of names, none too.
    AnyDepth,
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(pub String);

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syntax error in pattern {:?}", self.0)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// Reads `text`. Empty names and `.` are passed over, so that `./a//b` is `a/b`.
    ///
    /// # Errors
    /// A class that does not close or is empty, a backslash at the end.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let names = split(text)
            .into_iter()
            .filter(|name| !name.is_empty() && name != ".")
            .map(|name| match name.as_str() {
                "**" => Ok(Name::AnyDepth),
                name => parts(name).map(Name::Parts),
            });
        let names: Option<Vec<Name>> = names.map(Result::ok).collect();
        match names {
            Some(names) => Ok(Self { names }),
            None => Err(BadPattern(text.to_owned())),
        }
    }

    /// Whether there is anything in it but literal characters.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.names.iter().any(|name| match name {
            Name::AnyDepth => true,
            Name::Parts(parts) => parts.iter().any(|part| !matches!(part, Part::Exactly(_))),
        })
    }

    /// The path it stands for, where nothing in it is wild.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let name = |name: &Name| match name {
            Name::AnyDepth => None,
            Name::Parts(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Exactly(c) => Some(*c),
                    _ => None,
                })
                .collect::<Option<String>>(),
        };
        let names: Option<Vec<String>> = self.names.iter().map(name).collect();
        Some(names?.join("/"))
    }

    /// Whether the whole of `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        self.fits(&path)
    }

    /// Whether `path` or one of the directories above it matches.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        (1..=path.len()).any(|length| self.fits(&path[..length]))
    }

    /// Whether something below `dir` could match.
    #[must_use]
    pub fn reaches_below(&self, dir: &str) -> bool {
        let mut names = self.names.iter();
        for part in dir.split('/').filter(|name| !name.is_empty()) {
            match names.next() {
                Some(Name::AnyDepth) => return true,
                Some(Name::Parts(parts)) if name_matches(parts, part) => {}
                _ => return false,
            }
        }
        names.next().is_some()
    }

    /// Dynamic programming over names: `row[i]` says that the first `i` names of the path match the pattern so far.
    fn fits(&self, path: &[&str]) -> bool {
        let mut row = vec![false; path.len() + 1];
        row[0] = true;
        for name in &self.names {
            match name {
                Name::AnyDepth => {
                    let first = row.iter().position(|hit| *hit).unwrap_or(row.len());
                    row[first..].fill(true);
                }
                Name::Parts(parts) => {
                    for i in (0..path.len()).rev() {
                        row[i + 1] = row[i] && name_matches(parts, path[i]);
                    }
                    row[0] = false;
                }
            }
        }
        row[path.len()]
    }
}

/// Cuts at slashes that are not in a class and not escaped.
fn split(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = names.len() - 1;
        match c {
            '/' => names.push(String::new()),
            '\\' => {
                names[last].push(c);
                names[last].extend(chars.next());
            }
            c => names[last].push(c),
        }
    }
    names
}

fn parts(name: &str) -> Result<Vec<Part>, ()> {
    let mut chars = name.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        let part = match c {
            '*' if parts.last() == Some(&Part::Any) => continue,
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Exactly(chars.next().ok_or(())?),
            '[' => {
                let negated = chars.next_if(|c| *c == '^' || *c == '!').is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match chars.next().ok_or(())? {
                        ']' if !ranges.is_empty() => break,
                        ']' => return Err(()),
                        '\\' => chars.next().ok_or(())?,
                        low => low,
                    };
                    let high = match chars.next_if_eq(&'-') {
                        None => low,
                        Some(_) => match chars.next().ok_or(())? {
                            '\\' => chars.next().ok_or(())?,
                            ']' => return Err(()),
                            high => high,
                        },
                    };
                    ranges.push((low, high));
                }
                Part::Class { negated, ranges }
            }
            c => Part::Exactly(c),
        };
        parts.push(part);
    }
    Ok(parts)
}

fn name_matches(parts: &[Part], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for part in parts {
        if *part == Part::Any {
            let first = row.iter().position(|hit| *hit).unwrap_or(row.len());
            row[first..].fill(true);
            continue;
        }
        for i in (0..name.len()).rev() {
            row[i + 1] = row[i] && part.takes(name[i]);
        }
        row[0] = false;
    }
    row[name.len()]
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Exactly(own) => *own == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, want: bool) {
        let parsed = Pattern::parse(pattern).unwrap();
        assert_eq!(parsed.matches(path), want, "{pattern:?} on {path:?}");
    }

    #[test]
    fn names_are_matched_one_by_one() {
        check("*.txt", "a.txt", true);
        check("*.txt", "d/a.txt", false);
        check("d/*", "d/a.txt", true);
        check("d/*", "d/e/a.txt", false);
        check("a?c", "abc", true);
        check("a?c", "a/c", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("[a\\]]x", "]x", true);
        check("a\\*", "a*", true);
        check("a\\*", "ab", false);
        check("*a*b*c*", "xxaxxbxxcxx", true);
        check("./a//b", "a/b", true);
        check("", "", true);
    }

    #[test]
    fn two_stars_take_any_depth() {
        check("**/*.go", "a.go", true);
        check("**/*.go", "x/y/a.go", true);
        check("**", "x/y", true);
        check("a/**/b", "a/b", true);
        check("a/**/b", "a/x/y/b", true);
        check("a/**/b", "a/x/c", false);
    }

    #[test]
    fn directories_above_cover() {
        let pattern = Pattern::parse("node_modules").unwrap();
        assert!(pattern.covers("node_modules/x/y"));
        assert!(!pattern.covers("src/node_modules"));
        let deep = Pattern::parse("a/*/c").unwrap();
        assert!(deep.reaches_below("a") && deep.reaches_below("a/b"));
        assert!(!deep.reaches_below("b") && !deep.reaches_below("a/b/c"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in ["[", "[]", "[a", "[a-]", "a\\"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_without_wildcards_is_a_path() {
        let literal = |text| Pattern::parse(text).unwrap().literal();
        assert_eq!(literal("./a/b\\*"), Some("a/b*".to_owned()));
        assert_eq!(literal("a*"), None);
        assert!(!Pattern::parse("a/b").unwrap().is_wild());
    }
}
