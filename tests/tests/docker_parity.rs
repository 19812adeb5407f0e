//! ctl beside docker: the same invocations on both, and the same exit codes,
//! output and fields of `inspect`.
//!
//! The list is `tests/fixtures/docker-parity.txt`. What is known to differ stands in
//! `tests/fixtures/docker-gaps.txt`, each with a reason; a gap that is none any more
//! fails the test, so that the list stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use tests::command::{self, Said};
use tests::dockerd::Dockerd;
use tests::need::{self, Need};
use tests::repository;
use tests::scratch::Scratch;
use tests::stack::Stack;

/// One invocation: its scenario, its words, and what it reads.
struct Invocation {
    scenario: String,
    line: String,
    words: Vec<String>,
    input: String,
}

/// Splits a line as a shell would: quotes, and nothing else.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => match chars.next() {
                Some(c @ ('"' | '\\')) => word.get_or_insert_default().push(c),
                Some(other) => word.get_or_insert_default().extend(['\\', other]),
                None => {}
            },
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn invocations() -> Vec<Invocation> {
    let file = repository::root().join("tests/fixtures/docker-parity.txt");
    let text = fs::read_to_string(file).expect("the list can be read");
    let mut scenario = String::new();
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            name.clone_into(&mut scenario);
        } else if !line.is_empty() && !line.starts_with('#') {
            let (args, input) = line.split_once(" <<< ").unwrap_or((line, ""));
            all.push(Invocation {
                scenario: scenario.clone(),
                line: line.to_owned(),
                words: split(args),
                input: match input {
                    "" => String::new(),
                    input => format!("{input}\n"),
                },
            });
        }
    }
    all
}

/// Known differences: an invocation, then the reason in the lines before it.
fn gaps() -> BTreeSet<String> {
    let file = repository::root().join("tests/fixtures/docker-gaps.txt");
    let text = fs::read_to_string(file).expect("the list of gaps can be read");
    let mut gaps = BTreeSet::new();
    let mut reason = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            reason = true;
        } else {
            assert!(reason, "a gap needs a reason above it: {line}");
            gaps.insert(line.to_owned());
        }
    }
    gaps
}

/// The output with everything alike that differs from run to run: ids, times,
/// widths of columns, ends of lines of terminals.
fn alike(text: &str) -> String {
    let mut out = String::new();
    for line in text.replace('\r', "").lines() {
        let line = sorted(line);
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let _ = writeln!(out, "{}", spans(&words.join(" ")));
    }
    // Where nothing was found docker ends a line all the same.
    out.trim_end_matches('\n').to_owned()
}

