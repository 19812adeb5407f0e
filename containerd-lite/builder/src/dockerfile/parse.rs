//! Reads lines into instructions.

use super::directive;
use super::flag::Flags;
use super::instruction::{
    Command, Copy, From, Healthcheck, Instruction, Located, NAMES, Run, Script, Source,
};
use super::line::{self, Line};
use super::text::{Mistake, nearest};
use super::word::{self, Word};
use super::{Dockerfile, text::Place};

/// Reads a whole Dockerfile.
///
/// # Errors
/// The first mistake in it.
pub fn parse(text: &str) -> Result<Dockerfile, Mistake> {
    let escape = directive::read(text)?.escape;
    let mut instructions = Vec::new();
    let mut warnings = Vec::new();
    let mut in_stage = false;
    for line in line::read(text, escape)? {
        let parsed = instruction(&line, escape, &mut warnings)?;
        in_stage |= matches!(parsed.value, Instruction::From(_));
        if !in_stage && !matches!(parsed.value, Instruction::Arg(_)) {
            let name = parsed.value.name();
            let message =
                format!("{name} stands before the first FROM: only ARG may, expected FROM");
            return Err(line.mistake(0, name.len(), message));
        }
        instructions.push(parsed);
    }
    if !in_stage {
        let place = Place { line: 1, column: 1 };
        let message = if instructions.is_empty() {
            "the Dockerfile is empty: expected FROM"
        } else {
            "the Dockerfile has no FROM: expected one after the ARGs"
        };
        return Err(Mistake::new(place, 1, message));
    }
    Ok(Dockerfile {
        escape,
        instructions,
        warnings,
    })
}

/// Reads the one instruction in `text`: a trigger that an image carries.
///
/// # Errors
/// A mistake in it; no or several instructions; one that cannot be a trigger.
pub fn trigger(text: &str) -> Result<Located<Instruction>, Mistake> {
    let lines = line::read(text, '\\')?;
    let [line] = lines.as_slice() else {
        let place = Place { line: 1, column: 1 };
        return Err(Mistake::new(place, 1, "expected one instruction"));
    };
    let parsed = instruction(line, '\\', &mut Vec::new())?;
    may_be_trigger(line, 0, &parsed.value)?;
    Ok(parsed)
}

/// Reads lines that change nothing but an image's configuration, outside any
/// build: what `commit --change` and `import --change` take.
///
/// # Errors
/// A mistake in them, or an instruction that changes more, by its line.
pub fn changes(text: &str) -> Result<Vec<Located<Instruction>>, Mistake> {
    let mut all = Vec::new();
    for line in line::read(text, '\\')? {
        let parsed = instruction(&line, '\\', &mut Vec::new())?;
        match parsed.value {
            Instruction::From(_)
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Arg(_)
            | Instruction::Shell(_)
            | Instruction::Maintainer(_) => {
                let name = parsed.value.name();
                let message = format!("{name} is not a valid change command");
                return Err(line.mistake(0, name.len(), message));
            }
            _ => all.push(parsed),
        }
    }
    Ok(all)
}

fn may_be_trigger(line: &Line, offset: usize, found: &Instruction) -> Result<(), Mistake> {
    match found {
        Instruction::Onbuild(_) | Instruction::From(_) | Instruction::Maintainer(_) => {
            let name = found.name();
            let message = format!("{name} cannot be a trigger of ONBUILD");
            Err(line.mistake(offset, name.len(), message))
        }
        _ => Ok(()),
    }
}

fn instruction(
    line: &Line,
    escape: char,
    warnings: &mut Vec<Mistake>,
) -> Result<Located<Instruction>, Mistake> {
    let value = at(line, 0, escape, warnings)?;
    Ok(Located {
        place: line.place(0),
        last_line: line.last,
        text: line.text.clone(),
        value,
    })
}

/// The rest of a line after its options, while it is being read.
struct Reader<'a> {
    line: &'a Line,
    name: &'a str,
    escape: char,
    /// Where the instruction begins: not at zero behind ONBUILD.
    begin: usize,
    /// Where its arguments begin.
    start: usize,
}

