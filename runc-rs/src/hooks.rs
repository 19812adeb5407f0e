//! Runs the programs that a config hangs onto moments of a container's life.
//!
//! Each gets the container's state on standard input and nothing of our environment. What it prints is shown only when it fails.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Hook;

use crate::failure::{Context, Failure, Result};
use crate::phrases;

/// Runs `hooks` in order; `kind` names them in the message of a failure, which ends the row.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    run_in(kind, hooks, state, &[])
}

/// As [`run`]; a hook that sets no environment gets `inherited`.
pub(crate) fn run_in(kind: &str, hooks: &[Hook], state: &[u8], inherited: &[String]) -> Result<()> {
    for (at, hook) in hooks.iter().enumerate() {
        run_one(hook, state, inherited).context(|| format!("error running {kind} hook #{at}"))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8], inherited: &[String]) -> Result<()> {
    // The container's filter is in force for a startContainer hook and may forbid this; then its output is not seen.
    let output = || -> std::io::Result<File> {
        match memfd_create(c"hook", MFdFlags::MFD_CLOEXEC) {
            Ok(file) => Ok(file.into()),
            Err(_) => OpenOptions::new().read(true).write(true).open("/dev/null"),
        }
    };
    let mut stdout = output().context(|| "make a file for its output".to_owned())?;
    let mut stderr = output().context(|| "make a file for its output".to_owned())?;
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((name, rest)) = args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for entry in hook.env().as_deref().unwrap_or(inherited) {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(key, value);
    }
    let clone = |file: &File| file.try_clone().map(Stdio::from);
    command
        .stdin(Stdio::piped())
        .stdout(clone(&stdout).context(|| "pass a file for its output".to_owned())?)
        .stderr(clone(&stderr).context(|| "pass a file for its output".to_owned())?);
    let mut child = command
        .spawn()
        .context(|| format!("start {}", hook.path().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input, nor live long enough to.
        let _unread = stdin.write_all(state);
    }
    let pid = i32::try_from(child.id()).unwrap_or_default();
    if let Some(seconds) = hook.timeout().filter(|t| *t > 0) {
        let pidfd = kernel::process::pidfd_open(pid)
            .context(|| format!("watch {}", hook.path().display()))?;
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(seconds.saturating_mul(1000)).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, limit).context(|| "wait".to_owned())? == 0 {
            // It may have ended this instant; killing a dead child is no error worth telling.
            let _gone = child.kill();
            child.wait().context(|| "wait".to_owned())?;
            return Err(Failure::new(format!(
                "hook ran past specified timeout of {seconds}.0s"
            )));
        }
    }
    let status = child.wait().context(|| "wait".to_owned())?;
    if status.success() {
        return Ok(());
    }
    let text = |file: &mut File| {
        let mut out = String::new();
        // Unreadable output must not hide the failure it belongs to.
        let _shown_empty = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.take(4096).read_to_string(&mut out));
        out
    };
    Err(Failure::new(format!(
        "{}, stdout: {}, stderr: {}",
        ended(status),
        text(&mut stdout),
        text(&mut stderr)
    )))
}

/// `exit status 3` or `signal: killed`, as Go has it.
fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let dumped = if status.core_dumped() {
                " (core dumped)"
            } else {
                ""
            };
            format!("signal: {}{dumped}", phrases::signal_words(signal))
        }
        (None, None) => "unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Vec<Hook> {
        vec![serde_json::from_str(json).unwrap()]
    }

    #[test]
    fn a_failing_hook_is_named_with_its_output() {
        let hooks = hook(r#"{"path":"/bin/sh","args":["sh","-c","cat >&2; exit 3"]}"#);
        let error = run("createRuntime", &hooks, b"state").unwrap_err().chain();
        assert_eq!(
            error,
            "error running createRuntime hook #0: exit status 3, stdout: , stderr: state"
        );
    }

    #[test]
    fn a_hook_without_an_environment_inherits_the_one_given() {
        let inherited = ["A=1".to_owned()];
        let run = |env: &str| {
            let hooks = hook(&format!(
                r#"{{"path":"/bin/sh","args":["sh","-c","echo A=$A; exit 1"]{env}}}"#
            ));
            run_in("startContainer", &hooks, b"", &inherited)
                .unwrap_err()
                .chain()
        };
        assert!(run("").contains("stdout: A=1\n"));
        assert!(run(r#","env":["B=2"]"#).contains("stdout: A=\n"));
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed_and_one_that_does_not_read_is_fine() {
        run("poststart", &hook(r#"{"path":"/bin/true"}"#), b"state").unwrap();
        let slow = hook(r#"{"path":"/bin/sleep","args":["sleep","100"],"timeout":1}"#);
        assert!(
            run("poststop", &slow, b"state")
                .unwrap_err()
                .chain()
                .contains("timeout of 1.0s")
        );
    }
}
