//! The daemon that ctl starts by itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::{Fake, ctl};

/// A copy of ctl with `script` beside it as the daemon, and a state directory.
struct Installed {
    dir: tempfile::TempDir,
}

impl Installed {
    /// The files are written by other processes: a file that this one has
    /// open for writing while another test forks cannot be executed until
    /// that child has executed its own program.
    fn with_daemon(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = r#"cp "$1" "$2/ctl"
            printf '#!/bin/sh\n%s\n' "$3" >"$2/containerd-lite"
            chmod 755 "$2/containerd-lite""#;
        let written = Command::new("sh")
            .args(["-ec", write, "sh"])
            .args([ctl(), dir.path(), Path::new(script)])
            .status();
        assert!(written.unwrap().success());
        Self { dir }
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("ctl"));
        command
            .args(args)
            .env_remove("CTL_HOST")
            .env("CONTAINERD_LITE_STATE", self.state())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ends what a test's daemon script left running.
struct Started(Pid);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

fn number(path: &Path) -> i32 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn several_clients_start_one_daemon_in_its_own_session() {
    let fake = Fake::listen();
    // The script becomes a daemon by pointing the socket at the fake one.
    let installed = Installed::with_daemon(&format!(
        "echo \"$@\" >>\"$2/starts\"; echo $$ >\"$2/pid\"
         cut -d' ' -f6 </proc/self/stat >\"$2/session\"
         sleep 0.1
         ln -s '{}' \"$2/containerd-lite.sock\"
         exec sleep 300",
        fake.socket().display()
    ));
    let clients: Vec<_> = (0..4)
        .map(|_| installed.ctl(&["ps", "-q"]).spawn().unwrap())
        .collect();
    let outputs: Vec<Output> = clients
        .into_iter()
        .map(|client| client.wait_with_output().unwrap())
        .collect();
    let state = installed.state();
    let pid = number(&state.join("pid"));
    let _started = Started(Pid::from_raw(pid));
    for output in &outputs {
        assert!(output.status.success(), "{output:?}");
    }
    let said: String = outputs.iter().map(stderr).collect();
    assert_eq!(
        said,
        format!(
            "ctl: no daemon is running: starting containerd-lite, log in {}\n",
            state.join("daemon.log").display()
        )
    );
    let starts = fs::read_to_string(state.join("starts")).unwrap();
    assert_eq!(starts, format!("--state {}\n", state.display()));
    assert_eq!(number(&state.join("session")), pid);
    // It lives on, and is not started again.
    let again = installed.ctl(&["ps", "-q"]).output().unwrap();
    assert_eq!(
        (stderr(&again), again.status.code()),
        (String::new(), Some(0))
    );
}

#[test]
fn a_daemon_that_dies_is_told_by_its_last_line() {
    let installed = Installed::with_daemon("echo first; echo 'disk on fire' >&2; exit 3");
    let state = installed.state();
    fs::create_dir(&state).unwrap();
    fs::write(state.join("daemon.log"), "an old line\n").unwrap();
    let output = installed.ctl(&["run", "x"]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(
        said.lines().nth(1),
        Some("ctl: the daemon ended at its start with exit code 3: disk on fire"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(125));
    let log = fs::read_to_string(state.join("daemon.log")).unwrap();
    assert_eq!(log, "an old line\nfirst\ndisk on fire\n");

    let silent = Installed::with_daemon("exit 1");
    fs::create_dir(silent.state()).unwrap();
    fs::write(silent.state().join("daemon.log"), "an old line\n").unwrap();
    let output = silent.ctl(&["ps"]).output().unwrap();
    assert!(
        stderr(&output).ends_with("with exit code 1 and logged nothing\n"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_named_host_is_never_started() {
    let installed = Installed::with_daemon("echo started >>\"$2/starts\"");
    let socket = installed.dir.path().join("nobody.sock");
    let host = format!("unix://{}", socket.display());
    for output in [
        installed.ctl(&["--host", &host, "ps"]).output().unwrap(),
        installed
            .ctl(&["ps"])
            .env("CTL_HOST", &host)
            .output()
            .unwrap(),
    ] {
        let said = stderr(&output);
        assert!(
            said.starts_with(&format!("ctl: cannot connect to the daemon at {host}.")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1);
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(!installed.state().exists());
}

#[test]
fn without_a_daemon_to_start_the_error_says_so() {
    let installed = Installed::with_daemon("");
    fs::remove_file(installed.dir.path().join("containerd-lite")).unwrap();
    let output = installed
        .ctl(&["ps"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(
        said.contains("there is no containerd-lite beside ctl or on PATH"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}
