//! Words of a line: splitting, quotes, and variables by the rules of a shell.
//!
//! [`split`] cuts a line at white space outside quotes and keeps quotes as they are. [`expand`] makes one string of a word:
//! variables replaced, quotes and escapes removed. [`expand_fields`] may make several, cut at white space that was not quoted,
//! also that of a variable's value. [`expand_text`] is for here-documents, where quotes mean nothing.

use std::fmt;

/// A word as it stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its text, quotes included.
    pub text: &'a str,
    /// Its first byte's place in the line.
    pub offset: usize,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadWord(pub String);

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadWord {}

/// The value of a variable; `None` if it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Cuts `line` at white space outside quotes. A quote that never closes reaches to the end.
#[must_use]
pub fn split(line: &str, escape: char) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(start) = start.take() {
                words.push(word(line, start, at));
            }
            continue;
        }
        start.get_or_insert(at);
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None | Some('"') if c == escape => {
                chars.next();
            }
            _ => {}
        }
    }
    if let Some(start) = start {
        words.push(word(line, start, line.len()));
    }
    words
}

fn word(line: &str, start: usize, end: usize) -> Word<'_> {
    Word {
        text: &line[start..end],
        offset: start,
    }
}

/// Expands `word` to one string.
///
/// # Errors
/// A quote or brace that does not close, a modifier that does not exist, `${name:?text}` of an unset name.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, BadWord> {
    Expansion::new(word, escape, lookup, true).whole()
}

/// Expands `text` of a here-document: quotes are ordinary characters.
///
/// # Errors
/// As [`expand`].
pub fn expand_text(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, BadWord> {
    Expansion::new(text, escape, lookup, false).whole()
}

/// Expands `word` and cuts the result at white space that was not quoted.
///
/// # Errors
/// As [`expand`].
pub fn expand_fields(word: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, BadWord> {
    let mut expansion = Expansion::new(word, escape, lookup, true);
    expansion.until(None, false)?;
    expansion.fields.end();
    Ok(expansion.fields.done)
}

/// Longest value that a pattern is tried on: trying is quadratic.
const LONGEST_FOR_PATTERN: usize = 4096;

/// How deep `${a:-${b:-…}}` may go.
const DEEPEST: usize = 64;

struct Expansion<'a> {
    chars: std::iter::Peekable<std::vec::IntoIter<char>>,
    escape: char,
    lookup: Lookup<'a>,
    quotes: bool,
    fields: Fields,
    depth: usize,
}

/// The result as separate strings.
#[derive(Default)]
struct Fields {
    done: Vec<String>,
    current: String,
    /// A pair of quotes makes a field even with nothing in it.
    quoted: bool,
}

impl Fields {
    fn loose(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.end();
            } else {
                self.current.push(c);
            }
        }
    }

    fn quoted(&mut self, text: &str) {
        self.quoted = true;
        self.current.push_str(text);
    }

    fn end(&mut self) {
        if self.quoted || !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
        self.quoted = false;
    }
}

impl<'a> Expansion<'a> {
    fn new(text: &str, escape: char, lookup: Lookup<'a>, quotes: bool) -> Self {
        Self {
            chars: text.chars().collect::<Vec<_>>().into_iter().peekable(),
            escape,
            lookup,
            quotes,
            fields: Fields::default(),
            depth: 0,
        }
    }

    fn whole(mut self) -> Result<String, BadWord> {
        self.until(None, false)
    }

