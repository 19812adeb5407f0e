//! Where the daemon is: `--host`, `CTL_HOST`, or the embedded default.

use std::path::{Path, PathBuf};

/// Name of the socket in the daemon's state directory.
const SOCKET: &str = "containerd-lite.sock";

/// The daemon's state directory when the environment names none.
const STATE: &str = "/run/containerd-lite";

/// Which daemon to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A socket the user named: used as it is.
    Named(PathBuf),
    /// The socket in `state`; a daemon is started when none answers.
    Embedded {
        /// The daemon's state directory, absolute.
        state: PathBuf,
    },
}

impl Host {
    /// From `--host` or `CTL_HOST`, and `CONTAINERD_LITE_STATE`.
    pub(crate) fn parse(host: Option<&str>, state: Option<PathBuf>) -> Result<Self, String> {
        match host.filter(|host| !host.is_empty()) {
            Some(host) => match host.strip_prefix("unix://").map(Path::new) {
                Some(path) if path.is_absolute() => Ok(Self::Named(path.to_owned())),
                _ => Err(format!(
                    "unable to parse host `{host}`: expected unix:///path/to/socket"
                )),
            },
            None => {
                let state = state.filter(|state| !state.as_os_str().is_empty());
                let state = state.unwrap_or_else(|| PathBuf::from(STATE));
                let state = std::path::absolute(&state)
                    .map_err(|err| format!("resolve {}: {err}", state.display()))?;
                Ok(Self::Embedded { state })
            }
        }
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        match self {
            Self::Named(path) => path.clone(),
            Self::Embedded { state } => state.join(SOCKET),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_host_is_a_unix_socket() {
        let named = Host::parse(Some("unix:///a/b.sock"), None).unwrap();
        assert_eq!(named.socket(), Path::new("/a/b.sock"));
        for bad in ["tcp://127.0.0.1:1", "/a/b.sock", "unix://", "unix://a"] {
            assert!(Host::parse(Some(bad), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_is_in_the_state_directory() {
        let socket = |host, state: Option<&str>| {
            Host::parse(host, state.map(PathBuf::from))
                .unwrap()
                .socket()
        };
        assert_eq!(
            socket(None, None),
            Path::new("/run/containerd-lite/containerd-lite.sock")
        );
        assert_eq!(
            socket(Some(""), Some("/s")),
            Path::new("/s/containerd-lite.sock")
        );
        assert_eq!(
            socket(None, Some("")),
            Path::new("/run/containerd-lite/containerd-lite.sock")
        );
    }
}
