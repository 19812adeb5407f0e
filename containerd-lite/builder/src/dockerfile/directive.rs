//! Parser directives: `# name=value` comments at the very top.

use super::text::{Mistake, Place};

/// What the directives say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape character.
    pub escape: char,
    /// The frontend that the author names. Ours is the only one there is; it is kept for messages.
    pub syntax: Option<String>,
    /// Options of the build checks.
    pub check: Option<String>,
}

/// Reads the directives off the top of `text`. They end at the first line that is none: another comment, an empty line, an
/// instruction. A comment of that shape with an unknown name is a comment, and does not end them.
///
/// # Errors
/// A directive that stands twice, and an escape character that is neither a backslash nor a backtick.
pub fn read(text: &str) -> Result<Directives, Mistake> {
    let mut found = Directives {
        escape: '\\',
        syntax: None,
        check: None,
    };
    let mut seen = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = directive(line) else {
            break;
        };
        let place = Place {
            line: index + 1,
            column: 1,
        };
        let name = name.to_ascii_lowercase();
        if !["escape", "syntax", "check"].contains(&name.as_str()) {
            continue;
        }
        if seen.contains(&name) {
            let message = format!("directive {name} stands twice: only one is allowed");
            return Err(Mistake::new(place, line.chars().count(), message));
        }
        match name.as_str() {
            "escape" => {
                found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message = format!("invalid escape {other:?}: expected ` or \\");
                        return Err(Mistake::new(place, line.chars().count(), message));
                    }
                };
            }
            "syntax" => found.syntax = Some(value.to_owned()),
            _ => found.check = Some(value.to_owned()),
        }
        seen.push(name);
    }
    Ok(found)
}

fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn escape(text: &str, want: char) {
        assert_eq!(read(text).unwrap().escape, want, "{text:?}");
    }

    #[test]
    fn directives_stand_at_the_top_only() {
        escape("# escape=`\nFROM a", '`');
        escape("#ESCAPE = `", '`');
        escape("# syntax=docker/dockerfile:1\n# escape=`", '`');
        escape("# unknown=1\n# escape=`", '`');
        escape("# a comment\n# escape=`", '\\');
        escape("\n# escape=`", '\\');
        escape("FROM a\n# escape=`", '\\');
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(read("# escape=x").is_err());
        let twice = read("# escape=`\n# escape=`").unwrap_err();
        assert_eq!(twice.place, Place { line: 2, column: 1 });
    }
}