    /// Everything up to `stop`, which is consumed, or to the end. With `raw`, escapes stay for a pattern to read.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<String, BadWord> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' if self.quotes => {
                    let text = self.single_quoted()?;
                    self.fields.quoted(&text);
                    out.push_str(&text);
                }
                '"' if self.quotes => {
                    let text = self.double_quoted()?;
                    self.fields.quoted(&text);
                    out.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    self.fields.loose(&text);
                    out.push_str(&text);
                }
                c if c == self.escape => {
                    if raw {
                        out.push('\\');
                    }
                    if let Some(next) = self.chars.next() {
                        self.fields.quoted(&next.to_string());
                        out.push(next);
                    }
                }
                c => {
                    self.fields.loose(c.encode_utf8(&mut [0; 4]));
                    out.push(c);
                }
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(BadWord(format!("a {stop:?} is missing"))),
        }
    }

    fn single_quoted(&mut self) -> Result<String, BadWord> {
        let mut out = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(out);
            }
            out.push(c);
        }
        Err(BadWord("a single quote is not closed".to_owned()))
    }

    fn double_quoted(&mut self) -> Result<String, BadWord> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(out),
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => match self.chars.next() {
                    // Only what means something here is escaped.
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        out.push(next);
                    }
                    Some(next) => out.extend([c, next]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(BadWord("a double quote is not closed".to_owned()))
    }

    /// What follows a dollar sign.
    fn dollar(&mut self) -> Result<String, BadWord> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(match name.as_str() {
                "" => "$".to_owned(),
                name => (self.lookup)(name).unwrap_or_default(),
            });
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(BadWord(format!(
                "variables nest deeper than {DEEPEST} levels"
            )));
        }
        // What stands inside the braces makes no fields of its own.
        let fields = std::mem::take(&mut self.fields);
        let value = self.braces();
        self.fields = fields;
        self.depth -= 1;
        value
    }

    fn braces(&mut self) -> Result<String, BadWord> {
        let name = self.name();
        if name.is_empty() {
            return Err(BadWord("a variable's name is missing after ${".to_owned()));
        }
        let value = (self.lookup)(&name);
        match self.chars.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.chars.next();
                let value = value.filter(|value| !value.is_empty());
                self.default(&name, modifier, value, "empty")
            }
            Some(modifier @ ('-' | '+' | '?')) => {
                self.default(&name, Some(modifier), value, "unset")
            }
            Some(end @ ('#' | '%')) => {
                let longest = self.chars.next_if_eq(&end).is_some();
                let pattern = self.until(Some('}'), true)?;
                trim(&value.unwrap_or_default(), end, longest, &pattern)
            }
            Some('/') => {
                let all = self.chars.next_if_eq(&'/').is_some();
                let pattern = self.until(Some('/'), true)?;
                let with = self.until(Some('}'), false)?;
                replace(&value.unwrap_or_default(), all, &pattern, &with)
            }
            Some(other) => Err(BadWord(format!(
                "unsupported modifier {other:?} in ${{{name}…}}"
            ))),
            None => Err(BadWord("a '}' is missing".to_owned())),
        }
    }

    fn default(
        &mut self,
        name: &str,
        modifier: Option<char>,
        value: Option<String>,
        what: &str,
    ) -> Result<String, BadWord> {
        let word = self.until(Some('}'), false)?;
        match modifier {
            Some('-') => Ok(value.unwrap_or(word)),
            Some('+') => Ok(value.map(|_| word).unwrap_or_default()),
            Some('?') => value.ok_or_else(|| {
                BadWord(match word.as_str() {
                    "" => format!("{name}: is not allowed to be {what}"),
                    said => format!("{name}: {said}"),
                })
            }),
            other => Err(BadWord(format!(
                "unsupported modifier {:?} in ${{{name}…}}",
                other.map(|c| format!(":{c}")).unwrap_or_default()
            ))),
        }
    }

    /// A name, a number, or one of the shell's special parameters; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(first) = self.chars.peek().copied() else {
            return name;
        };
        if "@*#?-!0$".contains(first) {
            self.chars.next();
            return first.to_string();
        }
        let belongs = |c: &char| {
            if first.is_ascii_digit() {
                c.is_ascii_digit()
            } else {
                *c == '_' || c.is_alphanumeric()
            }
        };
        while let Some(c) = self.chars.next_if(belongs) {
            name.push(c);
        }
        name
    }
}

/// One part of a shell pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(char),
}

fn pattern(text: &str) -> Vec<Part> {
    let mut chars = text.chars();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Exactly(chars.next().unwrap_or('\\')),
            c => Part::Exactly(c),
        });
    }
    parts
}

/// For each prefix of `text`, whether `parts` match it whole.
fn prefixes(parts: &[Part], text: &[char]) -> Vec<bool> {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for part in parts {
        match part {
            Part::Any => {
                let first = row.iter().position(|hit| *hit).unwrap_or(row.len());
                row[first..].fill(true);
            }
            Part::One | Part::Exactly(_) => {
                for i in (0..text.len()).rev() {
                    row[i + 1] = row[i] && (*part == Part::One || *part == Part::Exactly(text[i]));
                }
                row[0] = false;
            }
        }
    }
    row
}

fn checked(value: &str) -> Result<Vec<char>, BadWord> {
    let chars: Vec<char> = value.chars().collect();
    if chars.len() > LONGEST_FOR_PATTERN {
        return Err(BadWord(format!(
            "a value of {} characters is too long for a pattern: at most {LONGEST_FOR_PATTERN}",
            chars.len()
        )));
    }
    Ok(chars)
}

