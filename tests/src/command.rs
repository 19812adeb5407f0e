//! Runs a program to its end, with a deadline, and keeps what it said.

use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// No program of the suites takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How a program ended and what it said.
pub struct Said {
    /// Exit code; 128 + signal for a program ended by one.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    line: String,
}

impl Said {
    /// Standard output of a program that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.out
    }

    /// The same answer, which must carry this exit code.
    ///
    /// # Panics
    /// When the code is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// A failure told well: a code that is not zero, one line on standard
    /// error that names each of `words`, and nothing of a panic.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub fn fails_naming(self, words: &[&str]) -> Self {
        assert_ne!(self.code, 0, "{self}");
        assert_eq!(
            self.err.trim_end().lines().count(),
            1,
            "one line on stderr: {self}"
        );
        for word in words {
            assert!(self.err.contains(word), "{word:?} on stderr: {self}");
        }
        assert!(!self.err.contains("panicked"), "{self}");
        self
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            out,
            err,
            line,
        } = self;
        write!(
            f,
            "`{line}` ended with {code}\n--- stdout\n{out}\n--- stderr\n{err}\n---"
        )
    }
}

/// Runs `command` to its end within [`DEADLINE`], with no standard input.
///
/// # Panics
/// When it cannot be run, or goes on for longer.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    run_with_input(command, b"")
}

/// Like [`run`], with these bytes on standard input.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Said {
    let line = line_of(command);
    let started = Instant::now();
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("run `{line}`: {err}"));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that ends without reading everything is its own affair.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let out = collect(child.stdout.take().expect("stdout is piped"));
    let err = collect(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child, DEADLINE);
    let said = |receiver: &mpsc::Receiver<Vec<u8>>| {
        let left = (DEADLINE / 4)
            .saturating_sub(started.elapsed())
            .max(Duration::from_secs(5));
        receiver
            .recv_timeout(left)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let Some(status) = status else {
        drop(child.kill());
        drop(child.wait());
        let (out, err) = (
            said(&out).unwrap_or_default(),
            said(&err).unwrap_or_default(),
        );
        panic!(
            "`{line}` was still running after {DEADLINE:?}\n--- stdout\n{out}\n--- stderr\n{err}\n---"
        );
    };
    let (Ok(out), Ok(err)) = (said(&out), said(&err)) else {
        panic!("`{line}` ended, and left something behind that keeps its output open");
    };
    Said {
        code: code_of(status),
        out,
        err,
        line,
    }
}

/// Waits for `child`; `None` when it still runs after `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => return Some(status),
            None if Instant::now() >= until => return None,
            None => thread::sleep(Duration::from_millis(3)),
        }
    }
}

/// A shell's view of an exit status.
#[must_use]
pub fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits until `done` gives something.
///
/// # Panics
/// When [`DEADLINE`] has passed; names `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE / 2;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(
            Instant::now() < until,
            "waited {:?} for {what}",
            DEADLINE / 2
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        drop(sender.send(bytes));
    });
    receiver
}
