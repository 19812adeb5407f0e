//! Shim binaries: where they are found, and the two commands they are run for.
//!
//! `start` answers with the address of a shim that has detached itself;
//! `delete` cleans up after one that died, and answers with what is known of
//! the exit. Both run in the bundle and learn of the daemon by flags and
//! environment, as containerd 1.6 to 2.x call them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Because, Error, Kind, Result};
use crate::namespace::Namespace;
use crate::shim::endpoint::Endpoint;
use crate::shim::process::Deleted;
use crate::shim::wire;
use crate::values::AnyValue;

/// A shim that has not answered `start` by then never will.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// `delete` kills, unmounts and removes; a busy disk may make it slow.
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// What every shim is told of the daemon.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The daemon's gRPC socket.
    pub grpc_address: PathBuf,
    /// Where the daemon takes shims' events.
    pub ttrpc_address: PathBuf,
    /// The binary that an old shim runs with `publish`: the daemon's own.
    pub publish_binary: PathBuf,
    /// Directories to look for shim binaries in, before the daemon's own and PATH.
    pub dirs: Vec<PathBuf>,
    /// Whether shims should log their debug lines.
    pub debug: bool,
}

/// Whose shim it is: the namespace, the container, and the bundle to run in.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The container's namespace.
    pub namespace: &'a Namespace,
    /// The container's id.
    pub id: &'a str,
    /// Its bundle directory.
    pub bundle: &'a Path,
}

