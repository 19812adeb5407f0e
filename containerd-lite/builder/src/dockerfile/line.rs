//! Lines as instructions see them: comments gone, continued lines joined, here-documents collected.

use super::text::{Mistake, Place};
use super::word;

/// One instruction's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The joined text, without white space at either end.
    pub text: String,
    /// The here-documents that it opens, in order.
    pub heredocs: Vec<Heredoc>,
    /// The last line of the file that belongs to it.
    pub last: usize,
    /// Where the pieces of `text` stand: the byte of `text`, and its place in the file.
    pieces: Vec<(usize, Place)>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its name: the word that ends it.
    pub name: String,
    /// Variables are expanded: the name was not quoted.
    pub expand: bool,
    /// Its lines, each with its newline.
    pub content: String,
}

impl Line {
    /// Where the character at byte `offset` of the text stands in the file.
    #[must_use]
    pub fn place(&self, offset: usize) -> Place {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= offset);
        let Some((start, place)) = piece.or_else(|| self.pieces.first()) else {
            return Place { line: 1, column: 1 };
        };
        let before = self.text.get(*start..offset).unwrap_or_default();
        Place {
            line: place.line,
            column: place.column + before.chars().count(),
        }
    }

    /// A mistake in the word of `width` characters at byte `offset`.
    #[must_use]
    pub fn mistake(&self, offset: usize, width: usize, message: impl Into<String>) -> Mistake {
        Mistake::new(self.place(offset), width, message)
    }
}

/// Instructions that take here-documents.
const WITH_HEREDOCS: [&str; 3] = ["RUN", "COPY", "ADD"];

/// Reads `text` into lines.
///
/// # Errors
/// A here-document that does not end.
pub fn read(text: &str, escape: char) -> Result<Vec<Line>, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = text.lines().enumerate();
    let mut lines = Vec::new();
    while let Some((index, raw)) = source.next() {
        if raw.trim().is_empty() || is_comment(raw) {
            continue;
        }
        let mut line = Line {
            text: String::new(),
            heredocs: Vec::new(),
            last: index + 1,
            pieces: Vec::new(),
        };
        let mut more = line.append(index, raw, escape);
        while more {
            // A comment between continued lines goes; so does an empty line.
            let Some((index, raw)) = source.next() else {
                break;
            };
            line.last = index + 1;
            if raw.trim().is_empty() || is_comment(raw) {
                continue;
            }
            more = line.append(index, raw, escape);
        }
        line.text.truncate(line.text.trim_end().len());
        for opened in opened(&line.text, escape) {
            let heredoc = collect(&opened, &line, &mut source)?;
            line.last = heredoc.1;
            line.heredocs.push(heredoc.0);
        }
        if !line.text.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

fn is_comment(raw: &str) -> bool {
    raw.trim_start().starts_with('#')
}

impl Line {
    /// Appends one line of the file; whether another one belongs to it.
    fn append(&mut self, index: usize, raw: &str, escape: char) -> bool {
        let whole = raw.strip_suffix('\r').unwrap_or(raw);
        let bare = if self.text.is_empty() {
            whole.trim_start()
        } else {
            whole
        };
        let skipped = whole.len() - bare.len();
        let column = whole[..skipped].chars().count() + 1;
        self.pieces.push((
            self.text.len(),
            Place {
                line: index + 1,
                column,
            },
        ));
        let ended = bare.trim_end_matches([' ', '\t']);
        // Two escapes at the end are one escaped escape, and continue nothing.
        let escapes = ended.chars().rev().take_while(|c| *c == escape).count();
        if escapes == 1 {
            self.text
                .push_str(ended.strip_suffix(escape).unwrap_or(ended));
            return true;
        }
        self.text.push_str(bare);
        false
    }
}

/// A here-document's opening word.
struct Opened {
    name: String,
    expand: bool,
    strip_tabs: bool,
    offset: usize,
    width: usize,
}

/// The here-documents that `text` opens.
fn opened(text: &str, escape: char) -> Vec<Opened> {
    let mut words = word::split(text, escape).into_iter().peekable();
    let is = |word: &word::Word<'_>, name: &str| word.text.eq_ignore_ascii_case(name);
    let compound = words.next_if(|word| is(word, "ONBUILD")).is_some();
    let takes = words.next_if(|word| WITH_HEREDOCS.iter().any(|name| is(word, name)));
    if takes.is_none() || (compound && words.peek().is_none()) {
        return Vec::new();
    }
    words.filter_map(|word| open(&word, escape)).collect()
}

fn open(word: &word::Word<'_>, escape: char) -> Option<Opened> {
    let rest = word.text.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, raw) = match rest.strip_prefix('-') {
        Some(raw) => (true, raw),
        None => (false, rest),
    };
    if raw.is_empty() || raw.contains('<') {
        return None;
    }
    let name = word::expand(raw, escape, &|_| None).ok()?;
    (!name.is_empty()).then(|| Opened {
        expand: !raw.contains(['"', '\'']),
        name,
        strip_tabs,
        offset: word.offset,
        width: word.text.chars().count(),
    })
}

