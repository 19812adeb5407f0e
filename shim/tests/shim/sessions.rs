//! Sessions and terminals: output the shim keeps itself, clients that attach.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::containerd::task::v2::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::lab::{Lab, in_lab, read_all};

/// A session's client.
struct Attached(UnixStream);

impl Attached {
    /// Connects, and waits until every byte from here on will come.
    async fn to(path: &Path) -> Self {
        let mut client = Self(UnixStream::connect(path).await.unwrap());
        assert_eq!(client.frame().await, Some((4, Vec::new())));
        client
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 8];
        self.0.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        Some((header[0], payload))
    }

    async fn send(&mut self, bytes: &[u8]) {
        let mut frame = vec![0, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(bytes);
        self.0.write_all(&frame).await.unwrap();
    }

    /// (stdout, stderr) up to the end, after which the shim closes.
    async fn read_to_end_frame(&mut self) -> (String, String) {
        let mut streams = [Vec::new(), Vec::new()];
        loop {
            match self.frame().await.expect("closed before the end") {
                (kind @ (1 | 2), bytes) => streams[usize::from(kind) - 1].extend(bytes),
                (3, _) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.frame().await, None);
        let [out, err] = streams.map(|bytes| String::from_utf8(bytes).unwrap());
        (out, err)
    }

    /// Reads until the output contains `text`.
    async fn until(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let frame = tokio::time::timeout(Duration::from_secs(20), self.frame()).await;
            let Ok(Some((_, bytes))) = frame else {
                panic!(
                    "{text:?} does not come after {:?}",
                    String::from_utf8_lossy(&seen)
                )
            };
            seen.extend(bytes);
        }
    }
}

struct Paths {
    socket: PathBuf,
    log: PathBuf,
    uri: String,
}

fn session(lab: &Lab, parameters: &str) -> Paths {
    let (socket, log) = (lab.path("session.sock"), lab.path("x-json.log"));
    let uri = format!(
        "session://{}?log={}{parameters}",
        socket.display(),
        log.display()
    );
    Paths { socket, log, uri }
}

/// Creates the container `c`.
async fn create(lab: &Lab, args: &[&str], uri: &str, stdin: bool, terminal: bool) {
    lab.make_bundle("c", args, |spec| {
        spec["process"]["terminal"] = terminal.into()
    });
    lab.start_shim("c").await;
    let mut request = lab.request("c");
    request.stdout = uri.to_owned();
    if stdin {
        request.stdin = uri.to_owned();
    }
    request.terminal = terminal;
    lab.create(request).await.unwrap();
}

fn logged(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["time"].as_str().unwrap().ends_with('Z'));
            (
                line["stream"].as_str().unwrap().to_owned(),
                line["log"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn who_attaches_before_start_misses_nothing_and_the_log_is_whole_at_the_exit() {
    in_lab(async |lab| {
        let paths = session(lab, "");
        create(
            lab,
            &["sh", "-c", "echo out; echo err >&2; echo -n rest"],
            &paths.uri,
            false,
            false,
        )
        .await;
        let mut one = Attached::to(&paths.socket).await;
        let mut two = Attached::to(&paths.socket).await;
        lab.start("c", "").await.unwrap();
        assert_eq!(lab.wait("c", "").await, 0);
        let mut log = logged(&paths.log);
        log.sort();
        let pair = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
        assert_eq!(
            log,
            [
                pair("stderr", "err\n"),
                pair("stdout", "out\n"),
                pair("stdout", "rest")
            ]
        );
        let both = ("out\nrest".to_owned(), "err\n".to_owned());
        assert_eq!(
            (one.read_to_end_frame().await, two.read_to_end_frame().await),
            (both.clone(), both)
        );
        // Too late for anything but the end.
        let mut late = Attached::to(&paths.socket).await;
        assert_eq!(
            late.read_to_end_frame().await,
            (String::new(), String::new())
        );
        lab.delete("c", "").await.unwrap();
        assert!(!paths.socket.exists());
    });
}

#[test]
fn stdin_once_ends_with_the_first_client_and_keep_does_not() {
    in_lab(async |lab| {
        let paths = session(lab, "&stdin=once");
        create(lab, &["cat"], &paths.uri, true, false).await;
        let mut client = Attached::to(&paths.socket).await;
        let mut watcher = Attached::to(&paths.socket).await;
        lab.start("c", "").await.unwrap();
        client.send(b"typed\n").await;
        client.until("typed\n").await;
        drop(client);
        assert_eq!(lab.wait("c", "").await, 0);
        assert_eq!(watcher.read_to_end_frame().await.0, "typed\n");
    });
    in_lab(async |lab| {
        let paths = session(lab, "&stdin=keep");
        create(lab, &["cat"], &paths.uri, true, false).await;
        lab.start("c", "").await.unwrap();
        for word in ["first\n", "second\n"] {
            let mut client = Attached::to(&paths.socket).await;
            client.send(word.as_bytes()).await;
            client.until(word).await;
        }
        let mut last = Attached::to(&paths.socket).await;
        last.send(b"").await;
        assert_eq!(lab.wait("c", "").await, 0);
        assert_eq!(logged(&paths.log).len(), 2);
    });
}

#[test]
fn a_client_that_does_not_read_holds_output_up_and_loses_none() {
    in_lab(async |lab| {
        let paths = session(lab, "&max-size=0");
        create(
            lab,
            &["sh", "-c", "yes 0123456789abcde | head -c 2000000"],
            &paths.uri,
            false,
            false,
        )
        .await;
        let mut slow = Attached::to(&paths.socket).await;
        lab.start("c", "").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let running = lab.state("c", "").await.unwrap().exited_at.is_none();
        assert!(
            running,
            "the container's output went past a client that does not read"
        );
        assert_eq!(slow.read_to_end_frame().await.0.len(), 2_000_000);
        assert_eq!(lab.wait("c", "").await, 0);
        assert_eq!(logged(&paths.log).len(), 125_000);
    });
}

#[test]
fn a_client_that_breaks_the_protocol_is_dropped_alone() {
    in_lab(async |lab| {
        let paths = session(lab, "");
        create(
            lab,
            &["sh", "-c", "read x; echo got $x"],
            &paths.uri,
            true,
            false,
        )
        .await;
        let mut good = Attached::to(&paths.socket).await;
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0, 0],
        ] {
            let mut bad = Attached::to(&paths.socket).await;
            bad.0.write_all(bytes).await.unwrap();
            bad.0.shutdown().await.unwrap();
            assert_eq!(bad.frame().await, None);
        }
        lab.start("c", "").await.unwrap();
        good.send(b"it\n").await;
        assert_eq!(good.read_to_end_frame().await.0, "got it\n");
    });
}

