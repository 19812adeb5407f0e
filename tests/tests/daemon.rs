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
