//! Where output can go besides fifos: logging programs, the journal, syslog.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use proto::containerd::task::v2::ResizePtyRequest;
use ttrpc_wire::Status;

use crate::lab::{Lab, in_lab};

fn script(lab: &Lab, body: &str) -> PathBuf {
    let path = lab.path("logger");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs `args` to its end with `uri` for its output.
async fn run(lab: &Lab, args: &[&str], uri: &str, terminal: bool) -> Result<u32, Status> {
    lab.make_bundle("c", args, |spec| {
        spec["process"]["terminal"] = terminal.into();
    });
    lab.start_shim("c").await;
    let mut request = lab.request("c");
    (request.stdout, request.stderr) = (uri.to_owned(), uri.to_owned());
    request.terminal = terminal;
    lab.create(request).await?;
    lab.start("c", "").await?;
    Ok(lab.wait("c", "").await)
}

#[test]
fn a_logging_program_has_all_output_when_the_exit_is_told() {
    in_lab(async |lab| {
        // Slow at its end: the exit waits for it.
        let logger = script(
            lab,
            "exec >$2 2>&1; env; exec 5>&-; cat <&3; cat <&4; sleep 0.5; echo done",
        );
        let log = lab.path("log");
        let uri = format!("binary://{}?-o={}", logger.display(), log.display());
        let program = ["sh", "-c", "echo out; echo err >&2; exit 6"];
        assert_eq!(run(lab, &program, &uri, false).await.unwrap(), 6);
        let text = fs::read_to_string(&log).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("PWD="))
            .collect();
        lines[..2].sort_unstable();
        assert_eq!(
            lines,
            [
                "CONTAINER_ID=c",
                "CONTAINER_NAMESPACE=test",
                "out",
                "err",
                "done"
            ]
        );
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;
    });
}

#[test]
fn a_logging_program_reads_a_terminal() {
    in_lab(async |lab| {
        let log = lab.path("log");
        let logger = script(lab, "exec 5>&-; cat <&3 >$2");
        let uri = format!("binary://{}?-o={}", logger.display(), log.display());
        lab.make_bundle("c", &["sh", "-c", "read x; stty size"], |spec| {
            spec["process"]["terminal"] = true.into();
        });
        lab.start_shim("c").await;
        let stdin = lab.fifo();
        let mut request = lab.request("c");
        (request.stdout, request.terminal) = (uri, true);
        request.stdin = stdin.to_str().unwrap().into();
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        let size = ResizePtyRequest {
            id: "c".into(),
            exec_id: String::new(),
            width: 71,
            height: 17,
        };
        let _: () = lab.call("c", "ResizePty", size).await.unwrap();
        fs::write(&stdin, "\n").unwrap();
        assert_eq!(lab.wait("c", "").await, 0);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("17 71"), "{text:?}");
    });
}

#[test]
fn a_logging_program_that_is_not_ready_fails_the_create() {
    in_lab(async |lab| {
        for (scheme, body, words) in [
            ("binary-v2", "exit 0", "without saying that it is ready"),
            ("binary", "", "start logging binary"),
        ] {
            let mut logger = script(lab, body);
            if body.is_empty() {
                logger = "/no/such".into();
            }
            let uri = format!("{scheme}://{}", logger.display());
            if lab.bundle("c").exists() {
                fs::remove_dir_all(lab.bundle("c")).unwrap();
            }
            let err = run(lab, &["true"], &uri, false).await.unwrap_err();
            assert!(err.message.contains(words), "{err}");
        }
        // The strict scheme with its byte works.
        let logger = script(lab, "printf x >&5; exec 5>&-; cat <&3 >/dev/null");
        fs::remove_dir_all(lab.bundle("c")).unwrap();
        let uri = format!("binary-v2://{}", logger.display());
        assert_eq!(run(lab, &["true"], &uri, false).await.unwrap(), 0);
        // Its pid went with the first bundle, so it has to end by itself.
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;
    });
}

#[test]
fn a_logging_program_that_does_not_end_is_ended_by_delete() {
    in_lab(async |lab| {
        let pid_file = lab.path("pid");
        let logger = script(lab, "echo $$ >$2; exec 5>&-; exec sleep 1000");
        let uri = format!("binary://{}?-p={}", logger.display(), pid_file.display());
        assert_eq!(run(lab, &["true"], &uri, false).await.unwrap(), 0);
        let pid = fs::read_to_string(&pid_file).unwrap();
        lab.delete("c", "").await.unwrap();
        let command = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        assert!(!command.starts_with(b"sleep"));
    });
}

/// Receives datagrams until `count` have come.
async fn received(socket: &UnixDatagram, count: usize) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while found.len() < count {
        match socket.recv(&mut buffer) {
            Ok(n) => found.push(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    found
}

#[test]
fn lines_go_to_the_journal_with_their_fields() {
    in_lab(async |lab| {
        let journal = UnixDatagram::bind(lab.path("journal")).unwrap();
        let uri = format!(
            "session://{}?driver=journald&journal={}&field=CONTAINER_NAME%3Dweb",
            lab.path("s.sock").display(),
            lab.path("journal").display()
        );
        let program = ["sh", "-c", "echo out; echo err >&2; printf rest"];
        assert_eq!(run(lab, &program, &uri, false).await.unwrap(), 0);
        let mut entries = received(&journal, 3).await;
        entries.sort_unstable();
        assert_eq!(
            entries,
            [
                "MESSAGE=err\nPRIORITY=3\nCONTAINER_NAME=web\n",
                "MESSAGE=out\nPRIORITY=6\nCONTAINER_NAME=web\n",
                "MESSAGE=rest\nPRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_NAME=web\n",
            ]
        );
    });
}

#[test]
fn lines_go_to_a_syslog_daemon_that_may_come_late() {
    in_lab(async |lab| {
        let socket = lab.path("log");
        let uri = format!(
            "session://{}?driver=syslog&tag=web&syslog-address=unixgram://{}",
            lab.path("s.sock").display(),
            socket.display()
        );
        let program = ["sh", "-c", "while :; do echo again; sleep 0.1; done"];
        lab.make_bundle("c", &program, |_| ());
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        request.stdout = uri;
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        let daemon = UnixDatagram::bind(&socket).unwrap();
        for message in received(&daemon, 2).await {
            assert!(message.starts_with("<30>"), "{message}");
            assert!(
                message.ends_with("]: again") && message.contains(" web["),
                "{message}"
            );
        }
        // It restarts.
        drop(daemon);
        fs::remove_file(&socket).unwrap();
        let daemon = UnixDatagram::bind(&socket).unwrap();
        assert_eq!(received(&daemon, 1).await.len(), 1);
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
    });
}