fn trim(value: &str, end: char, longest: bool, text: &str) -> Result<String, BadWord> {
    let mut chars = checked(value)?;
    let mut parts = pattern(text);
    if end == '%' {
        chars.reverse();
        parts.reverse();
    }
    let hits = prefixes(&parts, &chars);
    let cut = if longest {
        hits.iter().rposition(|hit| *hit)
    } else {
        hits.iter().position(|hit| *hit)
    };
    let rest = &chars[cut.unwrap_or(0)..];
    Ok(if end == '%' {
        rest.iter().rev().collect()
    } else {
        rest.iter().collect()
    })
}

fn replace(value: &str, all: bool, text: &str, with: &str) -> Result<String, BadWord> {
    let chars = checked(value)?;
    let parts = pattern(text);
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let hits = prefixes(&parts, &chars[at..]);
        match hits.iter().rposition(|hit| *hit) {
            Some(length) if length > 0 => {
                out.push_str(with);
                at += length;
                if !all {
                    break;
                }
            }
            _ => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out.extend(&chars[at..]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "a" => "alpha",
            "empty" => "",
            "list" => "x  y",
            "path" => "usr/local/bin",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[track_caller]
    fn check(word: &str, want: &str) {
        assert_eq!(expand(word, '\\', &env), Ok(want.to_owned()), "{word}");
    }

    #[test]
    fn words_keep_their_quotes() {
        let texts = |line| {
            split(line, '\\')
                .iter()
                .map(|word| word.text)
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("a  b\tc"), ["a", "b", "c"]);
        assert_eq!(texts(r#"k="a b" c"#), [r#"k="a b""#, "c"]);
        assert_eq!(texts(r"a\ b 'c\' d"), [r"a\ b", r"'c\'", "d"]);
        assert_eq!(texts("open 'to the end"), ["open", "'to the end"]);
        assert_eq!(texts("  "), [""; 0]);
        assert_eq!(split(" ab", '\\')[0].offset, 1);
    }

    #[test]
    fn quotes_and_escapes_go() {
        check(r#""a b"c'd $a'"#, "a bcd $a");
        check(r"a\ b\$a", "a b$a");
        check(r#""\$a \" \n""#, "$a \" \\n");
        check("'é'ü", "éü");
        assert_eq!(expand("c:\\x`$a", '`', &env), Ok("c:\\x$a".to_owned()));
        assert!(expand("'a", '\\', &env).is_err());
        assert!(expand("\"a", '\\', &env).is_err());
    }

    #[test]
    fn variables_in_all_their_forms() {
        check("$a-${a}", "alpha-alpha");
        check("$none|${none}|$", "||$");
        check("${none:-d}${empty:-d}${empty-d}${a:-d}", "ddalpha");
        check("${none+d}${empty+d}${empty:+d}${a:+d}", "dd");
        check("${none:-${a}}", "alpha");
        check("${none:-\"q q\"}", "q q");
        check("${path#*/}|${path##*/}", "local/bin|bin");
        check("${path%/*}|${path%%/*}", "usr/local|usr");
        check("${path/l?c/X}|${path//\\//-}", "usr/Xal/bin|usr-local-bin");
        check("${a/*/x}", "x");
        check("$1$@", "");
    }

    #[test]
    fn what_must_be_set_says_so() {
        let fails = |word| expand(word, '\\', &env).unwrap_err().to_string();
        assert_eq!(fails("${none:?needed}"), "none: needed");
        assert_eq!(fails("${empty:?}"), "empty: is not allowed to be empty");
        assert_eq!(fails("${none?}"), "none: is not allowed to be unset");
        assert!(fails("${a:x}").contains("unsupported modifier"));
        assert!(fails("${a").contains("missing"));
        assert!(fails("${}").contains("name is missing"));
        assert!(fails(&"${a:-".repeat(500)).contains("deeper"));
    }

    #[test]
    fn fields_are_cut_where_nothing_is_quoted() {
        let fields = |word| expand_fields(word, '\\', &env).unwrap();
        assert_eq!(fields("$list z"), ["x", "y", "z"]);
        assert_eq!(fields("\"$list\" ''"), ["x  y", ""]);
        assert_eq!(fields("$none"), [""; 0]);
    }

    #[test]
    fn here_documents_keep_quotes() {
        let text = expand_text("\"$a\" 'b' \\$a", '\\', &env).unwrap();
        assert_eq!(text, "\"alpha\" 'b' $a");
    }
}