fn at(
    line: &Line,
    begin: usize,
    escape: char,
    warnings: &mut Vec<Mistake>,
) -> Result<Instruction, Mistake> {
    let typed = line.text[begin..]
        .split_whitespace()
        .next()
        .unwrap_or_default();
    let name = typed.to_ascii_uppercase();
    if !NAMES.contains(&name.as_str()) {
        let hint = match nearest(typed, &NAMES) {
            Some(near) => format!(" (did you mean {near}?)"),
            None => format!(": expected one of {}", NAMES.join(", ")),
        };
        let message = format!("unknown instruction {typed:?}{hint}");
        return Err(line.mistake(begin, typed.chars().count(), message));
    }
    let (mut flags, start) = match name.as_str() {
        // Their arguments are another instruction, or may begin with dashes.
        "ONBUILD" | "ENV" | "LABEL" | "ARG" | "CMD" | "ENTRYPOINT" | "SHELL" | "EXPOSE"
        | "USER" | "WORKDIR" | "VOLUME" | "STOPSIGNAL" | "MAINTAINER" => {
            let rest = &line.text[begin + typed.len()..];
            let blank = rest.len() - rest.trim_start().len();
            (None, begin + typed.len() + blank)
        }
        _ => {
            let (flags, start) = Flags::cut(line, begin + typed.len(), escape);
            (Some(flags), start)
        }
    };
    let reader = Reader {
        line,
        name: &name,
        escape,
        begin,
        start,
    };
    if reader.rest().is_empty() {
        return Err(reader.wrong("an argument is missing"));
    }
    reader.doubt(warnings);
    match (name.as_str(), flags.take()) {
        ("FROM", Some(flags)) => reader.from(flags),
        ("RUN", Some(flags)) => reader.run(flags),
        ("COPY" | "ADD", Some(flags)) => reader.copy(flags),
        ("HEALTHCHECK", Some(flags)) => reader.healthcheck(flags),
        ("ONBUILD", _) => reader.onbuild(warnings),
        _ => reader.simple(),
    }
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.line.text.get(self.start..).unwrap_or_default()
    }

    fn words(&self) -> Vec<Word<'a>> {
        word::split(self.rest(), self.escape)
    }

    /// A mistake of the instruction as a whole.
    fn wrong(&self, what: &str) -> Mistake {
        let message = format!("{}: {what}", self.name);
        self.line.mistake(self.begin, self.name.len(), message)
    }

    /// A mistake in one word.
    fn wrong_word(&self, word: &Word<'_>, what: &str) -> Mistake {
        let message = format!("{}: {what}", self.name);
        let width = word.text.chars().count();
        self.line.mistake(self.start + word.offset, width, message)
    }

    /// A list that is nearly JSON is taken as text; whoever wrote it should know.
    fn doubt(&self, warnings: &mut Vec<Mistake>) {
        let rest = self.rest();
        if rest.starts_with('[') && rest.ends_with(']') && json(rest).is_none() {
            let message = format!(
                "{}: this is no JSON array of strings (they need double quotes), and is taken as text",
                self.name
            );
            let width = rest.chars().count();
            warnings.push(self.line.mistake(self.start, width, message));
        }
    }

    fn simple(&self) -> Result<Instruction, Mistake> {
        let rest = self.rest().to_owned();
        Ok(match self.name {
            "WORKDIR" => Instruction::Workdir(rest),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "EXPOSE" => Instruction::Expose(self.texts()),
            "CMD" => Instruction::Cmd(self.command()),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()),
            "VOLUME" => Instruction::Volume(self.list()),
            "USER" => Instruction::User(self.single(rest)?),
            "STOPSIGNAL" => Instruction::StopSignal(self.single(rest)?),
            "SHELL" => Instruction::Shell(json(&rest).filter(|list| !list.is_empty()).ok_or_else(
                || self.wrong("expected a JSON array of strings, such as [\"/bin/bash\", \"-c\"]"),
            )?),
            _ => Instruction::Maintainer(rest),
        })
    }

    fn single(&self, rest: String) -> Result<String, Mistake> {
        match self.words().get(1) {
            Some(second) => Err(self.wrong_word(second, "expected exactly one argument")),
            None => Ok(rest),
        }
    }

    fn texts(&self) -> Vec<String> {
        self.words()
            .into_iter()
            .map(|word| word.text.to_owned())
            .collect()
    }

    fn list(&self) -> Vec<String> {
        json(self.rest()).unwrap_or_else(|| self.texts())
    }

    fn command(&self) -> Command {
        match json(self.rest()) {
            Some(list) => Command::Exec(list),
            None => Command::Shell(self.rest().to_owned()),
        }
    }

    /// `name=value …`, or the old form `name the rest of the line`.
    fn pairs(&self) -> Result<Vec<(String, String)>, Mistake> {
        let words = self.words();
        let Some(first) = words.first() else {
            return Err(self.wrong("an argument is missing"));
        };
        if !first.text.contains('=') {
            let value = self.rest()[first.offset + first.text.len()..].trim_start();
            if value.is_empty() {
                return Err(self.wrong_word(first, "a value is missing: expected name=value"));
            }
            return Ok(vec![(first.text.to_owned(), value.to_owned())]);
        }
        let pair = |word: &Word<'_>| match word.text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            Some(_) => Err(self.wrong_word(word, "a name is missing before '='")),
            None => Err(self.wrong_word(
                word,
                "expected name=value; a value with spaces needs quotes",
            )),
        };
        words.iter().map(pair).collect()
    }

    fn arguments(&self) -> Result<Vec<(String, Option<String>)>, Mistake> {
        let argument = |word: &Word<'_>| match word.text.split_once('=') {
            Some(("", _)) => Err(self.wrong_word(word, "a name is missing before '='")),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word.text.to_owned(), None)),
        };
        self.words().iter().map(argument).collect()
    }

    fn from(&self, mut flags: Flags<'_>) -> Result<Instruction, Mistake> {
        let platform = flags.one("platform")?;
        flags.end(self.name, &["platform"])?;
        let words = self.words();
        let name = match words.as_slice() {
            [_] => None,
            [_, keyword, name] if keyword.text.eq_ignore_ascii_case("AS") => {
                let lower = name.text.to_ascii_lowercase();
                if !is_stage_name(&lower) {
                    let what = format!(
                        "invalid stage name {:?}: expected a letter, then letters, digits, '-', '_' or '.'",
                        name.text
                    );
                    return Err(self.wrong_word(name, &what));
                }
                Some(lower)
            }
            [_, word, ..] => {
                return Err(self.wrong_word(word, "expected an image, or an image AS a name"));
            }
            [] => return Err(self.wrong("an image is missing")),
        };
        Ok(Instruction::From(From {
            platform,
            base: words[0].text.to_owned(),
            name,
        }))
    }

    fn run(&self, mut flags: Flags<'_>) -> Result<Instruction, Mistake> {
        let mounts = flags.all("mount")?;
        let network = flags.one("network")?;
        let security = flags.one("security")?;
        flags.end(self.name, &["mount", "network", "security"])?;
        let heredocs = &self.line.heredocs;
        let command = match heredocs.as_slice() {
            [only] if self.words().len() == 1 => Script::Heredoc(only.clone()),
            // A document's text is for a shell, which a JSON array does not start.
            [] => Script::Command(self.command(), Vec::new()),
            several => Script::Command(Command::Shell(self.rest().to_owned()), several.to_vec()),
        };
        if command == Script::Command(Command::Exec(Vec::new()), Vec::new()) {
            return Err(self.wrong("the array is empty"));
        }
        Ok(Instruction::Run(Run {
            command,
            mounts,
            network,
            security,
        }))
    }

    fn copy(&self, mut flags: Flags<'_>) -> Result<Instruction, Mistake> {
        const COPY: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
        const ADD: [&str; 7] = [
            "chown",
            "chmod",
            "link",
            "exclude",
            "checksum",
            "unpack",
            "keep-git-dir",
        ];
        let add = self.name == "ADD";
        let mut copy = Copy {
            add,
            chown: flags.one("chown")?,
            chmod: flags.one("chmod")?,
            link: flags.switch("link")?.unwrap_or_default(),
            exclude: flags.all("exclude")?,
            ..Copy::default()
        };
        if add {
            copy.checksum = flags.one("checksum")?;
            copy.unpack = flags.switch("unpack")?;
            copy.keep_git_dir = flags.switch("keep-git-dir")?.unwrap_or_default();
        } else {
            copy.from = flags.one("from")?;
            copy.parents = flags.switch("parents")?.unwrap_or_default();
        }
        flags.end(self.name, if add { &ADD } else { &COPY })?;
        let mut texts = self.list();
        let destination = texts.pop().unwrap_or_default();
        if texts.is_empty() {
            return Err(self.wrong("expected at least one source and a destination"));
        }
        let mut heredocs = self.line.heredocs.iter();
        copy.sources = texts
            .into_iter()
            .map(|text| match text.starts_with("<<") {
                true => match heredocs.next() {
                    Some(heredoc) => Source::Inline(heredoc.clone()),
                    None => Source::Path(text),
                },
                false => Source::Path(text),
            })
            .collect();
        if heredocs.next().is_some() {
            return Err(self.wrong("the destination cannot be a here-document"));
        }
        copy.destination = destination;
        Ok(Instruction::Copy(copy))
    }

    fn onbuild(&self, warnings: &mut Vec<Mistake>) -> Result<Instruction, Mistake> {
        let inner = at(self.line, self.start, self.escape, warnings)?;
        may_be_trigger(self.line, self.start, &inner)?;
        let mut text = self.rest().to_owned();
        for heredoc in &self.line.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Ok(Instruction::Onbuild(text))
    }

    fn healthcheck(&self, mut flags: Flags<'_>) -> Result<Instruction, Mistake> {
        const KNOWN: [&str; 5] = [
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ];
        let mut duration = |name: &str| -> Result<i64, Mistake> {
            let Some(text) = flags.one(name)? else {
                return Ok(0);
            };
            let parsed = duration_ns(&text).filter(|ns| *ns == 0 || *ns >= 1_000_000);
            parsed.ok_or_else(|| {
                self.wrong(&format!(
                    "--{name}={text}: expected a duration of at least 1ms, such as 30s or 1m30s"
                ))
            })
        };
        let mut check = Healthcheck {
            interval_ns: duration("interval")?,
            timeout_ns: duration("timeout")?,
            start_period_ns: duration("start-period")?,
            start_interval_ns: duration("start-interval")?,
            ..Healthcheck::default()
        };
        if let Some(text) = flags.one("retries")? {
            check.retries = text.parse().map_err(|_| {
                self.wrong(&format!("--retries={text}: expected a number from 0 on"))
            })?;
        }
        flags.end(self.name, &KNOWN)?;
        let words = self.words();
        let kind = words[0].text.to_ascii_uppercase();
        let command = self.rest()[words[0].text.len()..].trim_start();
        check.test = match kind.as_str() {
            "NONE" if command.is_empty() => vec!["NONE".to_owned()],
            "NONE" => return Err(self.wrong("NONE takes no arguments")),
            "CMD" if command.is_empty() => {
                return Err(self.wrong("a command is missing after CMD"));
            }
            "CMD" => match json(command) {
                Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            },
            _ => return Err(self.wrong_word(&words[0], "expected CMD or NONE")),
        };
        Ok(Instruction::Healthcheck(check))
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// A JSON array of nothing but strings.
fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// Nanoseconds of a duration as Go writes it: `1h2m3.5s`, `250ms`; `0` needs no unit.
#[must_use]
pub fn duration_ns(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    // Longer than a century is no duration that anybody meant.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked in the same expression"
    )]
    (!text.is_empty() && total < 3.2e18).then_some(total as i64)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
