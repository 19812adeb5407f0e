//! The `--name=value` options between an instruction's name and its arguments.

use super::line::Line;
use super::text::{Mistake, nearest};
use super::word::{self, Word};

/// The options of one instruction. Each is taken by the name its instruction knows; what is left is a mistake.
#[derive(Debug)]
pub struct Flags<'a> {
    line: &'a Line,
    given: Vec<Flag<'a>>,
}

#[derive(Debug)]
struct Flag<'a> {
    name: &'a str,
    value: Option<&'a str>,
    offset: usize,
    width: usize,
}

impl<'a> Flags<'a> {
    /// Cuts the options off the words that follow the name at byte `start`; also says where the arguments begin.
    #[must_use]
    pub fn cut(line: &'a Line, start: usize, escape: char) -> (Self, usize) {
        let rest = line.text.get(start..).unwrap_or_default();
        let mut given = Vec::new();
        for Word { text, offset } in word::split(rest, escape) {
            let Some(flag) = text.strip_prefix("--") else {
                return (Self { line, given }, start + offset);
            };
            if flag.is_empty() {
                let after = &rest[offset + 2..];
                let blank = after.len() - after.trim_start().len();
                return (Self { line, given }, start + offset + 2 + blank);
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            given.push(Flag {
                name,
                value,
                offset: start + offset,
                width: text.chars().count(),
            });
        }
        (Self { line, given }, line.text.len())
    }

    /// The values of `name`, which may be given several times.
    ///
    /// # Errors
    /// One without a value.
    pub fn all(&mut self, name: &str) -> Result<Vec<String>, Mistake> {
        let mut values = Vec::new();
        let line = self.line;
        let (found, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|flag| flag.name == name);
        self.given = rest;
        for flag in found {
            let value = flag.value.ok_or_else(|| {
                let message = format!("--{name} needs a value: --{name}=…");
                line.mistake(flag.offset, flag.width, message)
            })?;
            values.push(value.to_owned());
        }
        Ok(values)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// One without a value, or several.
    pub fn one(&mut self, name: &str) -> Result<Option<String>, Mistake> {
        let second = self.given.iter().filter(|flag| flag.name == name).nth(1);
        if let Some(second) = second {
            let message = format!("--{name} is given twice");
            return Err(self.line.mistake(second.offset, second.width, message));
        }
        Ok(self.all(name)?.pop())
    }

    /// The switch `name`, also as `--name=true`.
    ///
    /// # Errors
    /// A value that is neither true nor false.
    pub fn switch(&mut self, name: &str) -> Result<Option<bool>, Mistake> {
        let Some(at) = self.given.iter().position(|flag| flag.name == name) else {
            return Ok(None);
        };
        let flag = self.given.remove(at);
        match flag.value {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                let message = format!("--{name}={other}: expected true or false");
                Err(self.line.mistake(flag.offset, flag.width, message))
            }
        }
    }

    /// Ends the taking: `known` are the names that were asked for.
    ///
    /// # Errors
    /// An option that nobody took.
    pub fn end(self, instruction: &str, known: &[&str]) -> Result<(), Mistake> {
        let Some(flag) = self.given.first() else {
            return Ok(());
        };
        let mut message = format!("{instruction} has no option --{}", flag.name);
        match nearest(flag.name, known) {
            Some(near) => message.push_str(&format!(" (did you mean --{near}?)")),
            None if known.is_empty() => message.push_str(": it takes none"),
            None => message.push_str(&format!(": expected one of --{}", known.join(", --"))),
        }
        Err(self.line.mistake(flag.offset, flag.width, message))
    }
}