#[test]
fn logs_rotate_at_their_limit() {
    in_lab(async |lab| {
        let paths = session(lab, "&max-size=4096&max-file=2");
        create(
            lab,
            &["sh", "-c", "yes 0123456789abcde | head -n 500"],
            &paths.uri,
            false,
            false,
        )
        .await;
        lab.start("c", "").await.unwrap();
        assert_eq!(lab.wait("c", "").await, 0);
        assert!(std::fs::metadata(&paths.log).unwrap().len() > 0);
        assert!(lab.path("x-json.log.1").exists() && !lab.path("x-json.log.2").exists());
    });
}

#[test]
fn a_terminal_has_a_size_and_echoes() {
    in_lab(async |lab| {
        let paths = session(lab, "");
        create(
            lab,
            &["sh", "-c", "echo ready; read x; stty size; echo bye"],
            &paths.uri,
            true,
            true,
        )
        .await;
        let mut client = Attached::to(&paths.socket).await;
        lab.start("c", "").await.unwrap();
        client.until("ready\r\n").await;
        let resize = ResizePtyRequest {
            id: "c".into(),
            exec_id: String::new(),
            width: 101,
            height: 42,
        };
        let _: () = lab.call("c", "ResizePty", resize).await.unwrap();
        client.send(b"go\n").await;
        let (out, err) = client.read_to_end_frame().await;
        assert!(
            out.contains("go\r\n") && out.contains("42 101\r\n") && out.ends_with("bye\r\n"),
            "{out:?}"
        );
        assert_eq!((err.as_str(), lab.wait("c", "").await), ("", 0));
        assert_eq!(std::fs::read_dir(lab.path("s")).unwrap().count(), 1);
    });
}

#[test]
fn a_terminal_works_over_fifos_and_for_execs() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        let (stdin, stdout) = (lab.fifo(), lab.fifo());
        let change = |request: &mut ExecProcessRequest| {
            request.terminal = true;
            request.stdin = stdin.to_str().unwrap().into();
            request.stdout = stdout.to_str().unwrap().into();
        };
        lab.exec(
            "c",
            "t",
            &["sh", "-c", "read x; test -t 0 && echo tty:$x; exit 3"],
            change,
        )
        .await
        .unwrap();
        let run = async {
            lab.start("c", "t").await.unwrap();
            std::fs::write(&stdin, "word\n").unwrap();
            lab.wait("c", "t").await
        };
        let (out, code) = tokio::join!(read_all(&stdout), run);
        assert_eq!(code, 3);
        assert!(out.ends_with("tty:word\r\n"), "{out:?}");
    });
}

#[test]
fn an_exec_has_a_session_of_its_own() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        let socket = lab.path("exec.sock");
        let uri = format!("session://{}", socket.display());
        lab.exec(
            "c",
            "e",
            &["sh", "-c", "echo hi; sleep 100 & exit 4"],
            |request| request.stdout = uri,
        )
        .await
        .unwrap();
        let mut client = Attached::to(&socket).await;
        lab.start("c", "e").await.unwrap();
        client.until("hi\n").await;
        // Its child holds the pipe open; the exit is told all the same.
        assert_eq!(lab.wait("c", "e").await, 4);
        lab.delete("c", "e").await.unwrap();
        assert_eq!(client.frame().await, Some((3, Vec::new())));
        assert!(!socket.exists());
    });
}
