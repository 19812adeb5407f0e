//! The daemon comes and goes; containers stay.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::command::{self, eventually};
use tests::repository;
use tests::stack::{BUSYBOX, Stack};

/// Counts up, one line each, until a file stops it; then exits with 17.
const COUNTER: &str =
    "n=0; while [ ! -e /stop ]; do n=$((n+1)); echo line $n; sleep 0.01; done; exit 17";

#[track_caller]
fn in_background(stack: &Stack, name: &str, script: &str) {
    stack
        .ctl(&["run", "-d", "--name", name, BUSYBOX, "sh", "-c", script])
        .ok();
}

/// Lines that a container has logged so far; each must follow the last.
#[track_caller]
fn lines_without_a_gap(stack: &Stack, name: &str) -> usize {
    let logged = stack.ctl(&["logs", name]).ok();
    for (at, line) in logged.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1));
    }
    logged.lines().count()
}

#[track_caller]
fn grows_beyond(stack: &Stack, name: &str, count: usize) {
    eventually("more output", || {
        (lines_without_a_gap(stack, name) > count).then_some(())
    });
}

#[test]
fn killed_while_containers_run_it_finds_them_again() {
    let mut stack = Stack::with_busybox();
    in_background(&stack, "counts", COUNTER);
    grows_beyond(&stack, "counts", 5);
    let pid = stack.inspect("counts", "/State/Pid");
    let before = lines_without_a_gap(&stack, "counts");
    stack.kill_daemon();
    assert!(
        std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "the container goes on"
    );
    std::thread::sleep(Duration::from_millis(300));
    stack.start_daemon();

    // Right after the restart, without any grace.
    let listed = stack.ctl(&["ps"]).ok();
    assert!(
        listed.contains("counts") && listed.contains("Up "),
        "{listed}"
    );
    assert!(
        lines_without_a_gap(&stack, "counts") > before,
        "output went on without the daemon"
    );
    assert_eq!(
        stack.ctl(&["exec", "counts", "echo", "inside"]).ok(),
        "inside\n"
    );
    assert_eq!(stack.inspect("counts", "/State/Pid"), pid);
    let now = lines_without_a_gap(&stack, "counts");
    grows_beyond(&stack, "counts", now);
    stack.ctl(&["exec", "counts", "touch", "/stop"]).ok();
    assert_eq!(stack.ctl(&["wait", "counts"]).ok(), "17\n");
    lines_without_a_gap(&stack, "counts");
}

#[test]
fn stop_works_right_after_a_restart() {
    let mut stack = Stack::with_busybox();
    in_background(
        &stack,
        "polite",
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    );
    eventually("ready", || {
        stack
            .ctl(&["logs", "polite"])
            .ok()
            .contains("ready")
            .then_some(())
    });
    stack.kill_daemon();
    stack.start_daemon();
    stack.ctl(&["stop", "polite"]).ok();
    assert_eq!(stack.inspect("polite", "/State/ExitCode"), 7);
}

#[test]
fn an_exit_while_it_is_away_is_known_afterwards() {
    let mut stack = Stack::with_busybox();
    in_background(
        &stack,
        "ends",
        "echo begun; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo the last words; exit 19",
    );
    eventually("begun", || {
        stack
            .ctl(&["logs", "ends"])
            .ok()
            .contains("begun")
            .then_some(())
    });
    let pid = stack.inspect("ends", "/State/Pid").to_string();
    stack.kill_daemon();
    fs::write(format!("/proc/{pid}/root/tmp/go"), b"").unwrap();
    eventually("the container's end", || {
        (!std::path::Path::new(&format!("/proc/{pid}/root/tmp")).exists()).then_some(())
    });
    stack.start_daemon();
    let listed = stack.ctl(&["ps", "-a"]).ok();
    assert!(listed.contains("Exited (19)"), "{listed}");
    assert_eq!(stack.ctl(&["wait", "ends"]).ok(), "19\n");
    assert_eq!(stack.ctl(&["logs", "ends"]).ok(), "begun\nthe last words\n");
    // And it can be started again.
    assert_eq!(
        stack.ctl(&["start", "-a", "ends"]).exits(19).out,
        "begun\nthe last words\n"
    );
}

