//! The files of a bundle that the shim reads and writes.
//!
//! | file | writer | what |
//! |---|---|---|
//! | `config.json` | daemon | the OCI spec; the shim reads annotations and namespaces |
//! | `address`, `shim.pid` | `start` | where the shim listens, and its pid |
//! | `options.json`, `runtime` | Create | the runtime's options, for `delete` in a later life |
//! | `init.pid`, `<exec>.pid` | runtime | the process |
//! | `init.session`, `exec-<id>.session` | shim | the socket where clients attach, for `delete` |
//! | `log.json` | runtime | its messages |
//! | `init.exit`, `<exec>.exit` | shim | how a process ended, written before anybody is told |
//!
//! All of it is gone after a reboot, so nothing here is synced; files are
//! replaced whole, as a daemon may read them at any time.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// The annotations that put containers into one shim; the first one present counts.
const GROUP_ANNOTATIONS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// What a note of a session's socket is called, see [`process_path`].
const SESSION: &str = "session";

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: HashMap<String, String>,
    linux: Option<SpecLinux>,
}

#[derive(Deserialize)]
struct SpecLinux {
    #[serde(default)]
    namespaces: Option<Vec<SpecNamespace>>,
}

#[derive(Deserialize)]
struct SpecNamespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

fn spec(bundle: &Path) -> io::Result<Spec> {
    let text = fs::read(bundle.join("config.json"))?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// The group of all containers of a node that have no other. No container is
/// called so, as a blank is not in an id.
const NODE: &str = "the node";

/// The group the bundle's container belongs to: a pod's, if `node` is set the
/// node's, or its own `id`.
pub(crate) fn group(bundle: &Path, id: &str, node: bool) -> Result<String> {
    let spec = spec(bundle).map_err(|err| {
        Failure::because(
            format!("read {}", bundle.join("config.json").display()),
            &err,
        )
    })?;
    Ok(GROUP_ANNOTATIONS
        .iter()
        .find_map(|name| spec.annotations.get(*name))
        .cloned()
        .or_else(|| node.then(|| NODE.to_owned()))
        .unwrap_or_else(|| id.to_owned()))
}

/// Whether the container has no pid namespace of its own, so that the kernel
/// does not end its processes with its init. True as well if nobody can tell.
pub(crate) fn processes_outlive_init(bundle: &Path) -> bool {
    let Ok(spec) = spec(bundle) else { return true };
    let namespaces = spec
        .linux
        .and_then(|linux| linux.namespaces)
        .unwrap_or_default();
    !namespaces
        .iter()
        .any(|ns| ns.kind == "pid" && ns.path.is_empty())
}

/// Checks that `id` is one plain path component.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !id.is_empty() && id.len() <= 200 && id.bytes().all(allowed) && !id.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "identifier {id:?} must match [A-Za-z0-9_][A-Za-z0-9_.-]*"
    )))
}

/// What of the runtime's options has to outlive the shim; the names are those
/// in `containerd.runc.v1.Options`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// The runtime's binary, or empty for ours.
    pub(crate) binary_name: String,
    /// The runtime's root, without the namespace.
    pub(crate) root: String,
    /// Whether systemd owns the cgroups.
    pub(crate) systemd_cgroup: bool,
    /// `--no-pivot`.
    pub(crate) no_pivot_root: bool,
    /// `--no-new-keyring`.
    pub(crate) no_new_keyring: bool,
    /// Owner of the stdio pipes.
    pub(crate) io_uid: u32,
    /// Group of the stdio pipes.
    pub(crate) io_gid: u32,
    /// The cgroup for the shim itself, or empty.
    pub(crate) shim_cgroup: String,
    /// Where checkpoints go whose request names no place, or empty.
    pub(crate) criu_image_path: String,
    /// Where CRIU keeps its logs, or empty.
    pub(crate) criu_work_path: String,
}

/// Keeps `options` for a `delete` after the shim's death.
pub(crate) fn write_options(bundle: &Path, options: &Options) -> io::Result<()> {
    let text = serde_json::to_vec(options).map_err(io::Error::from)?;
    replace(&bundle.join("options.json"), &text)?;
    replace(&bundle.join("runtime"), options.binary_name.as_bytes())
}

