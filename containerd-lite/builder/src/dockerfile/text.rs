//! Places in a Dockerfile, and mistakes shown under their line.

use std::fmt;

/// Where something stands. Lines and columns count from one; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

/// A mistake of whoever wrote the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// How many characters it takes, at least one.
    pub width: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl Mistake {
    /// A mistake at `place`, over `width` characters.
    pub fn new(place: Place, width: usize, message: impl Into<String>) -> Self {
        Self {
            place,
            width: width.max(1),
            message: message.into(),
        }
    }

    /// The mistake for a person: file, line and column, then the line with the spot underlined.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        let head = format!("{file}:{self}");
        let Some(line) = text.lines().nth(self.place.line.saturating_sub(1)) else {
            return head;
        };
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        let before = self.place.column.saturating_sub(1);
        // Tabs stay tabs, so that the mark stands below what it means.
        let lead: String = line
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = line.chars().count().saturating_sub(before).max(1);
        let mark = "^".repeat(self.width.min(room));
        format!("{head}\n {number} | {line}\n {margin} | {lead}{mark}")
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}",
            self.place.line, self.place.column, self.message
        )
    }
}

impl std::error::Error for Mistake {}

/// The name in `known` that `typed` was probably meant to be: at most two changed letters away.
#[must_use]
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    known
        .iter()
        .map(|name| (distance(&typed, &name.to_ascii_lowercase()), *name))
        .filter(|(far, name)| *far <= 2 && *far < name.len())
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != *y)).min(above.min(row[j]) + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_under_its_line() {
        let mistake = Mistake::new(Place { line: 2, column: 2 }, 4, "unknown instruction RUNN");
        assert_eq!(
            mistake.render("Dockerfile", "FROM a\n\tRUNN x\n"),
            "Dockerfile:2:2: unknown instruction RUNN\n 2 | \tRUNN x\n   | \t^^^^"
        );
    }

    #[test]
    fn a_mark_never_runs_past_the_line() {
        let mistake = Mistake::new(Place { line: 1, column: 5 }, 99, "x");
        assert!(mistake.render("D", "FROM").ends_with("     ^"));
        assert_eq!(
            Mistake::new(Place { line: 9, column: 1 }, 1, "x").render("D", ""),
            "D:9:1: x"
        );
    }

    #[test]
    fn a_typing_mistake_finds_its_word() {
        let known = ["RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(nearest("RUNN", &known), Some("RUN"));
        assert_eq!(nearest("cpoy", &known), Some("COPY"));
        assert_eq!(nearest("ENTRYPIONT", &known), Some("ENTRYPOINT"));
        assert_eq!(nearest("XYZABC", &known), None);
    }
}
