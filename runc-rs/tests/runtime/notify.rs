//! System calls that an agent decides about, with an agent of our own at the other end of the socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::bundle::{Bundle, RUNTIME, contains, text};

/// Takes one listener, answers every call with `errno` (0: let it go on), and returns the document that came with it and how
/// many calls it was asked about.
fn agent(bundle: &Bundle, errno: i32) -> JoinHandle<(Value, usize)> {
    let socket = UnixListener::bind(path(bundle)).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = socket.accept().unwrap();
        let mut buffer = [0; 8192];
        let (len, mut fds) = kernel::scm::recv(stream.as_fd(), &mut buffer, 2).unwrap();
        let document = serde_json::from_slice(&buffer[..len]).unwrap();
        assert_eq!(fds.len(), 1, "one descriptor");
        (document, answer(&fds.pop().unwrap(), errno))
    })
}

fn answer(listener: &OwnedFd, errno: i32) -> usize {
    let mut count = 0;
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        // The last process with the filter has ended.
        if !fds[0].revents().unwrap().contains(PollFlags::POLLIN) {
            return count;
        }
        // A process that was killed meanwhile does not wait for its answer.
        let Ok(request) = ScmpNotifReq::receive(listener.as_raw_fd()) else {
            continue;
        };
        count += 1;
        let answer = if errno == 0 {
            ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty())
        } else {
            ScmpNotifResp::new_error(request.id, -errno, ScmpNotifRespFlags::empty())
        };
        drop(answer.respond(listener.as_raw_fd()));
    }
}

fn path(bundle: &Bundle) -> PathBuf {
    bundle.dir.path().join("agent.sock")
}

/// A container whose `calls` are put to the agent.
fn asking(script: &str, calls: &[&str], no_new_privileges: bool) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path(&bundle),
        "listenerMetadata": "told",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}],
    });
    bundle
}

const ENOMEDIUM: i32 = nix::libc::ENOMEDIUM;

#[test]
fn an_agent_decides_about_a_call_and_is_told_whose_it_is() {
    for no_new_privileges in [false, true] {
        let mut bundle = asking("mkdir /x 2>&1", &["mkdir"], no_new_privileges);
        bundle.config["annotations"] = json!({"a": "b"});
        let agent = agent(&bundle, ENOMEDIUM);
        let out = bundle.run();
        contains(&text(&out.stdout), "No medium found");
        let (document, asked) = agent.join().unwrap();
        assert_eq!(asked, 1);
        assert_eq!(document["fds"], json!(["seccompFd"]));
        assert_eq!(document["metadata"], "told");
        let state = &document["state"];
        assert_eq!(state["status"], "creating");
        assert_eq!(state["id"], bundle.id.as_str());
        assert_eq!(state["annotations"], json!({"a": "b"}));
        assert!(state["pid"].as_i64().unwrap() > 1 && state["pid"] == document["pid"]);
    }
}

/// With create and start nobody is left at the start to hand the descriptor over: the agent must have it before.
#[test]
fn an_exec_and_a_start_of_its_own_have_their_agent_too() {
    for no_new_privileges in [false, true] {
        let bundle = asking("exec sleep 100", &["mkdir"], no_new_privileges);
        let first = agent(&bundle, ENOMEDIUM);
        bundle.start();
        std::fs::remove_file(path(&bundle)).unwrap();
        let second = agent(&bundle, ENOMEDIUM);
        let out = bundle.call(&["exec", &bundle.id, "mkdir", "/x"]);
        contains(&text(&out.stderr), "No medium found");
        let (document, asked) = second.join().unwrap();
        assert_eq!(
            (asked, &document["state"]["status"]),
            (1, &json!("running"))
        );
        assert_eq!(document["state"]["pid"], bundle.state()["pid"]);
        assert_ne!(document["pid"], document["state"]["pid"]);
        assert!(bundle.call(&["delete", "-f", &bundle.id]).status.success());
        assert_eq!(first.join().unwrap().0["state"]["status"], "creating");
    }
}

#[test]
fn calls_that_the_runtime_itself_makes_can_be_asked_about() {
    let calls = [
        "execve", "openat", "open", "read", "close", "fcntl", "sendmsg", "recvmsg",
    ];
    for no_new_privileges in [false, true] {
        let bundle = asking("echo through", &calls, no_new_privileges);
        let agent = agent(&bundle, 0);
        assert_eq!(bundle.prints(), "through\n");
        assert!(agent.join().unwrap().1 > 2);
    }
}

#[test]
fn a_killable_wait_is_among_the_flags() {
    let mut bundle = asking("mkdir /x 2>&1", &["mkdir"], false);
    bundle.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let agent = agent(&bundle, ENOMEDIUM);
    bundle.save();
    let out = bundle.call(&["--debug", "run", &bundle.id]);
    contains(&text(&out.stdout), "No medium found");
    // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV and _NEW_LISTENER
    contains(&text(&out.stderr), "\"seccomp filter flags: 40\"");
    agent.join().unwrap();
}

#[test]
fn an_agent_that_cannot_be_asked_is_said() {
    let bundle = asking("true", &["mkdir"], true);
    contains(
        &bundle.complaint(),
        "failed to connect with seccomp agent specified in the seccomp profile",
    );
    contains(
        &asking("true", &["write"], true).complaint(),
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    );
    let mut bundle = asking("true", &["mkdir"], true);
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("");
    contains(&bundle.complaint(), "listenerPath is not set");
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("@nobody listens here");
    contains(&bundle.complaint(), "connection refused");
    bundle.config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_NOTIFY");
    contains(
        &bundle.complaint(),
        "SCMP_ACT_NOTIFY cannot be used as default action",
    );
}

/// The kernel answers in the place of an agent that is gone.
#[test]
fn without_its_agent_a_call_does_not_exist() {
    let bundle = asking("read line; mkdir /x 2>&1", &["mkdir"], false);
    let socket = UnixListener::bind(path(&bundle)).unwrap();
    bundle.save();
    let mut run = bundle.command(RUNTIME, &["run", &bundle.id]);
    run.stdin(std::process::Stdio::piped());
    run.stdout(std::process::Stdio::piped());
    let mut run = run.spawn().unwrap();
    let (stream, _) = socket.accept().unwrap();
    let mut buffer = [0; 8192];
    let (_, fds) = kernel::scm::recv(stream.as_fd(), &mut buffer, 2).unwrap();
    drop(fds);
    std::io::Write::write_all(&mut run.stdin.take().unwrap(), b"now\n").unwrap();
    let out = run.wait_with_output().unwrap();
    contains(&text(&out.stdout), "Function not implemented");
}