impl Launcher {
    /// The shim binary for the runtime `name`: an absolute path is the binary
    /// itself; `io.containerd.runc.v2` means `containerd-shim-runc-v2` in
    /// one of the directories, beside the daemon, or on PATH.
    ///
    /// # Errors
    /// InvalidArgument for a name of another form, NotFound if there is no such file.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        if Path::new(name).is_absolute() {
            let path = PathBuf::from(name);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(Kind::NotFound.error(format!(
                    "runtime {name:?} binary not installed: no such file"
                )))
            };
        }
        let binary = binary_name(name)
            .ok_or_else(|| Kind::InvalidArgument.error(format!("invalid runtime name {name:?} (expected a path or a name like io.containerd.runc.v2)")))?;
        let beside = self.publish_binary.parent().map(Path::to_owned);
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        self.dirs
            .iter()
            .cloned()
            .chain(beside)
            .chain(std::env::split_paths(&on_path))
            .map(|dir| dir.join(&binary))
            .find(|path| path.is_absolute() && path.is_file())
            .ok_or_else(|| Kind::NotFound.error(format!("runtime {name:?} binary not installed {binary:?}: no such file beside the daemon or on PATH")))
    }

    /// Runs `shim start` and returns where the shim listens.
    ///
    /// # Errors
    /// Unknown with the shim's own words if it fails, DeadlineExceeded if it
    /// does not come to an end.
    pub async fn start(
        &self,
        shim: &Path,
        whose: Whose<'_>,
        options: Option<&AnyValue>,
    ) -> Result<Endpoint> {
        let input = options.map(|options| wire::any(options).encode_to_vec());
        let output = self.run(shim, whose, "start", input, START_TIMEOUT).await?;
        Endpoint::parse(&output.stdout)
    }

    /// Runs `shim delete` after a shim that is gone; kills what it left
    /// running, unmounts its root file system, and says how the container ended.
    ///
    /// # Errors
    /// As [`Launcher::start`]; DataLoss if the answer does not decode.
    pub async fn delete(&self, shim: &Path, whose: Whose<'_>) -> Result<Deleted> {
        let output = self
            .run(shim, whose, "delete", None, DELETE_TIMEOUT)
            .await?;
        let warnings = String::from_utf8_lossy(&output.stderr);
        if !warnings.trim().is_empty() {
            tracing::warn!(
                container_id = whose.id,
                warnings = warnings.trim(),
                "shim delete"
            );
        }
        let answer = proto::containerd::task::v2::DeleteResponse::decode(output.stdout.as_slice())
            .map_err(|err| {
                Kind::DataLoss
                    .error(format!("shim's answer to delete of {:?}", whose.id))
                    .because(err)
            })?;
        Ok(wire::deleted(answer))
    }

    async fn run(
        &self,
        shim: &Path,
        whose: Whose<'_>,
        action: &str,
        input: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Output> {
        let op = || format!("run {} {action} for {:?}", shim.display(), whose.id);
        let mut command = self.command(shim, whose, action);
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command.spawn().op(op)?;
        let work = async {
            if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
                // A shim that does not want its options may close the pipe early.
                let _ = stdin.write_all(&input).await;
            }
            child.wait_with_output().await.op(op)
        };
        // On timeout the child is dropped, and thereby killed.
        let output = tokio::time::timeout(limit, work)
            .await
            .map_err(|_| Kind::DeadlineExceeded.error(op()))??;
        if output.status.success() {
            Ok(output)
        } else {
            Err(refused(op(), &output))
        }
    }

    fn command(&self, shim: &Path, whose: Whose<'_>, action: &str) -> Command {
        let mut command = Command::new(shim);
        command
            .current_dir(whose.bundle)
            .arg("-namespace")
            .arg(whose.namespace.as_str())
            .arg("-address")
            .arg(&self.grpc_address)
            .arg("-publish-binary")
            .arg(&self.publish_binary)
            .arg("-id")
            .arg(whose.id);
        if action == "delete" {
            command.arg("-bundle").arg(whose.bundle);
        }
        if self.debug {
            command.arg("-debug");
        }
        command
            .arg(action)
            .env("TTRPC_ADDRESS", &self.ttrpc_address)
            .env("GRPC_ADDRESS", &self.grpc_address)
            .env("NAMESPACE", whose.namespace.as_str())
            // The answer to start may be JSON: what containerd says since 1.7.
            .env("MAX_SHIM_VERSION", "2")
            // A Go shim gives each thread memory of its own.
            .env("GOMAXPROCS", "2")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the daemon's terminal is not meant for shims.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// The shim's words, which often hold the reason in their last line.
fn refused(op: String, output: &Output) -> Error {
    let mut said = output.stderr.clone();
    said.extend_from_slice(&output.stdout);
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let why = if said.is_empty() {
        output.status.to_string()
    } else {
        format!("{said}: {}", output.status)
    };
    Kind::Unknown.error(op).because(why)
}

/// `io.containerd.runc.v2` → `containerd-shim-runc-v2`.
fn binary_name(runtime: &str) -> Option<OsString> {
    let mut parts = runtime.rsplit('.');
    let (version, name) = (parts.next()?, parts.next()?);
    let safe = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (safe(version) && safe(name) && !runtime.starts_with('.'))
        .then(|| OsString::from(format!("containerd-shim-{name}-{version}")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn launcher(dir: &Path) -> Launcher {
        Launcher {
            grpc_address: "/g".into(),
            ttrpc_address: "/g.ttrpc".into(),
            publish_binary: "/nowhere/containerd-lite".into(),
            dirs: vec![dir.to_owned()],
            debug: false,
        }
    }

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("containerd-shim-fake-v2");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_runtime_name_leads_to_its_binary() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "");
        let launcher = launcher(dir.path());
        assert_eq!(launcher.find("io.containerd.fake.v2").unwrap(), path);
        assert_eq!(launcher.find(path.to_str().unwrap()).unwrap(), path);
        assert_eq!(
            launcher.find("io.containerd.absent.v2").unwrap_err().kind(),
            Kind::NotFound
        );
        assert_eq!(launcher.find("/absent").unwrap_err().kind(), Kind::NotFound);
        for bad in ["", "runc", "a/b.v2", ".runc.v2", "runc..", "x.../y"] {
            assert_eq!(
                launcher.find(bad).unwrap_err().kind(),
                Kind::InvalidArgument,
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn start_runs_in_the_bundle_with_flags_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let shim = script(
            dir.path(),
            r#"echo "$PWD $* $TTRPC_ADDRESS $NAMESPACE" > seen; cat > options; echo unix:///run/x"#,
        );
        let options = AnyValue {
            type_url: "t".to_owned(),
            value: vec![7],
        };
        let namespace = Namespace::default();
        let whose = Whose {
            namespace: &namespace,
            id: "c",
            bundle: dir.path(),
        };
        let endpoint = launcher(dir.path())
            .start(&shim, whose, Some(&options))
            .await
            .unwrap();
        assert_eq!(
            endpoint,
            Endpoint {
                socket: "/run/x".into(),
                version: 2
            }
        );
        let wanted = format!(
            "{} -namespace default -address /g -publish-binary /nowhere/containerd-lite -id c start /g.ttrpc default\n",
            dir.path().display()
        );
        assert_eq!(fs::read_to_string(dir.path().join("seen")).unwrap(), wanted);
        assert_eq!(
            prost_types::Any::decode(fs::read(dir.path().join("options")).unwrap().as_slice())
                .unwrap(),
            wire::any(&options)
        );
    }

    #[tokio::test]
    async fn a_failing_shim_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let shim = script(dir.path(), "echo no room >&2; exit 3");
        let namespace = Namespace::default();
        let whose = Whose {
            namespace: &namespace,
            id: "c",
            bundle: dir.path(),
        };
        let err = launcher(dir.path())
            .start(&shim, whose, None)
            .await
            .unwrap_err();
        assert!(
            crate::error::chain(&err).ends_with("no room: exit status: 3"),
            "{}",
            crate::error::chain(&err)
        );
    }
}
