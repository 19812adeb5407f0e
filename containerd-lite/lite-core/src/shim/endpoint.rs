//! Where a shim listens, and in which version of the Task service it answers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Kind, Result};

/// The newest Task service that [`crate::shim::Shim`] speaks.
const NEWEST_VERSION: u32 = 3;

/// A shim's socket and protocol version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The unix socket.
    pub socket: PathBuf,
    /// 2 or 3: the version of its Task service.
    pub version: u32,
}

/// The longer of a shim's two ways to answer `start`.
#[derive(Deserialize)]
struct Bootstrap {
    version: u32,
    address: String,
    protocol: String,
}

impl Endpoint {
    /// Reads what a shim's `start` printed: a bare address, which means ttrpc
    /// and version 2, or JSON with `version`, `address` and `protocol`.
    ///
    /// # Errors
    /// Unimplemented for a protocol, a version or a kind of address that we do
    /// not speak, DataLoss for what is no answer at all.
    pub fn parse(answer: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(answer)
            .map_err(|err| Kind::DataLoss.error("shim's answer to start").because(err))?
            .trim();
        let bootstrap = match serde_json::from_str(text) {
            Ok(bootstrap) => bootstrap,
            Err(_) if !text.starts_with('{') => Bootstrap {
                version: 2,
                address: text.to_owned(),
                protocol: "ttrpc".to_owned(),
            },
            Err(err) => {
                return Err(Kind::DataLoss
                    .error(format!("shim's answer to start {text:?}"))
                    .because(err));
            }
        };
        if !bootstrap.protocol.eq_ignore_ascii_case("ttrpc") {
            return Err(Kind::Unimplemented.error(format!(
                "shim protocol {:?} (only ttrpc is spoken)",
                bootstrap.protocol
            )));
        }
        if !(2..=NEWEST_VERSION).contains(&bootstrap.version) {
            return Err(Kind::Unimplemented.error(format!(
                "shim version {} (2 and 3 are spoken)",
                bootstrap.version
            )));
        }
        Ok(Self {
            socket: socket(&bootstrap.address)?,
            version: bootstrap.version,
        })
    }
}

fn socket(address: &str) -> Result<PathBuf> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    if path.is_empty() {
        return Err(Kind::DataLoss.error("shim's answer to start is empty"));
    }
    if Path::new(path).is_absolute() && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err(Kind::Unimplemented.error(format!("shim address {address:?} (expected unix:///path)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, wanted: std::result::Result<(&str, u32), Kind>) {
        let got = Endpoint::parse(answer.as_bytes());
        match wanted {
            Ok((socket, version)) => assert_eq!(
                got.unwrap(),
                Endpoint {
                    socket: socket.into(),
                    version
                }
            ),
            Err(kind) => assert_eq!(got.unwrap_err().kind(), kind, "{answer}"),
        }
    }

    #[test]
    fn both_forms_of_answer_are_read() {
        check("unix:///run/s/abc", Ok(("/run/s/abc", 2)));
        check("unix:///run/s/abc\n", Ok(("/run/s/abc", 2)));
        check("/run/s/abc", Ok(("/run/s/abc", 2)));
        check(
            r#"{"version":3,"address":"unix:///run/s/abc","protocol":"ttrpc"}"#,
            Ok(("/run/s/abc", 3)),
        );
    }

    #[test]
    fn answers_that_cannot_be_used_say_why() {
        check("", Err(Kind::DataLoss));
        check("{\"version\":3", Err(Kind::DataLoss));
        check("abstract", Err(Kind::Unimplemented));
        check(
            r#"{"version":4,"address":"unix:///a","protocol":"ttrpc"}"#,
            Err(Kind::Unimplemented),
        );
        check(
            r#"{"version":3,"address":"unix:///a","protocol":"grpc"}"#,
            Err(Kind::Unimplemented),
        );
    }
}
