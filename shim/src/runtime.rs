//! Calls the OCI runtime, and reads from it what went wrong.
//!
//! The runtime's own account of a failure is the last error in the log file
//! it was given; what it printed comes second. The phrases that other
//! programs match on are recognised here and nowhere else.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::bundle::Options;
use crate::failure::{Failure, Result};
use crate::program::Program;
use crate::reaper::Reaper;

/// runc's default root; the namespace is appended.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// What is kept of a runtime's output; the rest is read and dropped.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// How long to read on after the runtime has ended.
const LEFTOVER_OUTPUT: Duration = Duration::from_millis(50);

/// How to call the runtime for one container.
#[derive(Debug)]
pub(crate) struct Runtime {
    program: Program,
    root: PathBuf,
    log: PathBuf,
    systemd_cgroup: bool,
    reaper: Rc<Reaper>,
}

/// The three descriptors a container's process is born with.
pub(crate) struct ChildStdio {
    /// Its input.
    pub(crate) stdin: Stdio,
    /// Its output.
    pub(crate) stdout: Stdio,
    /// Its errors.
    pub(crate) stderr: Stdio,
}

impl std::fmt::Debug for Reaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reaper")
    }
}

/// How a call of the runtime failed.
#[derive(Debug)]
pub(crate) struct RuntimeError {
    words: String,
    logged: bool,
}

impl RuntimeError {
    /// The failure of the operation `op`, in the words clients look for.
    pub(crate) fn during(&self, op: &str) -> Failure {
        Failure::unknown(format!("{op}: {}", self.words))
    }

    /// The same with what the process printed, if the runtime logged nothing.
    pub(crate) fn with_output(mut self, printed: &[u8]) -> Self {
        let text = String::from_utf8_lossy(printed);
        let text = text.trim();
        if !self.logged && !text.is_empty() {
            self.words = format!("{}: {text}", self.words);
        }
        self
    }

    /// Whether the runtime does not know the container (any more).
    pub(crate) fn is_no_container(&self) -> bool {
        self.words.contains("does not exist")
    }

    /// The failure of a kill: a process that is gone is not found.
    pub(crate) fn during_kill(&self) -> Failure {
        let lower = self.words.to_lowercase();
        if [
            "process already finished",
            "container not running",
            "no such process",
        ]
        .iter()
        .any(|phrase| lower.contains(phrase))
        {
            Failure::not_found("process already finished")
        } else if self.is_no_container() {
            Failure::not_found("no such container")
        } else {
            Failure::unknown(format!("unknown error after kill: {}", self.words))
        }
    }
}

impl Runtime {
    /// The runtime that `options` names, for a container of `namespace`.
    pub(crate) fn new(
        options: &Options,
        namespace: &str,
        bundle: &Path,
        reaper: Rc<Reaper>,
    ) -> Self {
        let root = if options.root.is_empty() {
            Path::new(DEFAULT_ROOT)
        } else {
            Path::new(&options.root)
        };
        Self {
            program: Program::named(&options.binary_name),
            root: root.join(namespace),
            log: bundle.join("log.json"),
            systemd_cgroup: options.systemd_cgroup,
            reaper,
        }
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program.command();
        command.arg("--root").arg(&self.root);
        command
            .arg("--log")
            .arg(&self.log)
            .args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(args);
        command
    }

    /// Runs the runtime with a container's own stdio.
    pub(crate) async fn run_with<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdio: ChildStdio,
    ) -> std::result::Result<(), RuntimeError> {
        let mut command = self.command(args);
        command
            .stdin(stdio.stdin)
            .stdout(stdio.stdout)
            .stderr(stdio.stderr);
        let logged_before = log_size(&self.log);
        let child = command.spawn().map_err(|err| self.not_run(&err))?;
        // The command holds our ends of the container's pipes.
        drop(command);
        let exit = self.reaper.watch(child.id()).await;
        self.judge(exit.map_or(255, |exit| exit.status), logged_before)
    }

    /// Runs the runtime by itself; returns what it printed on stdout.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> std::result::Result<Vec<u8>, RuntimeError> {
        let mut command = self.command(args);
        let logged_before = log_size(&self.log);
        let (status, stdout, stderr) = output(&mut command, &self.reaper)
            .await
            .map_err(|err| self.not_run(&err))?;
        match self.judge(status, logged_before) {
            Ok(()) => Ok(stdout),
            Err(err) => Err(err.with_output(&[stderr, stdout].concat())),
        }
    }

    fn not_run(&self, err: &io::Error) -> RuntimeError {
        RuntimeError {
            words: format!("run {}: {err}", self.program.path().display()),
            logged: true,
        }
    }

    fn judge(&self, status: u32, logged_before: u64) -> std::result::Result<(), RuntimeError> {
        if status == 0 {
            return Ok(());
        }
        Err(match last_logged_error(&self.log, logged_before) {
            Ok(Some(words)) => RuntimeError {
                words,
                logged: true,
            },
            Ok(None) => RuntimeError {
                words: format!("exit status {status}"),
                logged: false,
            },
            Err(err) => {
                let words =
                    format!("unable to retrieve OCI runtime error ({err}): exit status {status}");
                RuntimeError {
                    words,
                    logged: false,
                }
            }
        })
    }
}

