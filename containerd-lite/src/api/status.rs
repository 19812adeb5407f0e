//! The only table from the core's kinds of failure to the outside world.

use lite_core::{Error, Kind};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The metadata key under which Docker's exit code travels.
pub const EXIT_CODE: &str = "exit-code";

/// The gRPC code, and the exit code of Docker's client where that is not its
/// usual 125. A new kind does not compile until both are filled in.
#[must_use]
pub fn outside(kind: Kind) -> (Code, Option<u8>) {
    match kind {
        Kind::Cancelled => (Code::Cancelled, None),
        Kind::Unknown => (Code::Unknown, None),
        Kind::InvalidArgument => (Code::InvalidArgument, None),
        Kind::DeadlineExceeded => (Code::DeadlineExceeded, None),
        Kind::NotFound => (Code::NotFound, None),
        Kind::AlreadyExists => (Code::AlreadyExists, None),
        Kind::PermissionDenied => (Code::PermissionDenied, None),
        Kind::ResourceExhausted => (Code::ResourceExhausted, None),
        Kind::FailedPrecondition => (Code::FailedPrecondition, None),
        Kind::Aborted => (Code::Aborted, None),
        Kind::OutOfRange => (Code::OutOfRange, None),
        Kind::Unimplemented => (Code::Unimplemented, None),
        Kind::Internal => (Code::Internal, None),
        Kind::Unavailable => (Code::Unavailable, None),
        Kind::DataLoss => (Code::DataLoss, None),
        Kind::Unauthenticated => (Code::Unauthenticated, None),
        // containerd has no code for what a runtime reports.
        Kind::ExecutableNotFound => (Code::Unknown, Some(127)),
        Kind::ExecutableNotRunnable => (Code::Unknown, Some(126)),
    }
}

/// The core's error as a status: its kind by [`outside`], its chain as one line.
#[must_use]
pub fn to_status(err: Error) -> Status {
    let (code, exit_code) = outside(err.kind());
    let mut status = Status::new(code, lite_core::chain(&err));
    if let Some(exit_code) = exit_code {
        status
            .metadata_mut()
            .insert(EXIT_CODE, MetadataValue::from(u16::from(exit_code)));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_code_chain_and_exit_code() {
        let status = to_status(
            Kind::ExecutableNotFound
                .error("start \"x\"")
                .because("no such file"),
        );
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "start \"x\": no such file")
        );
        assert_eq!(
            status.metadata().get(EXIT_CODE).unwrap().to_str().unwrap(),
            "127"
        );
        assert!(
            to_status(Kind::NotFound.error("x"))
                .metadata()
                .get(EXIT_CODE)
                .is_none()
        );
    }
}
