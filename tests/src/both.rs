//! The same `ctr` commands against real containerd and against ours.
//!
//! What both answer is compared word for word, but for what must differ: times,
//! process ids, and where each keeps its files.

use std::path::Path;
use std::process::Command;

use crate::command::{self, Said};
use crate::containerd::Containerd;
use crate::stack::Stack;

/// The directory of runc's state, by namespace, whichever daemon asks its shim.
const RUNC: &str = "/run/containerd/runc/";

/// A daemon of ours and a real containerd, in one test's directory.
pub struct Both {
    // First: it ends before the directory is searched for litter.
    containerd: Containerd,
    stack: Stack,
    /// Both keep what they run below one directory of the machine's, by
    /// namespace.
    namespaces: Option<[String; 2]>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// containerd-lite.
    Ours,
    /// containerd.
    Theirs,
}

/// What two daemons said, which is the same but for what must differ.
pub struct Answers {
    /// Ours.
    pub ours: Said,
    /// Containerd's.
    pub theirs: Said,
}

impl Both {
    /// Starts both.
    #[must_use]
    pub fn start() -> Self {
        let stack = Stack::start();
        Self {
            containerd: Containerd::start(stack.scratch()),
            stack,
            namespaces: None,
        }
    }

    /// Starts both, each in a namespace of its own: so that they, and whoever
    /// else is at work on this machine, can run containers of the same names.
    #[must_use]
    pub fn start_apart() -> Self {
        let mut both = Self::start();
        let name = both.stack.scratch().name();
        both.namespaces = Some(["o", "t"].map(|tag| format!("{name}-{tag}")));
        both
    }

    /// The namespaces that both use, if they are not the default one.
    #[must_use]
    pub fn namespaces(&self) -> &[String] {
        self.namespaces.as_ref().map_or(&[], |both| both.as_slice())
    }

    /// `ctr` against ours or theirs, without arguments.
    #[must_use]
    pub fn ctr(&self, whose: Whose) -> Command {
        let mut command = match whose {
            Whose::Ours => self.stack.command(Path::new("ctr")),
            Whose::Theirs => Command::new("ctr"),
        };
        let (address, at) = match whose {
            Whose::Ours => (self.stack.socket(), 0),
            Whose::Theirs => (self.containerd.address().to_owned(), 1),
        };
        command.env("CONTAINERD_ADDRESS", address);
        if let Some(namespaces) = &self.namespaces {
            command.env("CONTAINERD_NAMESPACE", &namespaces[at]);
        }
        command
    }

    /// Ours.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Runs `ctr args…` against both; compares nothing. `{whose}` in an argument
    /// becomes another word for each.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Answers {
        let ask = |whose, word| {
            let args = args.iter().map(|arg| arg.replace("{whose}", word));
            command::run(self.ctr(whose).args(args))
        };
        Answers {
            theirs: ask(Whose::Theirs, "theirs"),
            ours: ask(Whose::Ours, "ours"),
        }
    }

    /// The same, where both must end with the same exit code.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn ends_alike(&self, args: &[&str]) -> Answers {
        let said = self.ask(args);
        let Answers { ours, theirs } = &said;
        assert_eq!(
            ours.code, theirs.code,
            "ours: {ours}\ncontainerd's: {theirs}"
        );
        said
    }

    /// The same, where both must say the same as well; returns what ours said.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn same(&self, args: &[&str]) -> Said {
        let Answers { ours, theirs } = self.ends_alike(args);
        for (own, other) in [(&ours.out, &theirs.out), (&ours.err, &theirs.err)] {
            assert_eq!(
                self.plain(own),
                self.plain(other),
                "ours: {ours}\ncontainerd's: {theirs}"
            );
        }
        ours
    }

    /// [`Both::same_ok`] of what may take a moment to become so, as collection
    /// does.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn same_in_time(&self, args: &[&str]) -> String {
        for _ in 0..100 {
            let said = self.ask(args);
            if self.plain(&said.ours.out) == self.plain(&said.theirs.out) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        self.same_ok(args)
    }

    /// [`Both::same`], where both must succeed.
    #[track_caller]
    pub fn same_ok(&self, args: &[&str]) -> String {
        self.same(args).ok()
    }

    /// The words of what one of them said, with one name for both namespaces.
    fn plain(&self, text: &str) -> Vec<String> {
        match &self.namespaces {
            None => plain(text),
            Some([ours, theirs]) => plain(&text.replace(theirs.as_str(), ours)),
        }
    }

    /// `path` in the test's directory.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        self.stack.scratch().text(path)
    }

    /// The same as a path.
    #[must_use]
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.stack.scratch().path(path)
    }

    /// The image archive at `path` in both.
    #[track_caller]
    pub fn import(&self, path: &Path) {
        self.ends_alike(&["images", "import", &path.display().to_string()])
            .ours
            .ok();
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            // Where runc keeps what runs; it leaves the directory behind, empty.
            drop(std::fs::remove_dir(RUNC.to_owned() + namespace));
        }
    }
}

/// The words of a text, without those that differ between any two runs. Labels
/// come in any order.
fn plain(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.contains("elapsed:"));
    let mut words = Vec::new();
    for word in lines.flat_map(str::split_whitespace) {
        match word.trim_end_matches('s') {
            "second" | "minute" => {
                // `Less than a`, `About a`, `12`.
                while words.last().is_some_and(|last: &String| is_age(last)) {
                    words.pop();
                }
            }
            _ if is_time(word) || word.starts_with("time=") => {}
            _ => {
                let mut parts: Vec<String> = word.split(',').map(without_place).collect();
                parts.sort();
                words.extend(parts);
            }
        }
    }
    words
}

fn is_age(word: &str) -> bool {
    ["Less", "than", "About", "a"].contains(&word) || word.parse::<u32>().is_ok()
}

/// Durations and dates.
fn is_time(word: &str) -> bool {
    let number = word.trim_end_matches(char::is_alphabetic);
    let unit = &word[number.len()..];
    let duration = !number.is_empty()
        && number
            .chars()
            .all(|char| char.is_ascii_digit() || char == '.')
        && ["s", "ms", "µs", "ns", "m"].contains(&unit);
    let date = word.trim_matches([',', '"']);
    duration || (date.len() >= 20 && date.as_bytes()[10] == b'T' && date.starts_with("20"))
}

/// Snapshot directories are told from `snapshots/` on.
fn without_place(word: &str) -> String {
    let mut told = String::new();
    for part in word.split_inclusive([':', '=', ',']) {
        match part.rfind("/snapshots/") {
            Some(at) => told.push_str(&part[at..]),
            None => told.push_str(part),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_differ_is_left_out() {
        assert_eq!(
            plain(
                "x 1.5s 2024-01-01T00:00:00Z b,a\nelapsed: 0.1 s total: 1\nLess than a second 12"
            ),
            ["x", "a", "b", "12"]
        );
        assert_eq!(
            plain("lowerdir=/a/snapshots/2/fs:/b/c/snapshots/1/fs,x"),
            ["lowerdir=/snapshots/2/fs:/snapshots/1/fs", "x"]
        );
    }
}
