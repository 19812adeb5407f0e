//! `ctl run` and its kin without a terminal.

use std::io::{Read, Write};
use std::process::{Child, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::engine::v1::{session_input, session_output};
use tonic::Status;

use crate::fake::{Fake, ID};

fn output(fake: &Fake, args: &[&str]) -> Output {
    fake.ctl(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// A status with Docker's exit code, as the daemon sends it.
fn with_code(mut status: Status, code: &'static str) -> Status {
    status
        .metadata_mut()
        .insert("exit-code", code.parse().unwrap());
    status
}

#[test]
fn an_attached_run_carries_input_both_outputs_and_the_exit_code() {
    let fake = Fake::listen();
    fake.daemon.play(|mut session| async move {
        let Some(session_input::Message::Attach(attach)) = session.next().await else {
            return Err(Status::internal("attach comes first"));
        };
        assert_eq!(
            (attach.container.as_str(), attach.start, attach.stdin),
            (ID, true, true)
        );
        session.started(false).await;
        loop {
            match session.next().await {
                Some(session_input::Message::Stdin(bytes)) => {
                    session.send(session_output::Message::Stdout(bytes)).await;
                }
                Some(session_input::Message::CloseStdin(_)) => break,
                other => return Err(Status::internal(format!("{other:?}"))),
            }
        }
        session
            .send(session_output::Message::Stderr("oops\n".into()))
            .await;
        session.exited(7).await;
        Ok(())
    });
    let mut child = fake
        .ctl(&[
            "run",
            "-i",
            "--rm",
            "-eA=1",
            "-eFROM_HOST",
            "-eNONE",
            "busybox",
            "cat",
            "-e",
        ])
        .env("FROM_HOST", "here")
        .env_remove("NONE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More than all buffers on the way hold.
    let sent = vec![b'x'; 1 << 20];
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || stdin.write_all(&sent)
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.stdout, sent);
    assert_eq!(text(&output.stderr), "oops\n");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        fake.daemon.asked(),
        [
            r#"create busybox ["cat", "-e"] env=["A=1", "FROM_HOST=here"] tty=false stdin=true once=true rm=true"#
        ]
    );
}

#[test]
fn a_detached_run_prints_the_id() {
    let fake = Fake::listen();
    let id_file = fake.dir.path().join("cid");
    let output = output(
        &fake,
        &[
            "run",
            "-dit",
            "--cidfile",
            id_file.to_str().unwrap(),
            "busybox",
        ],
    );
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        (format!("{ID}\n"), Some(0))
    );
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), ID);
    assert_eq!(
        fake.daemon.asked(),
        [
            "create busybox [] env=[] tty=true stdin=true once=false rm=false".to_owned(),
            format!("start {ID}")
        ]
    );
}

#[test]
fn a_missing_image_is_pulled_on_stderr() {
    let fake = Fake::listen();
    fake.daemon
        .creates
        .lock()
        .unwrap()
        .push_back(Err(Status::not_found("no such image: busybox")));
    fake.daemon.play(|session| async move {
        session.started(false).await;
        session.stdout("hello\n").await;
        session.exited(0).await;
        Ok(())
    });
    let output = output(&fake, &["run", "busybox", "echo", "hello"]);
    assert_eq!(
        text(&output.stderr),
        format!(
            "Unable to find image 'busybox:latest' locally\n\
             0123456789ab: Pulling fs layer\n0123456789ab: Pull complete\n\
             Digest: sha256:{ID}\nStatus: Downloaded newer image for busybox:latest\n"
        )
    );
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("hello\n".to_owned(), Some(0))
    );
    assert_eq!(fake.daemon.asked().len(), 3);
}

#[test]
fn pull_never_does_not_pull() {
    let fake = Fake::listen();
    fake.daemon
        .creates
        .lock()
        .unwrap()
        .push_back(Err(Status::not_found("no such image: x")));
    let id_file = fake.dir.path().join("cid");
    let id_arg = id_file.to_str().unwrap();
    let output = output(&fake, &["run", "--cidfile", id_arg, "--pull", "never", "x"]);
    assert_eq!(text(&output.stderr), "ctl: no such image: x\n");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(fake.daemon.asked().len(), 1);
    assert!(!id_file.exists(), "nothing was made, so no id file stays");
}

