//! What the words of OCI runtimes mean.
//!
//! A runtime reports failure by one line of text, and the shim passes it on
//! under the code Unknown. Clients need to know whether the program was
//! missing (Docker's exit code 127) or could not be run (126), and whether a
//! process was gone already. This is the only place that looks at such words;
//! each is pinned below by what runc, crun and runc-rs really print.

use crate::error::{Error, Kind};

/// Phrases and the kind they mean. The first that occurs wins.
const PHRASES: &[(&str, Kind)] = &[
    ("executable file not found", Kind::ExecutableNotFound),
    ("exec format error", Kind::ExecutableNotRunnable),
    ("is a directory", Kind::ExecutableNotRunnable),
    ("process already finished", Kind::NotFound),
    ("no such process", Kind::NotFound),
    ("container does not exist", Kind::NotFound),
    ("container not running", Kind::FailedPrecondition),
];

/// `err` with the kind that its words mean; errors that have a kind keep it.
pub(super) fn classify(err: Error) -> Error {
    match meaning(err.kind(), &err.to_string()) {
        Some(kind) => kind.error(err.to_string()),
        None => err,
    }
}

fn meaning(kind: Kind, text: &str) -> Option<Kind> {
    if kind != Kind::Unknown {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let known = PHRASES
        .iter()
        .find(|(phrase, _)| text.contains(phrase))
        .map(|&(_, kind)| kind);
    known.or_else(|| about_the_executable(&text))
}

/// "No such file" and "permission denied" are about the program only where the
/// runtime was about to execute it; else they may be about a mount.
fn about_the_executable(text: &str) -> Option<Kind> {
    let executing = ["exec: ", "exec user process", "executable", "execve"]
        .iter()
        .any(|word| text.contains(word));
    if !executing {
        return None;
    }
    if text.contains("no such file or directory") || text.contains("not found") {
        Some(Kind::ExecutableNotFound)
    } else if text.contains("permission denied") || text.contains("not a directory") {
        Some(Kind::ExecutableNotRunnable)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: Kind) {
        assert_eq!(classify(Kind::Unknown.error(text)).kind(), wanted, "{text}");
    }

    #[test]
    fn errors_that_have_a_kind_keep_it() {
        let err = classify(Kind::AlreadyExists.error("executable file not found"));
        assert_eq!(err.kind(), Kind::AlreadyExists);
        check("something else", Kind::Unknown);
    }
}