#[test]
fn containers_survive_several_kills_in_a_row() {
    let mut stack = Stack::with_busybox();
    for name in ["one", "two", "three"] {
        in_background(&stack, name, COUNTER);
    }
    for _ in 0..3 {
        stack.kill_daemon();
        stack.start_daemon();
    }
    assert_eq!(stack.ctl(&["ps", "-q"]).ok().lines().count(), 3);
    for name in ["one", "two", "three"] {
        let now = lines_without_a_gap(&stack, name);
        grows_beyond(&stack, name, now);
        stack.ctl(&["rm", "-f", name]).ok();
    }
}

#[test]
fn killed_at_any_moment_it_starts_again_and_leaves_no_litter() {
    let mut stack = Stack::with_busybox();
    // Two clients at work while the daemon dies, each time a little later.
    for round in 0..6_u64 {
        let children: Vec<_> = (0..2)
            .map(|_| {
                let mut command = stack.ctl_command(&["run", "--rm", BUSYBOX, "true"]);
                let silent = std::process::Stdio::null;
                command
                    .stdout(silent())
                    .stderr(silent())
                    .stdin(silent())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(15 * round * round));
        stack.kill_daemon();
        for mut child in children {
            command::wait(&mut child, Duration::from_secs(30))
                .expect("a client without a daemon ends");
        }
        stack.start_daemon();
        assert_eq!(
            stack.ctl(&["run", "--rm", BUSYBOX, "echo", "fine"]).ok(),
            "fine\n"
        );
    }
}

#[test]
fn images_survive_a_kill() {
    let mut stack = Stack::with_busybox();
    let before = stack.ctl(&["images", "--no-trunc", "-q"]).ok();
    stack.kill_daemon();
    stack.start_daemon();
    assert_eq!(stack.ctl(&["images", "--no-trunc", "-q"]).ok(), before);
    stack.ctl(&["run", "--rm", BUSYBOX, "true"]).ok();
}

#[test]
fn containers_survive_an_orderly_end_too() {
    let mut stack = Stack::with_busybox();
    in_background(&stack, "counts", COUNTER);
    stack.stop_daemon();
    assert!(
        !stack.socket().exists(),
        "an orderly end removes the socket"
    );
    stack.start_daemon();
    let now = lines_without_a_gap(&stack, "counts");
    grows_beyond(&stack, "counts", now);
}

#[test]
fn the_client_starts_a_daemon_where_none_runs() {
    let stack = Stack::cold();
    let said = stack.ctl_embedded(&["ps"]).exits(0);
    assert_eq!(said.err.lines().count(), 1, "one line says so: {said}");
    let daemons = stack.scratch().processes();
    assert_eq!(daemons.len(), 1, "{:?}", stack.scratch().litter());
    let again = stack.ctl_embedded(&["ps"]).exits(0);
    assert_eq!(again.err, "", "the second finds it running");
    assert_eq!(stack.scratch().processes(), daemons);
    // The daemon belongs to nobody's terminal, and ends when asked to.
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemons[0])).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        fields[3],
        daemons[0].to_string(),
        "it leads its own session"
    );
    kill(Pid::from_raw(daemons[0]), Signal::SIGTERM).unwrap();
    eventually("its end", || {
        stack.scratch().processes().is_empty().then_some(())
    });
}

#[test]
fn a_container_runs_with_nothing_started_before() {
    let stack = Stack::cold();
    let archive = stack.scratch().path("image.tar");
    fs::write(
        &archive,
        tests::image::Image::busybox().docker_archive(&[BUSYBOX]),
    )
    .unwrap();
    stack
        .ctl_embedded(&["load", "-i", archive.to_str().unwrap()])
        .ok();
    assert_eq!(
        stack
            .ctl_embedded(&["run", "--rm", BUSYBOX, "echo", "hello"])
            .ok(),
        "hello\n"
    );
    for pid in stack.scratch().processes() {
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }
}

