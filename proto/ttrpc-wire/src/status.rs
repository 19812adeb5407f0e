//! How a call ends: gRPC's codes, and a sentence for a person.

use std::error::Error;
use std::fmt;

/// gRPC's status codes, with gRPC's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// An error of no other kind.
    Unknown = 2,
    /// The request makes no sense whatever the state.
    InvalidArgument = 3,
    /// Time ran out.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be created exists.
    AlreadyExists = 6,
    /// Not allowed.
    PermissionDenied = 7,
    /// Something is used up, or too large.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// Ended by a conflict.
    Aborted = 10,
    /// Past an end.
    OutOfRange = 11,
    /// No such service or method.
    Unimplemented = 12,
    /// An invariant is broken.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// Lost or damaged data.
    DataLoss = 15,
    /// Nobody knows the caller.
    Unauthenticated = 16,
}

impl From<i32> for Code {
    /// A number outside the table is [`Code::Unknown`], as gRPC has it.
    fn from(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}

/// The error a server answers a call with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its kind.
    pub code: Code,
    /// Its words.
    pub message: String,
}

impl Status {
    /// A status of `code` that says `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What a server says of a service it does not have.
    #[must_use]
    pub fn no_service(service: &str) -> Self {
        Self::new(Code::Unimplemented, format!("service {service}"))
    }

    /// What a server says of a method its service does not have.
    #[must_use]
    pub fn no_method(method: &str) -> Self {
        Self::new(Code::Unimplemented, format!("method {method}"))
    }

    pub(crate) fn into_wire(self) -> proto::google::rpc::Status {
        proto::google::rpc::Status {
            code: self.code as i32,
            message: self.message,
            details: Vec::new(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number() {
        for number in 0..=16 {
            assert_eq!(Code::from(number) as i32, number);
        }
        assert_eq!(Code::from(17), Code::Unknown);
        assert_eq!(Code::from(-1), Code::Unknown);
    }
}
