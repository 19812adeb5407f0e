//! `WWW-Authenticate`: what a registry wants to see before it answers.
//!
//! Source: RFC 9110, section 11.6.1; the registry token specification.

use std::collections::BTreeMap;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Names in lower case, values unquoted.
    pub(crate) params: BTreeMap<String, String>,
}

/// Reads the challenges of one header value, in order. What cannot be read is
/// passed over: a server may offer ways that we do not know.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = Cursor(header);
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        rest.skip(|c| c == ',' || c.is_ascii_whitespace());
        if rest.0.is_empty() {
            return challenges;
        }
        let name = rest.take(is_token).to_ascii_lowercase();
        if name.is_empty() {
            rest.skip_one();
            continue;
        }
        let before_space = rest.0;
        rest.skip(|c| c.is_ascii_whitespace());
        if !rest.0.starts_with('=') {
            rest.0 = before_space;
            challenges.push(Challenge {
                scheme: name,
                params: BTreeMap::new(),
            });
            continue;
        }
        rest.skip_one();
        rest.skip(|c| c.is_ascii_whitespace());
        let value = rest.value();
        if let Some(challenge) = challenges.last_mut() {
            challenge.params.entry(name).or_insert(value);
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        self.take(unwanted);
    }

    fn skip_one(&mut self) {
        let mut chars = self.0.chars();
        chars.next();
        self.0 = chars.as_str();
    }

    /// A token, or a quoted string in which `\` quotes the next character.
    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.take(is_token).to_owned();
        };
        let mut value = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                other => value.push(other),
            }
        }
        self.0 = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `scheme name=value …` per challenge.
    #[track_caller]
    fn check(header: &str, expected: &[&str]) {
        let found: Vec<String> = parse(header)
            .into_iter()
            .map(|challenge| {
                let params: String = challenge
                    .params
                    .iter()
                    .map(|(name, value)| format!(" {name}={value}"))
                    .collect();
                challenge.scheme + &params
            })
            .collect();
        assert_eq!(found, expected, "{header:?}");
    }

    #[test]
    fn challenges_are_read() {
        check(
            r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#,
            &["bearer realm=https://auth.example/token scope=repository:a/b:pull,push service=reg"],
        );
        check(
            r#"Basic realm="say \"please\"""#,
            &[r#"basic realm=say "please""#],
        );
        check("BASIC  Realm = x", &["basic realm=x"]);
        check(
            r#"Negotiate, Basic realm=x, Bearer realm="y""#,
            &["negotiate", "basic realm=x", "bearer realm=y"],
        );
        check("Negotiate abc==", &["negotiate abc="]);
        check("", &[]);
        check(r#"Bearer realm="no end"#, &["bearer realm=no end"]);
        check("=x, Bearer", &["x", "bearer"]);
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_its_end(header in "\\PC{0,60}|[a-c=\", \\\\]{0,40}") {
            prop_assert!(parse(&header).len() <= header.len());
        }
    }
}
