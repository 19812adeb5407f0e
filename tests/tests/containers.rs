//! Containers through `ctl`: every command and flag, and Docker's exit codes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::command::{self, eventually};
use tests::image::Image;
use tests::stack::{BUSYBOX, Stack};

/// `ctl run --rm BUSYBOX sh -c SCRIPT` with further arguments before the image.
#[track_caller]
fn shell(stack: &Stack, args: &[&str], script: &str) -> String {
    stack
        .ctl(&[&["run", "--rm"], args, &[BUSYBOX, "sh", "-c", script]].concat())
        .ok()
}

/// `ctl run -d --name NAME BUSYBOX sh -c SCRIPT`; returns the id.
#[track_caller]
fn in_background(stack: &Stack, name: &str, script: &str) -> String {
    let id = stack
        .ctl(&["run", "-d", "--name", name, BUSYBOX, "sh", "-c", script])
        .ok();
    id.trim().to_owned()
}

/// A loop that ends on SIGTERM with 7, as its shell is told to.
const POLITE: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";

#[track_caller]
fn until_logged(stack: &Stack, container: &str, word: &str) {
    eventually(word, || {
        stack
            .ctl(&["logs", container])
            .ok()
            .contains(word)
            .then_some(())
    });
}

fn spawn(stack: &Stack, args: &[&str]) -> Child {
    let mut command = stack.ctl_command(args);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("ctl can be run")
}

#[test]
fn run_passes_output_and_exit_code_on() {
    let stack = Stack::with_busybox();
    let said = stack
        .ctl(&[
            "run",
            BUSYBOX,
            "sh",
            "-c",
            "echo out; echo err >&2; exit 42",
        ])
        .exits(42);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    let listed = stack.ctl(&["ps", "-a"]).ok();
    assert!(listed.contains("Exited (42)"), "{listed}");
}

#[test]
fn a_big_output_arrives_whole() {
    let stack = Stack::with_busybox();
    let out = shell(&stack, &[], "seq 1 200000");
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(out == expected, "{} of {} bytes", out.len(), expected.len());
}

#[test]
fn rm_leaves_no_container() {
    let stack = Stack::with_busybox();
    stack.ctl(&["run", "--rm", BUSYBOX, "true"]).ok();
    stack.ctl(&["run", "--rm", BUSYBOX, "false"]).exits(1);
    stack.ctl(&["run", "-d", "--rm", BUSYBOX, "true"]).ok();
    eventually("the containers to be gone", || {
        stack.ctl(&["ps", "-aq"]).ok().is_empty().then_some(())
    });
}