/// What `<runtime> features` prints, for `-info`.
pub(crate) fn features(binary_name: &str) -> Result<Vec<u8>> {
    let program = Program::named(binary_name);
    let out = program
        .command()
        .arg("features")
        .stdin(Stdio::null())
        .output()
        .map_err(|err| Failure::because(format!("run {}", program.path().display()), &err))?;
    Ok(if out.status.success() {
        out.stdout
    } else {
        Vec::new()
    })
}

/// Runs `command` with its output on pipes that are read at the same time,
/// so that a talkative runtime cannot get stuck.
async fn output(command: &mut Command, reaper: &Reaper) -> io::Result<(u32, Vec<u8>, Vec<u8>)> {
    let (out_reader, out_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (err_reader, err_writer) = pipe2(OFlag::O_CLOEXEC)?;
    command
        .stdin(Stdio::null())
        .stdout(out_writer)
        .stderr(err_writer);
    let child = command.spawn()?;
    // Lets go of our copies of the write ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut exited = reaper.watch(child.id());
    let exit = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(
                read_some(out_reader, &mut stdout),
                read_some(err_reader, &mut stderr)
            );
        });
        let mut read_all = false;
        let exit = loop {
            tokio::select! {
                exit = &mut exited => break exit.ok(),
                () = &mut reading, if !read_all => read_all = true,
            }
        };
        if !read_all {
            // What was printed is in the pipes already. Something that the
            // runtime left behind may hold them open for ever.
            let _ = tokio::time::timeout(LEFTOVER_OUTPUT, reading).await;
        }
        exit
    };
    Ok((exit.map_or(255, |exit| exit.status), stdout, stderr))
}

async fn read_some(from: OwnedFd, into: &mut Vec<u8>) {
    let Ok(mut from) = Receiver::from_owned_fd(from) else {
        return;
    };
    let mut chunk = vec![0; 4096];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        let room = MAX_OUTPUT_BYTES - into.len().min(MAX_OUTPUT_BYTES);
        into.extend_from_slice(&chunk[..n.min(room)]);
    }
}

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

fn log_size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The last error in the log after its first `skip` bytes. Lines that are no
/// JSON are passed over: they tell nothing.
fn last_logged_error(path: &Path, skip: u64) -> io::Result<Option<String>> {
    let bytes = fs::read(path)?;
    let new = usize::try_from(skip)
        .ok()
        .and_then(|skip| bytes.get(skip..))
        .unwrap_or(&bytes);
    Ok(new
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<LogLine>(line).ok())
        .filter(|line| line.level == "error")
        .map(|line| line.msg.trim().to_owned())
        .next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_this_call_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        assert!(last_logged_error(&path, 0).is_err());
        let old = "{\"level\":\"error\",\"msg\":\"old\"}\n";
        fs::write(&path, format!("{old}garbage\n{{\"level\":\"error\",\"msg\":\" new \"}}\n{{\"level\":\"warning\",\"msg\":\"w\"}}\n")).unwrap();
        assert_eq!(
            last_logged_error(&path, old.len() as u64)
                .unwrap()
                .as_deref(),
            Some("new")
        );
        fs::write(&path, old).unwrap();
        assert_eq!(last_logged_error(&path, old.len() as u64).unwrap(), None);
    }

    #[test]
    fn a_kill_of_what_is_gone_is_not_found() {
        let kill = |words: &str| {
            let status: ttrpc_wire::Status = RuntimeError {
                words: words.into(),
                logged: true,
            }
            .during_kill()
            .into();
            (status.code, status.message)
        };
        let gone = (
            ttrpc_wire::Code::NotFound,
            "process already finished: not found".to_owned(),
        );
        assert_eq!(kill("container not running"), gone);
        assert_eq!(kill("os: process already finished"), gone);
        assert_eq!(kill("No such process"), gone);
        assert_eq!(
            kill("container does not exist").1,
            "no such container: not found"
        );
        assert_eq!(
            kill("boom"),
            (
                ttrpc_wire::Code::Unknown,
                "unknown error after kill: boom".to_owned()
            )
        );
    }
}