/// The line with the fields of every JSON object in it in the order of names.
fn sorted(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['{', '[']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        match values.next() {
            Some(Ok(value)) => {
                out.push_str(&value.to_string());
                rest = &rest[values.byte_offset()..];
            }
            _ => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// One word: a run of hexadecimal digits as long as an id's becomes `ID`, a time
/// `TIME`.
fn word(word: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        match run.len() {
            12 | 64 => out.push_str("ID"),
            _ => out.push_str(&run),
        }
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    times(&out)
}

/// `2024-05-06T07:08:09.123Z` anywhere in a word becomes `TIME`; the year one,
/// which means never, stays.
fn times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('T') {
        let begins = at.checked_sub(10).filter(|from| {
            let date = &rest.as_bytes()[*from..at];
            date[4] == b'-' && date[7] == b'-' && date[..4].iter().all(u8::is_ascii_digit)
        });
        let ends = rest[at..].find('Z').map(|end| at + end + 1);
        match (begins, ends) {
            (Some(from), Some(to)) if !rest[from..].starts_with("0001") => {
                out.push_str(&rest[..from]);
                out.push_str("TIME");
                rest = &rest[to..];
            }
            _ => {
                out.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// `Up 3 seconds`, `(0) Less than a second ago`: how long does not matter.
fn spans(line: &str) -> String {
    let mut line = line.to_owned();
    for (before, after) in [("Up ", ""), ("Exited (", ""), ("Created ", " ago")] {
        let Some(at) = line.find(before) else {
            continue;
        };
        let tail = &line[at + before.len()..];
        if before == "Up " {
            let paused = if tail.contains("(Paused)") {
                " (Paused)"
            } else {
                ""
            };
            let rest = tail.split_once(" running").map_or("", |_| " running");
            line = format!("{}Up SPAN{paused}{rest}", &line[..at]);
        } else if before == "Exited ("
            && let Some((code, _)) = tail.split_once(')')
        {
            line = format!("{}Exited ({code}) SPAN", &line[..at]);
        } else if !after.is_empty() && tail.ends_with(after) {
            line = format!("{}Created SPAN", &line[..at]);
        }
    }
    line
}

/// Removes what a scenario has left.
fn clean(run: &dyn Fn(&[&str], &str) -> Said) {
    for (list, remove) in [
        (&["ps", "-aq"][..], &["rm", "-f", "-v"][..]),
        (&["volume", "ls", "-q"], &["volume", "rm"]),
        (
            &["network", "ls", "-q", "-f", "type=custom"],
            &["network", "rm"],
        ),
    ] {
        let found = run(list, "").out;
        let found: Vec<&str> = found.split_whitespace().collect();
        if !found.is_empty() {
            run(&[remove, &found].concat(), "");
        }
    }
}

#[test]
fn ctl_answers_as_docker_does() {
    if need::skip(&[Need::Dockerd]) {
        return;
    }
    let scratch = Scratch::new();
    let dockerd = Dockerd::start(&scratch);
    let stack = Stack::with_busybox();
    let docker = |args: &[&str], input: &str| {
        command::run_with_input(&mut dockerd.docker_command(args), input.as_bytes())
    };
    let ctl = |args: &[&str], input: &str| stack.ctl_with_input(args, input.as_bytes());
    let mut gaps = gaps();
    let mut differences: BTreeMap<usize, String> = BTreeMap::new();
    let mut scenario = String::new();
    let all = invocations();
    assert!(all.len() >= 150, "{} invocations", all.len());
    for (number, invocation) in all.iter().enumerate() {
        if invocation.scenario != scenario {
            clean(&docker);
            clean(&ctl);
            scenario.clone_from(&invocation.scenario);
        }
        let words: Vec<&str> = invocation.words.iter().map(String::as_str).collect();
        // At once: most of it is waiting.
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| docker(&words, &invocation.input));
            let ours = ctl(&words, &invocation.input);
            (theirs.join().expect("docker was run"), ours)
        });
        let same = theirs.code == ours.code && alike(&theirs.out) == alike(&ours.out);
        let known = gaps.remove(&invocation.line);
        let what = match (same, known) {
            (true, false) | (false, true) => continue,
            (true, true) => "is no gap any more: remove it from docker-gaps.txt".to_owned(),
            (false, false) => format!(
                "docker: {} {:?} (stderr {:?})\n   ctl: {} {:?} (stderr {:?})",
                theirs.code,
                alike(&theirs.out),
                theirs.err.trim_end(),
                ours.code,
                alike(&ours.out),
                ours.err.trim_end(),
            ),
        };
        differences.insert(number, format!("[{scenario}] {}\n{what}", invocation.line));
    }
    clean(&docker);
    let told: Vec<String> = differences.into_values().collect();
    assert!(
        told.is_empty(),
        "{} of {} invocations differ:\n{}",
        told.len(),
        all.len(),
        told.join("\n")
    );
    assert!(gaps.is_empty(), "gaps that are no invocation: {gaps:?}");
}

#[test]
fn words_are_split_and_made_alike() {
    assert_eq!(
        split("run \"a b\" -f \"{{\\\"x\\\"}}\" \"\""),
        ["run", "a b", "-f", "{{\"x\"}}", ""]
    );
    let id = "0123456789ab";
    assert_eq!(
        alike(&format!("{id}   x  2024-05-06T07:08:09.1Z")),
        "ID x TIME"
    );
    assert_eq!(
        alike("\"0001-01-01T00:00:00Z\""),
        "\"0001-01-01T00:00:00Z\""
    );
    assert_eq!(
        alike("x {\"b\":[1],\"a\":2} {y"),
        "x {\"a\":2,\"b\":[1]} {y"
    );
    assert_eq!(alike("c1 Up 3 seconds (Paused)"), "c1 Up SPAN (Paused)");
    assert_eq!(alike("c1 Exited (3) 2 seconds ago"), "c1 Exited (3) SPAN");
}