#[test]
fn detached_containers_are_listed_by_state() {
    let stack = Stack::with_busybox();
    let id = in_background(&stack, "runs", "sleep 1000");
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    stack
        .ctl(&["create", "--name", "waits", BUSYBOX, "true"])
        .ok();
    let running = stack.ctl(&["ps"]).ok();
    let heading: Vec<&str> = running
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .filter(|word| !word.is_empty())
        .map(str::trim)
        .collect();
    assert_eq!(
        heading,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    assert!(
        running.contains(&id[..12]) && running.contains("runs") && running.contains("Up "),
        "{running}"
    );
    assert!(!running.contains("waits"), "{running}");
    let all = stack.ctl(&["ps", "-a"]).ok();
    assert!(all.contains("waits") && all.contains("Created"), "{all}");
    assert_eq!(stack.ctl(&["ps", "-q"]).ok().trim(), &id[..12]);
    assert_eq!(stack.ctl(&["ps", "-aq"]).ok().lines().count(), 2);
}

#[test]
fn standard_input_reaches_the_container() {
    let stack = Stack::with_busybox();
    let input: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    let said = stack
        .ctl_with_input(&["run", "--rm", "-i", BUSYBOX, "cat"], &input)
        .ok();
    assert!(
        said.as_bytes() == input,
        "{} of {} bytes",
        said.len(),
        input.len()
    );
    // Without -i there is none.
    let said = stack
        .ctl_with_input(&["run", "--rm", BUSYBOX, "cat"], b"lost")
        .ok();
    assert_eq!(said, "");
}

#[test]
fn settings_of_a_run_reach_the_process() {
    let stack = Stack::with_busybox();
    assert_eq!(
        shell(&stack, &["-e", "A=1", "-e", "B=two words"], "echo $A $B"),
        "1 two words\n"
    );
    assert_eq!(shell(&stack, &["-w", "/usr/bin"], "pwd"), "/usr/bin\n");
    assert_eq!(
        shell(&stack, &["-w", "/made/for/it"], "pwd"),
        "/made/for/it\n"
    );
    assert_eq!(
        shell(&stack, &["-u", "user"], "id -u; id -g; id -G; echo $HOME"),
        "1000\n1000\n1000 2000\n/home/user\n"
    );
    assert_eq!(shell(&stack, &["-u", "12:34"], "id -u; id -g"), "12\n34\n");
    assert_eq!(
        shell(&stack, &["--hostname", "named"], "hostname"),
        "named\n"
    );
    let said = stack
        .ctl(&[
            "run",
            "--rm",
            "--entrypoint",
            "echo",
            BUSYBOX,
            "an",
            "argument",
        ])
        .ok();
    assert_eq!(said, "an argument\n");
}

#[test]
fn a_bare_variable_is_taken_from_the_clients_environment() {
    let stack = Stack::with_busybox();
    let mut command = stack.ctl_command(&[
        "run",
        "--rm",
        "-e",
        "FROM_OUTSIDE",
        BUSYBOX,
        "sh",
        "-c",
        "echo $FROM_OUTSIDE",
    ]);
    assert_eq!(
        command::run(command.env("FROM_OUTSIDE", "came along")).ok(),
        "came along\n"
    );
}

#[test]
fn settings_of_the_image_hold_unless_overridden() {
    let stack = Stack::start();
    let image = Image::busybox()
        .with("Entrypoint", json!(["echo", "entry"]))
        .with("Cmd", json!(["cmd"]))
        .with("WorkingDir", json!("/tmp"))
        .with("User", json!("user"))
        .with("Env", json!(["PATH=/bin", "FROM=image"]));
    stack.load(&image.docker_archive(&["set:1"]));
    assert_eq!(stack.ctl(&["run", "--rm", "set:1"]).ok(), "entry cmd\n");
    assert_eq!(
        stack.ctl(&["run", "--rm", "set:1", "other"]).ok(),
        "entry other\n"
    );
    assert_eq!(
        stack
            .ctl(&["run", "--rm", "--entrypoint", "echo", "set:1"])
            .ok(),
        "\n"
    );
    let facts = [
        "run",
        "--rm",
        "--entrypoint",
        "sh",
        "set:1",
        "-c",
        "pwd; id -un; echo $FROM $PATH",
    ];
    assert_eq!(stack.ctl(&facts).ok(), "/tmp\nuser\nimage /bin\n");
}

#[test]
fn what_is_inside_is_its_own() {
    let stack = Stack::with_busybox();
    let id = shell(&stack, &[], "hostname").trim().to_owned();
    assert_eq!(id.len(), 12, "the short id is the host name: {id}");
    assert_eq!(
        shell(&stack, &[], "echo $$; ls /sys/class/net"),
        "1\neth0\nlo\n"
    );
    // Masked and read-only, as in Docker.
    let script = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; touch /proc/sys/x 2>/dev/null || echo no";
    assert_eq!(shell(&stack, &[], script), "0\n0\nno\n");
    let status = shell(
        &stack,
        &[],
        "grep -E '^(CapEff|Seccomp):' /proc/self/status",
    );
    assert_eq!(status, "CapEff:\t00000000a80425fb\nSeccomp:\t2\n");
}

#[test]
fn a_container_lives_from_create_to_rm() {
    let stack = Stack::with_busybox();
    let id = stack
        .ctl(&["create", "--name", "life", BUSYBOX, "sh", "-c", POLITE])
        .ok();
    assert_eq!(stack.inspect("life", "/State/Status"), "created");
    assert_eq!(stack.ctl(&["start", "life"]).ok(), "life\n");
    until_logged(&stack, "life", "ready");
    assert_eq!(stack.inspect("life", "/State/Running"), true);
    assert_eq!(stack.ctl(&["stop", "life"]).ok(), "life\n");
    assert_eq!(stack.inspect("life", "/State/ExitCode"), 7);
    assert_eq!(stack.inspect("life", "/State/Status"), "exited");
    // Its file system stays, and it can be started again by its id.
    stack.ctl(&["start", id.trim()]).ok();
    assert_eq!(stack.inspect("life", "/State/Running"), true);
    stack.ctl(&["kill", "life"]).ok();
    assert_eq!(stack.ctl(&["wait", "life"]).ok(), "137\n");
    assert_eq!(stack.ctl(&["rm", "life"]).ok(), "life\n");
    assert_eq!(stack.ctl(&["ps", "-aq"]).ok(), "");
}

#[test]
fn start_attached_shows_output_and_code() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "create",
            "--name",
            "one",
            BUSYBOX,
            "sh",
            "-c",
            "echo said; exit 3",
        ])
        .ok();
    assert_eq!(stack.ctl(&["start", "-a", "one"]).exits(3).out, "said\n");
}