fn collect<'a>(
    opened: &Opened,
    line: &Line,
    source: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<(Heredoc, usize), Mistake> {
    let mut content = String::new();
    for (index, raw) in source.by_ref() {
        let text = if opened.strip_tabs {
            raw.trim_start_matches('\t')
        } else {
            raw
        };
        if text == opened.name {
            let heredoc = Heredoc {
                name: opened.name.clone(),
                expand: opened.expand,
                content,
            };
            return Ok((heredoc, index + 1));
        }
        content.push_str(text);
        content.push('\n');
    }
    let message = format!(
        "here-document {name} does not end: expected a line with {name} alone",
        name = opened.name
    );
    Err(line.mistake(opened.offset, opened.width, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let lines = read(text, '\\').unwrap();
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, want, "{text:?}");
    }

    #[test]
    fn comments_go_and_continued_lines_join() {
        check("# c\n\nFROM a\n  # c\nRUN b", &["FROM a", "RUN b"]);
        check("RUN a \\\n  b", &["RUN a   b"]);
        check("RUN a \\  \n  b", &["RUN a   b"]);
        check("RUN a \\\n# c\n\n  && b\nCMD x", &["RUN a   && b", "CMD x"]);
        check("RUN a \\\\\nCMD x", &["RUN a \\\\", "CMD x"]);
        check("  FROM a  ", &["FROM a"]);
        check("FROM a\r\nRUN b \\\r\n c\r\n", &["FROM a", "RUN b  c"]);
        check("\u{feff}FROM a", &["FROM a"]);
        check("RUN a \\", &["RUN a"]);
        check("RUN a # no comment", &["RUN a # no comment"]);
    }

    #[test]
    fn another_escape_leaves_backslashes_alone() {
        let lines = read("RUN c:\\\nRUN a `\n b", '`').unwrap();
        assert_eq!(lines[0].text, "RUN c:\\");
        assert_eq!(lines[1].text, "RUN a  b");
    }

    #[test]
    fn a_place_is_known_after_joining() {
        let line = &read("\n  RUN a \\\n\tbé c", '\\').unwrap()[0];
        assert_eq!(line.place(0), Place { line: 2, column: 3 });
        let at = line.text.find('c').unwrap();
        assert_eq!(line.place(at), Place { line: 3, column: 5 });
    }

    #[test]
    fn here_documents_are_collected() {
        let text = "RUN <<A cat <<-'B'\n$x\nA\n\ttwo\n\tB\nCMD y";
        let lines = read(text, '\\').unwrap();
        assert_eq!(lines[0].text, "RUN <<A cat <<-'B'");
        assert_eq!(
            lines[0].heredocs,
            [
                Heredoc {
                    name: "A".to_owned(),
                    expand: true,
                    content: "$x\n".to_owned()
                },
                Heredoc {
                    name: "B".to_owned(),
                    expand: false,
                    content: "two\n".to_owned()
                },
            ]
        );
        assert_eq!((lines[0].last, lines[1].text.as_str()), (5, "CMD y"));
    }

    #[test]
    fn only_some_instructions_take_them() {
        check("CMD cat <<A", &["CMD cat <<A"]);
        check("RUN cat <<<word", &["RUN cat <<<word"]);
        let onbuild = read("ONBUILD COPY <<A /a\nx\nA", '\\').unwrap();
        assert_eq!(onbuild[0].heredocs[0].content, "x\n");
    }

    #[test]
    fn one_that_does_not_end_is_shown() {
        let mistake = read("FROM a\nRUN cat <<END\nx", '\\').unwrap_err();
        assert_eq!(mistake.place, Place { line: 2, column: 9 });
        assert_eq!(mistake.width, 5);
    }
}