#[test]
fn failures_exit_as_docker_does() {
    let fake = Fake::listen();
    fake.daemon
        .play(|_| async { Err(with_code(Status::not_found("no such file"), "127")) });
    assert_eq!(
        output(&fake, &["run", "x", "nosuch"]).status.code(),
        Some(127)
    );
    assert_eq!(
        output(&fake, &["exec", "box", "nosuch"]).status.code(),
        Some(127)
    );
    fake.daemon
        .play(|_| async { Err(with_code(Status::internal("not executable"), "126")) });
    assert_eq!(
        output(&fake, &["run", "x", "/etc"]).status.code(),
        Some(126)
    );
    fake.daemon
        .play(|_| async { Err(Status::internal("disk full")) });
    let run = output(&fake, &["run", "x"]);
    assert_eq!(run.status.code(), Some(125));
    assert!(text(&run.stderr).starts_with("ctl: disk full\n"), "{run:?}");
    let exec = output(&fake, &["exec", "box", "true"]);
    assert_eq!(
        (text(&exec.stderr), exec.status.code()),
        ("ctl: disk full\n".to_owned(), Some(1))
    );
    // A session that breaks off is never taken for a success.
    fake.daemon.play(|session| async move {
        session.started(false).await;
        Ok(())
    });
    assert_eq!(output(&fake, &["run", "x"]).status.code(), Some(125));
}

#[test]
fn what_was_typed_wrong_points_to_the_help() {
    let fake = Fake::listen();
    let refused = output(&fake, &["run", "--env-file", "/nosuch", "x"]);
    assert_eq!(
        text(&refused.stderr),
        "ctl: open /nosuch: no such file or directory\n\nRun 'ctl run --help' for more information\n"
    );
    assert_eq!(refused.status.code(), Some(125));
    assert!(fake.daemon.asked().is_empty());
}

#[test]
fn exec_detached_does_not_wait() {
    let fake = Fake::listen();
    fake.daemon.play(|mut session| async move {
        let Some(session_input::Message::Exec(exec)) = session.next().await else {
            return Err(Status::internal("exec comes first"));
        };
        assert!(exec.detach && !exec.stdin);
        assert_eq!(exec.args, ["sleep", "-x"]);
        session.started(false).await;
        std::future::pending().await
    });
    let output = output(&fake, &["exec", "-d", "box", "sleep", "-x"]);
    assert_eq!(
        (output.stdout.len(), output.status.code()),
        (0, Some(0)),
        "{output:?}"
    );
}

/// Starts a run whose container prints `ready` and then waits to be killed.
fn run_until_killed(fake: &Fake, args: &[&str], answer: bool) -> Child {
    fake.daemon.play(move |session| async move {
        session.started(false).await;
        session.stdout("ready").await;
        session.killed.notified().await;
        if !answer {
            std::future::pending::<()>().await;
        }
        session.exited(143).await;
        Ok(())
    });
    let mut child = fake
        .ctl(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    child
}

#[test]
fn signals_go_to_the_container() {
    let fake = Fake::listen();
    let mut child = run_until_killed(&fake, &["run", "x"], true);
    signal(&child, Signal::SIGUSR1);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(fake.daemon.asked().last(), Some(&format!("kill {ID} USR1")));
}

#[test]
fn a_third_interrupt_ends_ctl() {
    let fake = Fake::listen();
    let child = run_until_killed(&fake, &["run", "x"], false);
    for count in 1..=3 {
        signal(&child, Signal::SIGINT);
        // Signals that come too fast would be seen as one.
        while count < 3 && fake.daemon.asked().len() < 1 + count {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"
    );
}

#[test]
fn without_sig_proxy_a_signal_ends_only_ctl() {
    let fake = Fake::listen();
    let mut child = run_until_killed(&fake, &["run", "--sig-proxy=false", "x"], true);
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(fake.daemon.asked().len(), 1, "nothing was killed");
}

#[test]
fn a_closed_output_ends_quietly() {
    let fake = Fake::listen();
    fake.daemon.play(|session| async move {
        session.started(false).await;
        loop {
            session.stdout(&"x".repeat(4096)).await;
            if session.output.is_closed() {
                return Ok(());
            }
        }
    });
    let mut child = fake
        .ctl(&["run", "x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (text(&output.stderr), output.status.code()),
        (String::new(), Some(141))
    );
}

#[test]
fn a_terminal_needs_a_terminal() {
    let fake = Fake::listen();
    for args in [&["run", "-it", "x"][..], &["exec", "-it", "box", "sh"]] {
        let output = output(&fake, args);
        assert_eq!(text(&output.stderr), "ctl: the input device is not a TTY\n");
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(fake.daemon.asked().is_empty());
}
