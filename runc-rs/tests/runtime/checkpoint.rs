//! What of saving and restoring needs descriptors handed over; the rest is in the black-box suite.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, text};

/// The criu that the set-up of the tests unpacked, else the system's.
fn criu() -> PathBuf {
    let unpacked = Path::new(RUNTIME).with_file_name("../../tools/criu/criu");
    let found = [unpacked, "/usr/sbin/criu".into()]
        .into_iter()
        .find(|path| path.exists());
    found.expect("criu is there: tests/setup/packages.sh test")
}

fn succeeds(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "{command:?}");
}

#[test]
fn a_terminal_is_handed_over_again() {
    let script = "n=0; while read x; do n=$((n+1)); echo $x $n; done";
    let mut bundle = Bundle::new(script);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.save();
    let path = bundle.dir.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (path, criu, id) = (path.to_str().unwrap(), criu(), bundle.id.as_str());
    let criu = criu.to_str().unwrap();
    let socket = ["--console-socket", path, id];
    for (count, verb) in [(1, "run"), (2, "restore")] {
        let args = [&["--criu", criu, verb, "--detach"], &socket[..]].concat();
        succeeds(&mut bundle.command(RUNTIME, &args));
        let (stream, _) = listener.accept().unwrap();
        let mut name = [0; 64];
        let (len, mut fds) = kernel::scm::recv(stream.as_fd(), &mut name, 1).unwrap();
        assert!(len > 0, "{}", text(&name));
        let mut master = File::from(fds.pop().unwrap());
        master.write_all(b"go\n").unwrap();
        let mut lines = BufReader::new(master).lines();
        // As typed, and the answer.
        assert_eq!(lines.next().unwrap().unwrap(), "go");
        assert_eq!(lines.next().unwrap().unwrap(), format!("go {count}"));
        if count == 1 {
            succeeds(&mut bundle.command(RUNTIME, &["--criu", criu, "checkpoint", id]));
        }
    }
}
