//! The agent that decides about a container's system calls: a program at the other end of the socket that a profile names.
//!
//! It gets the descriptor on which the kernel asks, and with it one JSON document, the spec's container process state, that
//! says which container and process it is about.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;

use crate::failure::{Context, Result};
use crate::phrases;
use crate::state::StateDocument;

/// Where the agent listens, and what it is told besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    path: PathBuf,
    metadata: String,
}

/// The document of runtime-spec's config-linux.md, "The Container Process State".
#[derive(Serialize)]
struct ProcessState<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a StateDocument<'a>,
}

impl Agent {
    /// The agent of `profile`, if it names one.
    pub(crate) fn of(profile: &LinuxSeccomp) -> Option<Self> {
        let path = profile.listener_path().clone()?;
        let metadata = profile.listener_metadata().clone().unwrap_or_default();
        Some(Self { path, metadata })
    }

    /// Hands `listener`, the descriptor of process `pid` of the container in `state`, to the agent.
    pub(crate) fn hand_over(
        &self,
        listener: BorrowedFd<'_>,
        pid: i32,
        state: &StateDocument<'_>,
    ) -> Result<()> {
        let document = ProcessState {
            oci_version: state.oci_version,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state,
        };
        let text = serde_json::to_vec(&document).context(|| "print seccomp state".to_owned())?;
        let socket = connect(&self.path).context(|| phrases::NO_SECCOMP_AGENT.to_owned())?;
        kernel::scm::send(socket.as_fd(), &text, &[listener])
            .map(drop)
            .context(|| format!("send seccomp fd to {}", self.path.display()))
    }
}

/// A path that starts with `@` is a name in the abstract namespace.
fn connect(path: &Path) -> std::io::Result<UnixStream> {
    match path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_agent_gets_the_descriptor_and_the_document() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let agent = Agent {
            path,
            metadata: "for me".to_owned(),
        };
        let state = StateDocument {
            oci_version: "1.2.0",
            id: "c",
            pid: 7,
            status: "creating",
            bundle: "/b",
            rootfs: None,
            created: None,
            annotations: BTreeMap::new(),
            owner: None,
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        agent.hand_over(null.as_fd(), 8, &state).unwrap();
        let (socket, _) = listening.accept().unwrap();
        let mut buffer = [0; 4096];
        let (len, fds) = kernel::scm::recv(socket.as_fd(), &mut buffer, 1).unwrap();
        assert_eq!(fds.len(), 1);
        assert_eq!(
            String::from_utf8_lossy(&buffer[..len]),
            r#"{"ociVersion":"1.2.0","fds":["seccompFd"],"pid":8,"metadata":"for me","state":{"ociVersion":"1.2.0","id":"c","pid":7,"status":"creating","bundle":"/b"}}"#
        );
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_with_runcs_words() {
        let agent = Agent {
            path: "@no agent listens here".into(),
            metadata: String::new(),
        };
        let error = connect(&agent.path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
