//! How a program ended, in the words of Kubernetes' `meta/v1.Status`, which
//! clients expect on the error stream.

use serde::Serialize;

/// How a program, or the attachment to one, came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The program ended with this status.
    Exited(i32),
    /// There is no status to tell: an attachment is over.
    Detached,
    /// It could not be run, or not to its end; the text is for the client.
    Failed(String),
}

#[derive(Serialize)]
struct Status {
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    message: String,
}

impl Ended {
    /// The JSON of protocol version 4 and later.
    #[must_use]
    pub fn to_json(&self) -> String {
        let status = match self {
            Self::Exited(0) | Self::Detached => Status {
                metadata: Empty {},
                status: "Success",
                message: None,
                reason: None,
                details: None,
                code: None,
            },
            Self::Exited(code) => Status {
                metadata: Empty {},
                status: "Failure",
                message: self.to_text(),
                reason: Some("NonZeroExitCode"),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: Some("ExitCode"),
                        message: code.to_string(),
                    }],
                }),
                code: None,
            },
            Self::Failed(message) => Status {
                metadata: Empty {},
                status: "Failure",
                message: self.to_text(),
                reason: Some("InternalError"),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: None,
                        message: message.clone(),
                    }],
                }),
                code: Some(500),
            },
        };
        // Strings and numbers: there is nothing that JSON cannot hold.
        serde_json::to_string(&status).unwrap_or_default()
    }

    /// The text of the versions before: nothing where all is well.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Exited(0) | Self::Detached => None,
            Self::Exited(code) => Some(format!(
                "command terminated with non-zero exit code: {code}"
            )),
            Self::Failed(message) => Some(format!("Internal error occurred: {message}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_kubernetes() {
        assert_eq!(
            Ended::Exited(0).to_json(),
            r#"{"metadata":{},"status":"Success"}"#
        );
        assert_eq!(Ended::Detached.to_json(), Ended::Exited(0).to_json());
        assert_eq!(
            Ended::Exited(7).to_json(),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#
        );
        assert_eq!(
            Ended::Failed("no \"such\" file".to_owned()).to_json(),
            r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no \"such\" file","reason":"InternalError","details":{"causes":[{"message":"no \"such\" file"}]},"code":500}"#
        );
    }
}
