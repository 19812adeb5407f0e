//! Properties out of annotations: `org.systemd.property.NAME` with a value in GVariant's text form.
//!
//! The part of that form that unit properties are written in: `true`, `'text'`, `12`, `uint64 12`, `1.5`, `['a', 'b']`,
//! `('a', 1)`, `@as []`. A name that ends in `Sec` counts seconds, and systemd's own counts microseconds.

use crate::dbus::Value;
use crate::{Error, Result};

const PREFIX: &str = "org.systemd.property.";

/// How deep lists may lie in one another.
const MAX_DEPTH: usize = 8;

/// One property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    pub(super) name: String,
    pub(super) value: Value,
}

impl Property {
    /// The property that an annotation names; `None` for one about something else.
    ///
    /// # Errors
    /// If the name is none of a property, or the value none in the form that is expected.
    pub fn from_annotation(key: &str, value: &str) -> Result<Option<Self>> {
        let Some(name) = key.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(Error::refused(format!(
                "annotation {key}: invalid name of a systemd property"
            )));
        }
        let wrong = || {
            Error::refused(format!(
                "annotation {key}: expected a value as in 'text', true, 12, uint64 12 or ['a', 'b'], got {value:?}"
            ))
        };
        let parsed = parse(value).ok_or_else(wrong)?;
        let property = match name.strip_suffix("Sec") {
            Some(stem) if !name.ends_with("USec") => Self {
                name: format!("{stem}USec"),
                value: Value::U64(microseconds(&parsed).ok_or_else(wrong)?),
            },
            _ => Self {
                name: name.to_owned(),
                value: parsed,
            },
        };
        Ok(Some(property))
    }
}

fn microseconds(seconds: &Value) -> Option<u64> {
    let whole = match seconds {
        Value::Byte(n) => u64::from(*n),
        Value::U32(n) => u64::from(*n),
        Value::U64(n) => *n,
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::I64(n) => u64::try_from(*n).ok()?,
        Value::F64(n) if *n >= 0.0 && *n < 1e12 => return Some((n * 1e6).round() as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.rest.trim().is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value, of this type if one is given.
    fn value(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.eat('@') {
            let end = self.rest.find(char::is_whitespace)?;
            let (kind, rest) = self.rest.split_at(end);
            self.rest = rest;
            return self.value(Some(kind), depth + 1);
        }
        if self.eat('[') {
            return self.list(kind, depth);
        }
        if self.eat('(') {
            let mut fields = Vec::new();
            while !self.eat(')') {
                if !fields.is_empty() && !self.eat(',') {
                    return None;
                }
                if self.eat(')') {
                    break;
                }
                fields.push(self.value(None, depth + 1)?);
            }
            return Some(Value::Struct(fields));
        }
        for quote in ['\'', '"'] {
            if self.eat(quote) {
                return self.text(quote, kind);
            }
        }
        let word = self.word();
        let named = match word {
            "boolean" => "b",
            "byte" => "y",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => return scalar(word, kind),
        };
        self.value(Some(named), depth + 1)
    }

    fn list(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let element = kind.and_then(|k| k.strip_prefix('a'));
        let mut items: Vec<Value> = Vec::new();
        while !self.eat(']') {
            if !items.is_empty() && !self.eat(',') {
                return None;
            }
            // The first says what the others are.
            let first = items.first().map(Value::signature);
            items.push(self.value(element.or(first.as_deref()), depth + 1)?);
        }
        let signature = match (element, items.first()) {
            (Some(element), _) => element.to_owned(),
            (None, Some(first)) => first.signature(),
            (None, None) => return None,
        };
        items
            .iter()
            .all(|item| item.signature() == signature)
            .then_some(Value::Array(signature, items))
    }

    fn text(&mut self, quote: char, kind: Option<&str>) -> Option<Value> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => out.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(match kind {
                        None | Some("s") => Value::Str(out),
                        Some("o") => Value::Path(out),
                        Some("g") => Value::Signature(out),
                        _ => return None,
                    });
                }
                c => out.push(c),
            }
        }
        None
    }
}

fn scalar(word: &str, kind: Option<&str>) -> Option<Value> {
    let truth = match word {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    if let (Some(truth), None | Some("b")) = (truth, kind) {
        return Some(Value::Bool(truth));
    }
    let number = |word: &str| -> Option<i128> {
        match word.strip_prefix("0x") {
            Some(digits) => i128::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        }
    };
    Some(match kind {
        None if word.contains('.') => Value::F64(word.parse().ok()?),
        None | Some("i") => Value::I32(number(word)?.try_into().ok()?),
        Some("d") => Value::F64(word.parse().ok()?),
        Some("y") => Value::Byte(number(word)?.try_into().ok()?),
        Some("u") => Value::U32(number(word)?.try_into().ok()?),
        Some("x") => Value::I64(number(word)?.try_into().ok()?),
        Some("t") => Value::U64(number(word)?.try_into().ok()?),
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_they_are_written_with() {
        let text = |t: &str| Value::Str(t.to_owned());
        for (written, wanted) in [
            ("true", Value::Bool(true)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            (r#""it's""#, text("it's")),
            ("12", Value::I32(12)),
            ("uint64 123000000", Value::U64(123_000_000)),
            ("byte 0x1f", Value::Byte(31)),
            ("1.5", Value::F64(1.5)),
            (
                "['a', 'b']",
                Value::Array("s".to_owned(), vec![text("a"), text("b")]),
            ),
            ("@as []", Value::Array("s".to_owned(), Vec::new())),
            ("@t 5", Value::U64(5)),
            (
                "[('/dev/null', 'rw')]",
                Value::Array(
                    "(ss)".to_owned(),
                    vec![Value::Struct(vec![text("/dev/null"), text("rw")])],
                ),
            ),
        ] {
            assert_eq!(parse(written), Some(wanted), "{written}");
        }
        for wrong in [
            "",
            "'open",
            "[]",
            "[1, 'a']",
            "uint32 -1",
            "yes",
            "1 2",
            "(1",
            "@as 5",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }

    #[test]
    fn seconds_become_microseconds() {
        let of = |key: &str, value: &str| Property::from_annotation(key, value).unwrap();
        let property = of("org.systemd.property.TimeoutStopSec", "1.5").unwrap();
        assert_eq!(property.name, "TimeoutStopUSec");
        assert_eq!(property.value, Value::U64(1_500_000));
        let property = of("org.systemd.property.TimeoutStopUSec", "uint64 7").unwrap();
        assert_eq!(property.value, Value::U64(7));
        assert_eq!(of("org.example.x", "anything"), None);
        assert!(Property::from_annotation("org.systemd.property.A-b", "1").is_err());
        assert!(Property::from_annotation("org.systemd.property.Some", "?").is_err());
    }
}