#[test]
fn two_clients_at_once_start_one_daemon() {
    let stack = Stack::cold();
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = stack.command(&repository::program("ctl"));
            command
                .arg("ps")
                .stdin(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        let status = command::wait(&mut child, Duration::from_secs(30)).expect("ctl ends");
        assert!(status.success());
    }
    let only = |pids: &[i32]| (pids.len() == 1).then(|| pids[0]);
    let pid = eventually("one daemon to be left", || {
        only(&stack.scratch().processes())
    });
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
}

#[test]
fn a_named_daemon_is_never_started() {
    let stack = Stack::cold();
    stack.ctl(&["ps"]).fails_naming(&["containerd-lite.sock"]);
    let mut by_environment = stack.command(&repository::program("ctl"));
    by_environment
        .env("CTL_HOST", format!("unix://{}", stack.socket().display()))
        .arg("ps");
    command::run(&mut by_environment).fails_naming(&["containerd-lite.sock"]);
    assert_eq!(stack.scratch().processes(), Vec::<i32>::new());
    assert!(!stack.state().exists());
}

#[test]
fn a_second_daemon_is_kept_out() {
    let stack = Stack::start();
    command::run(&mut stack.command(&repository::program("containerd-lite"))).fails_naming(&[]);
    stack.ctl(&["ps"]).ok();
}

/// The answer to `GET path`: its head and its body.
fn get(address: &str, path: &str) -> (String, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = eventually("the metrics' port", || {
        std::net::TcpStream::connect(address).ok()
    });
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// The number that `body` has for `name`, with its labels.
#[track_caller]
fn number(body: &str, name: &str) -> f64 {
    let line = body.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{name} in\n{body}"));
    line.trim().parse().expect("a number")
}

#[test]
fn metrics_are_told_in_the_words_of_prometheus() {
    let scratch_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = scratch_port.local_addr().unwrap().port();
    drop(scratch_port);
    // The test's own network, in which the port is as free.
    let address = format!("127.0.0.1:{port}");
    let mut stack = Stack::cold();
    let script = format!("exec \"$0\" --metrics-address {address}");
    assert!(stack.start_daemon_under(&["sh", "-c", &script]));
    for path in ["/metrics", "/v1/metrics"] {
        let (head, body) = get(&address, path);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(
            number(&body, "process_resident_memory_bytes") > 1e6,
            "{body}"
        );
        assert!(number(&body, "process_open_fds") > 3.0, "{body}");
        assert!(number(&body, "process_cpu_seconds_total") >= 0.0, "{body}");
        // Each has its help and its type, once.
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            for what in ["HELP", "TYPE"] {
                let head = format!("# {what} {name} ");
                assert_eq!(body.matches(&head).count(), 1, "{head}\n{body}");
            }
        }
    }
    stack.load_busybox();
    stack
        .ctl(&["create", "--name", "counted", BUSYBOX, "true"])
        .ok();
    let (_, body) = get(&address, "/metrics");
    for (name, least) in [
        ("images", 1.0),
        ("containers", 1.0),
        ("snapshots", 2.0),
        ("blobs", 3.0),
        ("blob_bytes", 1e6),
    ] {
        let name = format!("containerd_lite_{name}{{namespace=\"default\"}}");
        assert!(number(&body, &name) >= least, "{name}\n{body}");
    }
    stack.ctl(&["rm", "counted"]).ok();
    let (_, body) = get(&address, "/metrics");
    let containers = "containerd_lite_containers{namespace=\"default\"}";
    assert_eq!(number(&body, containers), 0.0, "{body}");
    assert!(get(&address, "/other").0.starts_with("HTTP/1.1 404 "));
}
