//! Why a command did not do what was asked, and with which exit code it ends.

use std::io;

use tonic::{Code, Status};

/// Metadata key of Docker's own exit code for a failure.
const EXIT_CODE: &str = "exit-code";

/// Exit code of a program whose reader went away: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// A failed command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The daemon answered with an error.
    Daemon {
        /// One line for a person.
        message: String,
        /// Docker's own exit code for it, where it has one.
        exit_code: Option<u8>,
        /// The thing that was named does not exist.
        not_found: bool,
    },
    /// The client cannot do what was asked.
    Client(String),
    /// As `Client`, about the daemon and the connection to it, for which
    /// `run` exits with 125.
    Setup(String),
    /// As `Client`, about what was typed: `run` exits with 125 and points to
    /// its help. Docker does so after every failure; here what the daemon
    /// says stays the last line.
    Typed(String),
    /// Nobody reads the output any more; nothing is said about it.
    OutputClosed,
    /// Some of the named objects failed and were reported one by one.
    Reported,
    /// The detach keys were typed where Docker counts that as a failure.
    Detached,
}

impl Failure {
    /// What a failed local operation means: `op` names it and its subject.
    pub(crate) fn io(op: impl std::fmt::Display, err: &io::Error) -> Self {
        Self::Client(format!("{op}: {}", reason(err)))
    }

    /// What a failed write to stdout or stderr means.
    pub(crate) fn output(err: &io::Error) -> Self {
        if err.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::io("write output", err)
    }

    /// Whether the daemon does not know what was named.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Daemon {
                not_found: true,
                ..
            }
        )
    }

    /// The line to print, if any.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Daemon { message, .. }
            | Self::Client(message)
            | Self::Setup(message)
            | Self::Typed(message) => Some(message),
            Self::OutputClosed | Self::Reported | Self::Detached => None,
        }
    }

    /// The exit code, where `infrastructure` is the command's own for what is
    /// neither the container's fault nor told by the daemon.
    pub(crate) fn exit_code(&self, infrastructure: u8) -> u8 {
        match self {
            Self::Daemon {
                exit_code: Some(code),
                ..
            } => *code,
            Self::Daemon {
                exit_code: None, ..
            }
            | Self::Setup(_)
            | Self::Typed(_) => infrastructure,
            Self::Client(_) | Self::Reported | Self::Detached => 1,
            Self::OutputClosed => BROKEN_PIPE,
        }
    }
}

/// An operating system's error without Rust's `(os error 2)`.
pub(crate) fn reason(err: &io::Error) -> String {
    match err.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
        None => err.to_string(),
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let exit_code = status
            .metadata()
            .get(EXIT_CODE)
            .and_then(|code| code.to_str().ok()?.parse().ok());
        // Not the daemon's words but those of the transport below, which say
        // nothing to a person.
        let message = match (status.code(), status.message()) {
            _ if exit_code.is_none() && is_transport(&status) => {
                "the daemon closed the connection".to_owned()
            }
            (code, "") => code.description().to_lowercase(),
            (_, message) => message.to_owned(),
        };
        Self::Daemon {
            message,
            exit_code,
            not_found: status.code() == Code::NotFound,
        }
    }
}

fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_exit_code_wins() {
        let mut status = Status::not_found("no such file");
        status
            .metadata_mut()
            .insert(EXIT_CODE, "127".parse().unwrap());
        let failure = Failure::from(status);
        assert_eq!(failure.exit_code(125), 127);
        assert!(failure.is_not_found());
        assert_eq!(Failure::from(Status::internal("x")).exit_code(125), 125);
    }

    #[test]
    fn operating_system_errors_read_like_dockers() {
        let err = io::Error::from_raw_os_error(2);
        let failure = Failure::io("open /nosuch", &err);
        assert_eq!(
            failure.message(),
            Some("open /nosuch: no such file or directory")
        );
    }

    #[test]
    fn a_closed_pipe_is_not_reported() {
        let failure = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.message(), failure.exit_code(1)), (None, 141));
    }
}