#[test]
fn a_restarted_container_keeps_its_files() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "keeps",
            BUSYBOX,
            "sh",
            "-c",
            "echo x >> /file; wc -l < /file",
        ])
        .ok();
    assert_eq!(stack.ctl(&["start", "-a", "keeps"]).ok(), "2\n");
}

#[test]
fn stop_kills_what_does_not_listen() {
    let stack = Stack::with_busybox();
    in_background(
        &stack,
        "deaf",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    until_logged(&stack, "deaf", "ready");
    stack.ctl(&["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(stack.inspect("deaf", "/State/ExitCode"), 137);
}

#[test]
fn kill_sends_the_signal_named() {
    let stack = Stack::with_busybox();
    in_background(
        &stack,
        "hears",
        "trap 'echo got-usr1' USR1; echo ready; while :; do sleep 0.05; done",
    );
    until_logged(&stack, "hears", "ready");
    for signal in ["USR1", "SIGUSR1", "10"] {
        stack.ctl(&["kill", "-s", signal, "hears"]).ok();
    }
    until_logged(&stack, "hears", "got-usr1");
    stack
        .ctl(&["kill", "-s", "NONSENSE", "hears"])
        .fails_naming(&["NONSENSE"]);
    assert_eq!(stack.inspect("hears", "/State/Running"), true);
}

#[test]
fn rm_refuses_a_running_container_unless_forced() {
    let stack = Stack::with_busybox();
    in_background(&stack, "runs", "sleep 1000");
    stack.ctl(&["rm", "runs"]).fails_naming(&["runs"]);
    stack.ctl(&["rm", "-f", "runs"]).ok();
    assert_eq!(stack.ctl(&["ps", "-aq"]).ok(), "");
}

#[test]
fn wait_prints_each_exit_code() {
    let stack = Stack::with_busybox();
    in_background(&stack, "one", "sleep 0.3; exit 5");
    in_background(&stack, "two", "exit 6");
    assert_eq!(stack.ctl(&["wait", "one", "two"]).ok(), "5\n6\n");
}

#[test]
fn logs_keep_the_streams_apart() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "talks",
            BUSYBOX,
            "sh",
            "-c",
            "echo out; echo err >&2; printf open",
        ])
        .ok();
    let said = stack.ctl(&["logs", "talks"]).exits(0);
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        ("out\nopen", "err\n")
    );
}

#[test]
fn the_tail_of_a_log_may_be_asked_for() {
    let stack = Stack::with_busybox();
    let script = "seq 1 100; printf open";
    stack
        .ctl(&["run", "--name", "counted", BUSYBOX, "sh", "-c", script])
        .ok();
    assert_eq!(
        stack.ctl(&["logs", "--tail", "3", "counted"]).ok(),
        "99\n100\nopen"
    );
    assert_eq!(stack.ctl(&["logs", "--tail", "0", "counted"]).ok(), "");
}

#[test]
fn followed_logs_come_as_they_are_written_and_end_with_the_container() {
    let stack = Stack::with_busybox();
    in_background(
        &stack,
        "slow",
        "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last",
    );
    let mut follower = spawn(&stack, &["logs", "-f", "slow"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    // The container may end before `touch` does, and then takes it along.
    let _ended = stack.ctl(&["exec", "slow", "touch", "/go"]);
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none());
    let status = command::wait(&mut follower, Duration::from_secs(20)).expect("logs -f ends");
    assert!(status.success());
}

#[test]
fn exec_runs_beside_the_main_process() {
    let stack = Stack::with_busybox();
    in_background(&stack, "main", "echo here > /file; sleep 1000");
    eventually("the file", || {
        (stack.ctl(&["exec", "main", "test", "-e", "/file"]).code == 0).then_some(())
    });
    assert_eq!(stack.ctl(&["exec", "main", "cat", "/file"]).ok(), "here\n");
    let said = stack
        .ctl(&["exec", "main", "sh", "-c", "echo o; echo e >&2; exit 9"])
        .exits(9);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("o\n", "e\n"));
    let said = stack
        .ctl_with_input(&["exec", "-i", "main", "cat"], b"typed")
        .ok();
    assert_eq!(said, "typed");
    let args = [
        "exec",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "user",
        "main",
        "sh",
        "-c",
        "echo $A; pwd; id -un",
    ];
    assert_eq!(stack.ctl(&args).ok(), "b\n/tmp\nuser\n");
    assert_eq!(stack.inspect("main", "/State/Running"), true);
}

