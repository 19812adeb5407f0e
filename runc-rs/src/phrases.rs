//! The words and exit codes that callers match on, all of them, pinned by the tests below.
//!
//! containerd, Docker, podman and Kubernetes decide by substrings of these whether a command was missing (127), could not be
//! run (126), or a container is already gone. They are runc's, to the letter.

use std::fmt;
use std::io;

/// Any command's own failure.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// `exec`'s own failure, so that it is not taken for the process's.
pub(crate) const EXIT_EXEC_FAILURE: u8 = 255;

pub(crate) const ALREADY_EXISTS: &str = "container with given ID already exists";
pub(crate) const DOES_NOT_EXIST: &str = "container does not exist";
pub(crate) const EMPTY_ID: &str = "container id cannot be empty";
pub(crate) const INVALID_ID: &str = "invalid container ID format";
pub(crate) const NOT_RUNNING: &str = "container not running";
pub(crate) const NOT_PAUSED: &str = "container not paused";
pub(crate) const START_STOPPED: &str = "cannot start a container that has stopped";
pub(crate) const START_RUNNING: &str = "cannot start an already running container";
pub(crate) const EXEC_STOPPED: &str = "cannot exec in a stopped container";
pub(crate) const EXEC_PAUSED: &str =
    "cannot exec in a paused container (use --ignore-paused to override)";
pub(crate) const NO_CONFIG: &str = "JSON specification file config.json not found";
pub(crate) const NO_SECCOMP_AGENT: &str =
    "failed to connect with seccomp agent specified in the seccomp profile";
pub(crate) const CANNOT_START: &str = "unable to start container process";

/// What `--debug` says on the way of a container's first process, and of an exec's, in the order it comes.
pub(crate) const DEBUG_CLONE: &str = "nsexec container setup";
pub(crate) const DEBUG_CHILD: &str = "child process in init()";
pub(crate) const DEBUG_READY: &str = "init: closing the pipe to signal completion";
pub(crate) const DEBUG_EXEC: &str = "setns_init: about to exec";

/// The deadline scheduler wants all processors of a scheduling domain.
pub(crate) const SCHEDULER_CPUS: &str = "process scheduler can't be used together with AllowedCPUs";
pub(crate) const INVALID_CONFIG: &str = "invalid configuration";

pub(crate) fn not_stopped(id: &str, status: &str) -> String {
    format!("cannot delete container {id} that is not stopped: {status}")
}

/// The system's answer in lower case without the number, as Go prints it.
pub(crate) fn io_error(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => errno_words(errno),
        None => error.to_string(),
    }
}

/// `errno` in Go's words: lower case; an unknown one by number.
pub(crate) fn errno_words(errno: i32) -> String {
    if errno == nix::errno::Errno::ENOEXEC as i32 {
        return "exec format error".to_owned();
    }
    let words = nix::errno::Errno::from_raw(errno).desc();
    let mut chars = words.chars();
    match chars.next() {
        // "I/O error" keeps its capitals, "No such file" does not.
        Some(first)
            if chars
                .as_str()
                .starts_with(|c: char| c.is_lowercase() || c == ' ') =>
        {
            first.to_lowercase().chain(chars).collect()
        }
        _ => words.to_owned(),
    }
}

/// What `signal` is called in Go.
pub(crate) fn signal_words(signal: i32) -> String {
    use nix::libc;
    match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSYS => "bad system call",
        other => return format!("signal {other}"),
    }
    .to_owned()
}

/// Why the program of a process cannot be started. Travels from init to its parent as a number and a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProgramFault {
    /// A bare name that no directory of PATH has.
    NotInPath,
    /// A path with nothing there.
    Missing,
    /// There, but not for this user to run.
    Forbidden,
    /// A directory.
    Directory,
    /// A script or a dynamic program whose interpreter (the subject) is not there.
    Interpreter(String),
    /// An ELF file for another machine (the subject).
    Architecture(String),
    /// Neither an ELF file nor a script.
    Format,
}

