//! Text to selectors.

use std::iter::Peekable;
use std::str::Chars;

use super::{Selector, Test};

/// What is wrong with a filter, for the error's text.
type Fault = String;

/// A compiled expression may take this much memory: filters come from clients.
const PATTERN_LIMIT: usize = 1 << 20;

/// Parses one filter: selectors joined by commas; the empty text is none.
pub(super) fn selectors(text: &str) -> Result<Vec<Selector>, Fault> {
    let mut input = Input {
        chars: text.chars().peekable(),
        at: 0,
    };
    let mut selectors = Vec::new();
    if text.is_empty() {
        return Ok(selectors);
    }
    loop {
        selectors.push(input.selector()?);
        match input.next() {
            None => return Ok(selectors),
            // Clients write "type==x, id==y".
            Some(',') => input.skip_spaces(),
            Some(other) => {
                return Err(format!(
                    "expected \",\" at {}, found {other:?}",
                    input.at - 1
                ));
            }
        }
    }
}

struct Input<'a> {
    chars: Peekable<Chars<'a>>,
    at: usize,
}

impl Input<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.at += usize::from(next.is_some());
        next
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.chars.peek() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    fn selector(&mut self) -> Result<Selector, Fault> {
        let mut path = vec![self.field()?];
        while self.eat('.') {
            path.push(self.field()?);
        }
        let test = match self.chars.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.test()?,
        };
        Ok(Selector { path, test })
    }

    fn test(&mut self) -> Result<Test, Fault> {
        let (first, second) = (self.next(), self.next());
        match (first, second) {
            (Some('='), Some('=')) => Ok(Test::Equal(self.value()?)),
            (Some('!'), Some('=')) => Ok(Test::NotEqual(self.value()?)),
            (Some('~'), Some('=')) => {
                let pattern = self.value()?;
                let compiled = regex::RegexBuilder::new(&pattern)
                    .size_limit(PATTERN_LIMIT)
                    .build();
                compiled
                    .map(Test::Matches)
                    .map_err(|_| format!("not a regular expression: {pattern:?}"))
            }
            _ => Err(format!(
                "expected \"==\", \"!=\" or \"~=\" before {}",
                self.at
            )),
        }
    }

    fn field(&mut self) -> Result<String, Fault> {
        match self.chars.peek() {
            Some('"') => self.quoted('"'),
            _ => self.word(
                |c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '/',
                "a field name",
            ),
        }
    }

    fn value(&mut self) -> Result<String, Fault> {
        match self.chars.peek() {
            Some(&quote @ ('"' | '/' | '|')) => self.quoted(quote),
            _ => self.word(
                |c| {
                    !c.is_control()
                        && !c.is_whitespace()
                        && !matches!(c, ',' | '"' | '=' | '!' | '~')
                },
                "a value",
            ),
        }
    }

    fn skip_spaces(&mut self) {
        while self.chars.next_if(|c| c.is_ascii_whitespace()).is_some() {
            self.at += 1;
        }
    }

    fn word(&mut self, allowed: impl Fn(char) -> bool, what: &str) -> Result<String, Fault> {
        let mut word = String::new();
        while let Some(next) = self.chars.next_if(|&c| allowed(c)) {
            self.at += 1;
            word.push(next);
        }
        if word.is_empty() {
            return Err(format!("expected {what} at {}", self.at));
        }
        Ok(word)
    }

    /// Between quotes: `\` makes the next character plain; `\n` and `\t` are
    /// what they are elsewhere, and before other letters the backslash stays,
    /// as regular expressions need it.
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(format!("the quote at {start} is not closed")),
                Some(end) if end == quote => return Ok(text),
                Some('\\') => match self.next() {
                    None => return Err(format!("the quote at {start} is not closed")),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(escaped) if escaped == quote || escaped == '\\' => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                },
                Some(plain) => text.push(plain),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::{Fields, Filters};
    use proptest::prelude::*;

    struct Thing;

    impl Fields for Thing {
        fn field(&self, path: &[&str]) -> Option<String> {
            match path {
                ["name"] => Some("docker.io/library/busybox:latest".to_owned()),
                ["labels", rest @ ..] => (rest.join(".") == "io.x/y").then(|| "a \"b\"".to_owned()),
                _ => None,
            }
        }
    }

    #[track_caller]
    fn check(filters: &[&str], accepted: bool) {
        assert_eq!(
            Filters::parse(filters).unwrap().accept(&Thing),
            accepted,
            "{filters:?}"
        );
    }

    #[test]
    fn selectors_and_alternatives() {
        check(&[], true);
        check(&[""], true);
        check(&["name==docker.io/library/busybox:latest"], true);
        check(&["name==x"], false);
        check(&["name==x", "name~=busybox"], true);
        check(&["name~=/^docker\\.io\\/.*:latest$/"], true);
        check(&["name!=x,labels.\"io.x/y\""], true);
        check(&["name!=x,labels.none"], false);
        check(&["labels.none!=x"], true);
        check(&["labels.\"io.x/y\"==\"a \\\"b\\\"\""], true);
    }

    #[test]
    fn faults_are_told() {
        for bad in [
            "name=",
            "name==",
            "==x",
            "name~=\"(\"",
            "name==\"x",
            "name==a name==b",
            "name,",
            ",",
        ] {
            assert!(Filters::parse(&[bad]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}") {
            let _ = Filters::parse(&[&text]);
        }

        #[test]
        fn a_quoted_value_is_itself(value in "[^\\\\\"]{0,30}") {
            struct One(String);
            impl Fields for One {
                fn field(&self, _: &[&str]) -> Option<String> { Some(self.0.clone()) }
            }
            let filter = Filters::parse(&[format!("name==\"{value}\"")]).unwrap();
            prop_assert!(filter.accept(&One(value)));
        }
    }
}
