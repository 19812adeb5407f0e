//! What the words of OCI runtimes mean.
//!
//! A runtime reports failure by one line of text, and the shim passes it on
//! under the code Unknown. Clients need to know whether the program was
//! missing (Docker's exit code 127) or could not be run (126), and whether a
//! process was gone already. This is the only place that looks at such words.
//!
//! The tests pin what runc 1.1.5 and runc-rs were seen to print, and the
//! format strings of crun 1.8.1, which does not run on every cgroup layout.

use crate::error::{Error, Kind};

/// Phrases that mean the same wherever they stand. The first that occurs wins.
const PHRASES: &[(&str, Kind)] = &[
    ("process already finished", Kind::NotFound),
    ("no such process", Kind::NotFound),
    ("container does not exist", Kind::NotFound),
    ("container not running", Kind::FailedPrecondition),
];

/// What a runtime says in front of an error that is about the program: runc
/// and runc-rs name it after `exec:` or `exec `, crun after the others. Go's
/// `fork/exec`, as hooks have it, is none of them.
const ABOUT_THE_PROGRAM: &[&str] = &[
    ": exec: \"",
    ": exec /",
    "executable file `",
    "open executable",
    "exec container process",
];

/// What was wrong with the program. Docker's table: what cannot be found
/// there, for whatever reason, is 127, what cannot be invoked is 126.
const FAULTS: &[(&str, Kind)] = &[
    ("not found in $path", Kind::ExecutableNotFound),
    ("no such file or directory", Kind::ExecutableNotFound),
    ("not a directory", Kind::ExecutableNotFound),
    ("permission denied", Kind::ExecutableNotRunnable),
    ("is a directory", Kind::ExecutableNotRunnable),
    ("exec format error", Kind::ExecutableNotRunnable),
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
    // A mount or a hook may have the same fault; then it is not the program's.
    let about_the_program = ABOUT_THE_PROGRAM.iter().any(|words| text.contains(words));
    first(PHRASES, &text).or_else(|| about_the_program.then(|| first(FAULTS, &text)).flatten())
}

fn first(table: &[(&str, Kind)], text: &str) -> Option<Kind> {
    let found = table.iter().find(|(phrase, _)| text.contains(phrase));
    found.map(|&(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: Kind) {
        assert_eq!(classify(Kind::Unknown.error(text)).kind(), wanted, "{text}");
    }

    /// What stands before a program's fault in runc and runc-rs, for create and exec.
    const BEFORE: [&str; 2] = [
        "OCI runtime create failed: runc create failed: unable to start container process: ",
        "OCI runtime exec failed: exec failed: unable to start container process: ",
    ];

    #[test]
    fn a_program_that_is_not_there() {
        for before in BEFORE {
            for fault in [
                r#"exec: "nope": executable file not found in $PATH: unknown"#,
                r#"exec: "/bin/nope": stat /bin/nope: no such file or directory: unknown"#,
                r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory: unknown"#,
            ] {
                check(&format!("{before}{fault}"), Kind::ExecutableNotFound);
            }
        }
        let crun = "OCI runtime create failed: executable file `nope` not found in $PATH: No such file or directory: unknown";
        check(crun, Kind::ExecutableNotFound);
    }

    #[test]
    fn a_program_that_cannot_be_run() {
        for before in BEFORE {
            for fault in [
                r#"exec: "/etc/notexec": permission denied: unknown"#,
                r#"exec: "/etc": permission denied: unknown"#,
                r#"exec: "/etc": is a directory: unknown"#,
                "exec /bin/garbage: exec format error: neither an ELF program nor a script with an interpreter line: unknown",
            ] {
                check(&format!("{before}{fault}"), Kind::ExecutableNotRunnable);
            }
        }
        check(
            "open executable: Permission denied",
            Kind::ExecutableNotRunnable,
        );
    }

    #[test]
    fn the_same_faults_elsewhere_say_nothing_of_the_program() {
        for text in [
            r#"runc create failed: error mounting "/a" to rootfs at "/b": mount /a:/b: not a directory: unknown"#,
            "error mounting /opt/executable: no such file or directory",
            "error running hook #0: fork/exec /hook: permission denied: unknown",
            "open /cfg: is a directory",
            "cgroups in hybrid mode not supported, drop all controllers from cgroupv2: unknown",
        ] {
            check(text, Kind::Unknown);
        }
    }

    #[test]
    fn a_process_that_is_gone() {
        check("process already finished: not found", Kind::NotFound);
        check("container does not exist", Kind::NotFound);
        check("container not running", Kind::FailedPrecondition);
    }

    #[test]
    fn errors_that_have_a_kind_keep_it() {
        let err = classify(Kind::AlreadyExists.error(r#"x: exec: "a": permission denied"#));
        assert_eq!(err.kind(), Kind::AlreadyExists);
    }

    #[test]
    fn a_missing_interpreter_is_a_missing_program() {
        check(
            "unable to start container process: exec /script: no such file or directory: the file is there, but its interpreter /no/such/shell is not",
            Kind::ExecutableNotFound,
        );
    }
}