/// The options [`write_options`] kept; the default if there are none.
pub(crate) fn read_options(bundle: &Path) -> io::Result<Options> {
    match fs::read(bundle.join("options.json")) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Options::default()),
        Err(err) => Err(err),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The process.
    pub(crate) pid: u32,
    /// Its exit code, or 128 and the signal that ended it.
    pub(crate) status: u32,
    /// When it was reaped.
    pub(crate) at: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct ExitFile {
    pid: u32,
    exit_status: u32,
    exited_at: String,
}

/// The file that holds the exit of `exec`, or of the init process.
pub(crate) fn exit_path(bundle: &Path, exec: Option<&str>) -> PathBuf {
    process_path(bundle, exec, "exit")
}

/// The file the runtime writes the pid of `exec`, or of the init process, to.
pub(crate) fn pid_path(bundle: &Path, exec: Option<&str>) -> PathBuf {
    process_path(bundle, exec, "pid")
}

/// `init.<what>`, or `exec-<id>.<what>`: an exec may well be called init.
pub(crate) fn process_path(bundle: &Path, exec: Option<&str>, what: &str) -> PathBuf {
    match exec {
        None => bundle.join(format!("init.{what}")),
        Some(id) => bundle.join(format!("exec-{id}.{what}")),
    }
}

/// Writes down how a process ended.
pub(crate) fn write_exit(path: &Path, exit: Exit) -> io::Result<()> {
    let file = ExitFile {
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Timestamp::from(exit.at).to_string(),
    };
    replace(path, &serde_json::to_vec(&file).map_err(io::Error::from)?)
}

/// What [`write_exit`] wrote, if it did.
pub(crate) fn read_exit(path: &Path) -> Option<Exit> {
    let file: ExitFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let at = SystemTime::try_from(Timestamp::from_str(&file.exited_at).ok()?).ok()?;
    Some(Exit {
        pid: file.pid,
        status: file.exit_status,
        at,
    })
}

/// Notes the socket of a process's session, which a shim that is killed leaves
/// behind.
pub(crate) fn note_session(bundle: &Path, exec: Option<&str>, socket: &Path) -> io::Result<()> {
    let path = process_path(bundle, exec, SESSION);
    replace(&path, socket.as_os_str().as_encoded_bytes())
}

/// The sockets that [`note_session`] noted.
pub(crate) fn noted_sessions(bundle: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(bundle)? {
        let path = entry?.path();
        if path.extension().is_some_and(|what| what == SESSION) {
            sockets.push(OsString::from_vec(fs::read(path)?).into());
        }
    }
    Ok(sockets)
}

/// Reads a pid file.
pub(crate) fn read_pid(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse::<i32>()
        .ok()
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|&pid| pid > 0)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("pid file {} holds {text:?}", path.display()),
            )
        })
}

/// Replaces `path` by a file of `bytes`: a reader sees the old or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn bundle(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        dir
    }

    #[test]
    fn a_pods_containers_share_its_group() {
        let pod = bundle(
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"g"}}"#,
        );
        for node in [false, true] {
            assert_eq!(group(pod.path(), "c", node).unwrap(), "g");
        }
        let alone = bundle(r#"{"ociVersion":"1.0.2"}"#);
        assert_eq!(group(alone.path(), "c", false).unwrap(), "c");
        assert_eq!(group(alone.path(), "c", true).unwrap(), NODE);
        assert!(group(bundle("{").path(), "c", false).is_err());
    }

    #[test]
    fn only_a_fresh_pid_namespace_ends_everything_with_init() {
        let check = |config: &str, outlive| {
            assert_eq!(
                processes_outlive_init(bundle(config).path()),
                outlive,
                "{config}"
            )
        };
        check(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#, false);
        check(
            r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#,
            true,
        );
        check(r#"{"linux":{"namespaces":[{"type":"mount"}]}}"#, true);
        check(r#"{"linux":{}}"#, true);
    }

    #[test]
    fn an_exit_survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let exit = Exit {
            pid: 42,
            status: 137,
            at,
        };
        let path = exit_path(dir.path(), Some("e"));
        assert_eq!(read_exit(&path), None);
        write_exit(&path, exit).unwrap();
        assert_eq!(read_exit(&path), Some(exit));
    }

    #[test]
    fn ids_stay_inside_the_bundle() {
        for good in ["web-1", "a", "0.b_c"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".a", "a/b", "-x", "a b", "\0"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pid_file_must_hold_a_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for (text, pid) in [
            ("12", Some(12)),
            ("12\n", Some(12)),
            ("", None),
            ("-3", None),
            ("0", None),
            ("x", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_pid(&path).ok(), pid, "{text:?}");
        }
    }
}