#[test]
fn attach_shows_what_comes_and_ends_with_the_exit_code() {
    let stack = Stack::with_busybox();
    in_background(
        &stack,
        "goes",
        "while [ ! -e /go ]; do sleep 0.05; echo tick; done; echo done; exit 4",
    );
    let mut attached = spawn(&stack, &["attach", "--no-stdin", "goes"]);
    let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "tick");
    // As above, it may be taken along.
    let _ended = stack.ctl(&["exec", "goes", "touch", "/go"]);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.last().map(String::as_str), Some("done"), "{rest:?}");
    let status = command::wait(&mut attached, Duration::from_secs(20)).expect("attach ends");
    assert_eq!(command::code_of(status), 4);
}

#[test]
fn a_signal_to_the_client_reaches_the_container() {
    let stack = Stack::with_busybox();
    let mut client = spawn(
        &stack,
        &["run", "--name", "proxied", BUSYBOX, "sh", "-c", POLITE],
    );
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(client.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = command::wait(&mut client, Duration::from_secs(20)).expect("run ends");
    assert_eq!(command::code_of(status), 7);
}

#[test]
fn inspect_prints_dockers_shape() {
    let stack = Stack::with_busybox();
    let id = stack
        .ctl(&[
            "create", "--name", "seen", "-e", "A=b", BUSYBOX, "sleep", "5",
        ])
        .ok();
    assert_eq!(stack.inspect("seen", "/Id"), id.trim());
    assert_eq!(stack.inspect("seen", "/Name"), "/seen");
    assert_eq!(stack.inspect("seen", "/Path"), "sleep");
    assert_eq!(stack.inspect("seen", "/Args"), json!(["5"]));
    assert_eq!(stack.inspect("seen", "/Config/Image"), BUSYBOX);
    assert_eq!(stack.inspect("seen", "/Image"), Image::busybox().id());
    let env = stack.inspect("seen", "/Config/Env");
    assert!(env.as_array().unwrap().contains(&json!("A=b")), "{env}");
}

#[test]
fn ids_may_be_shortened_while_they_are_clear() {
    let stack = Stack::with_busybox();
    let id = stack.ctl(&["create", BUSYBOX, "true"]).ok();
    assert_eq!(stack.inspect(&id[..8], "/Id"), id.trim());
    stack
        .ctl(&["inspect", "nothing-like-it"])
        .fails_naming(&["nothing-like-it"]);
}

#[test]
fn exit_codes_are_dockers() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "--rm", "--no-such-flag", BUSYBOX])
        .exits(125);
    stack.ctl(&["run", "--rm", "127.0.0.1:1/none:1"]).exits(125);
    stack
        .ctl(&["run", "--rm", BUSYBOX, "/etc/passwd"])
        .exits(126);
    stack.ctl(&["run", "--rm", BUSYBOX, "/tmp"]).exits(126);
    stack
        .ctl(&["run", "--rm", BUSYBOX, "no-such-program"])
        .exits(127);
    stack
        .ctl(&["run", "--rm", BUSYBOX, "sh", "-c", "exit 255"])
        .exits(255);
    in_background(&stack, "target", "sleep 1000");
    stack.ctl(&["exec", "target", "no-such-program"]).exits(127);
    stack.ctl(&["exec", "target", "/etc/passwd"]).exits(126);
    stack
        .ctl(&["exec", "target", "sh", "-c", "exit 33"])
        .exits(33);
    assert_eq!(stack.inspect("target", "/State/Running"), true);
}

#[test]
fn several_containers_run_at_once() {
    let stack = Stack::with_busybox();
    let children: Vec<Child> = (0..6)
        .map(|number| {
            spawn(
                &stack,
                &[
                    "run",
                    "--rm",
                    BUSYBOX,
                    "sh",
                    "-c",
                    &format!("sleep 0.2; echo {number}; exit {number}"),
                ],
            )
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let out = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            format!("{number}\n"),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert_eq!(out.status.code(), i32::try_from(number).ok());
    }
}