impl ProgramFault {
    pub(crate) fn encode(&self) -> (u8, &str) {
        match self {
            ProgramFault::NotInPath => (1, ""),
            ProgramFault::Missing => (2, ""),
            ProgramFault::Forbidden => (3, ""),
            ProgramFault::Directory => (4, ""),
            ProgramFault::Interpreter(path) => (5, path),
            ProgramFault::Architecture(machine) => (6, machine),
            ProgramFault::Format => (7, ""),
        }
    }

    pub(crate) fn decode(number: u8, subject: &str) -> Option<Self> {
        Some(match number {
            1 => ProgramFault::NotInPath,
            2 => ProgramFault::Missing,
            3 => ProgramFault::Forbidden,
            4 => ProgramFault::Directory,
            5 => ProgramFault::Interpreter(subject.to_owned()),
            6 => ProgramFault::Architecture(subject.to_owned()),
            7 => ProgramFault::Format,
            _ => return None,
        })
    }

    /// The sentence about program `name`.
    pub(crate) fn words<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        std::fmt::from_fn(move |f| match self {
            ProgramFault::NotInPath => {
                write!(f, "exec: {name:?}: executable file not found in $PATH")
            }
            ProgramFault::Missing => {
                write!(f, "exec: {name:?}: stat {name}: no such file or directory")
            }
            ProgramFault::Forbidden => write!(f, "exec: {name:?}: permission denied"),
            ProgramFault::Directory => write!(f, "exec: {name:?}: is a directory"),
            ProgramFault::Interpreter(path) => {
                write!(
                    f,
                    "exec {name}: no such file or directory: the file is there, but its interpreter {path} is not"
                )
            }
            ProgramFault::Architecture(machine) => {
                write!(
                    f,
                    "exec {name}: exec format error: built for {machine}, this machine is {}",
                    std::env::consts::ARCH
                )
            }
            ProgramFault::Format => {
                write!(
                    f,
                    "exec {name}: exec format error: neither an ELF program nor a script with an interpreter line"
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_faults_hold_the_phrases_that_docker_and_containerd_look_for() {
        let check = |fault: ProgramFault, name: &str, words: &str| {
            assert_eq!(fault.words(name).to_string(), words);
            let (number, subject) = fault.encode();
            assert_eq!(ProgramFault::decode(number, subject), Some(fault.clone()));
        };
        check(
            ProgramFault::NotInPath,
            "foo",
            "exec: \"foo\": executable file not found in $PATH",
        );
        check(
            ProgramFault::Missing,
            "/x",
            "exec: \"/x\": stat /x: no such file or directory",
        );
        check(
            ProgramFault::Forbidden,
            "/x",
            "exec: \"/x\": permission denied",
        );
        check(ProgramFault::Directory, "/", "exec: \"/\": is a directory");
        check(
            ProgramFault::Interpreter("/lib/ld.so".into()),
            "/x",
            "exec /x: no such file or directory: the file is there, but its interpreter /lib/ld.so is not",
        );
        let foreign = ProgramFault::Architecture("aarch64".into());
        assert!(
            foreign
                .words("/x")
                .to_string()
                .starts_with("exec /x: exec format error: built for aarch64")
        );
        assert!(
            ProgramFault::Format
                .words("/x")
                .to_string()
                .starts_with("exec /x: exec format error")
        );
    }

    #[test]
    fn the_systems_answers_are_lower_case() {
        assert_eq!(errno_words(2), "no such file or directory");
        assert_eq!(errno_words(13), "permission denied");
        assert_eq!(errno_words(8), "exec format error");
        assert_eq!(errno_words(1), "operation not permitted");
    }

    #[test]
    fn sentences_that_callers_match_are_pinned() {
        assert_eq!(
            not_stopped("a", "running"),
            "cannot delete container a that is not stopped: running"
        );
        assert_eq!(ALREADY_EXISTS, "container with given ID already exists");
        assert_eq!(DOES_NOT_EXIST, "container does not exist");
        assert_eq!(NOT_RUNNING, "container not running");
        assert_eq!(EXEC_STOPPED, "cannot exec in a stopped container");
        assert_eq!(CANNOT_START, "unable to start container process");
        assert_eq!((EXIT_FAILURE, EXIT_EXEC_FAILURE), (1, 255));
    }
}
