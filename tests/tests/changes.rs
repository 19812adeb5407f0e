//! What happens to containers after they were made: pauses, restarts by hand
//! and by policy, new names and limits, health, events, and how all of it is
//! listed.

use serde_json::json;
use tests::command::eventually;
use tests::stack::{BUSYBOX, Stack};

/// `ctl run -d --name NAME ARGS BUSYBOX sh -c SCRIPT`
#[track_caller]
fn background(stack: &Stack, name: &str, args: &[&str], script: &str) {
    let before = ["run", "-d", "--name", name];
    stack
        .ctl(&[&before[..], args, &[BUSYBOX, "sh", "-c", script]].concat())
        .ok();
}

#[track_caller]
fn until(stack: &Stack, container: &str, pointer: &str, value: impl Into<serde_json::Value>) {
    let value = value.into();
    eventually(&format!("{pointer} of {container} to be {value}"), || {
        (stack.inspect(container, pointer) == value).then_some(())
    });
}

#[test]
fn a_paused_container_does_nothing_until_it_goes_on() {
    let stack = Stack::with_busybox();
    background(
        &stack,
        "c1",
        &[],
        "while :; do date +%s%N > /now; sleep 0.05; done",
    );
    assert_eq!(stack.ctl(&["pause", "c1"]).ok(), "c1\n");
    assert_eq!(stack.inspect("c1", "/State/Status"), "paused");
    assert!(stack.ctl(&["ps"]).ok().contains("(Paused)"));
    stack
        .ctl(&["pause", "c1"])
        .fails_naming(&["already paused"]);
    assert_eq!(stack.ctl(&["unpause", "c1"]).ok(), "c1\n");
    assert_eq!(stack.inspect("c1", "/State/Status"), "running");
    stack
        .ctl(&["unpause", "c1"])
        .fails_naming(&["is not paused"]);
    let first = stack.ctl(&["exec", "c1", "cat", "/now"]).ok();
    eventually("the container to go on", || {
        (stack.ctl(&["exec", "c1", "cat", "/now"]).ok() != first).then_some(())
    });
    // Stopping goes through a pause.
    stack.ctl(&["pause", "c1"]).ok();
    stack.ctl(&["stop", "-t", "0", "c1"]).ok();
    assert_eq!(stack.inspect("c1", "/State/Paused"), false);
    stack
        .ctl(&["pause", "c1"])
        .fails_naming(&["is not running"]);
}

#[test]
fn a_restart_keeps_the_container_and_its_files() {
    let stack = Stack::with_busybox();
    background(&stack, "c1", &[], "echo x >> /count; sleep 1000");
    let pid = stack.inspect("c1", "/State/Pid");
    assert_eq!(stack.ctl(&["restart", "-t", "0", "c1"]).ok(), "c1\n");
    assert_ne!(stack.inspect("c1", "/State/Pid"), pid);
    eventually("the second line", || {
        (stack.ctl(&["exec", "c1", "cat", "/count"]).ok() == "x\nx\n").then_some(())
    });
    stack.ctl(&["stop", "-t", "0", "c1"]).ok();
    stack.ctl(&["restart", "c1"]).ok();
    assert_eq!(stack.inspect("c1", "/State/Running"), true);
    // One that removes itself survives a restart.
    background(&stack, "c2", &["--rm"], "sleep 1000");
    stack.ctl(&["restart", "-t", "0", "c2"]).ok();
    assert_eq!(stack.inspect("c2", "/State/Running"), true);
    stack
        .ctl(&["restart", "nobody"])
        .exits(1)
        .fails_naming(&["No such container: nobody"]);
}

#[test]
fn restart_policies_are_honoured_and_backed_off() {
    let mut stack = Stack::with_busybox();
    background(&stack, "thrice", &["--restart", "on-failure:2"], "exit 3");
    until(&stack, "thrice", "/RestartCount", 2);
    until(&stack, "thrice", "/State/Status", "exited");
    assert_eq!(stack.inspect("thrice", "/State/ExitCode"), 3);
    background(&stack, "fine", &["--restart", "on-failure"], "exit 0");
    until(&stack, "fine", "/State/Status", "exited");
    assert_eq!(stack.inspect("fine", "/RestartCount"), 0);
    background(&stack, "always", &["--restart", "always"], "sleep 1000");
    background(
        &stack,
        "unless",
        &["--restart", "unless-stopped"],
        "sleep 1000",
    );
    background(&stack, "plain", &[], "sleep 1000");
    stack.ctl(&["stop", "-t", "0", "always", "unless"]).ok();
    assert_eq!(stack.inspect("always", "/State/Running"), false);
    assert_eq!(
        stack.inspect("always", "/HostConfig/RestartPolicy"),
        json!({"Name": "always", "MaximumRetryCount": 0})
    );
    stack.kill_daemon();
    stack.start_daemon();
    until(&stack, "always", "/State/Running", true);
    assert_eq!(stack.inspect("unless", "/State/Running"), false);
    assert_eq!(stack.inspect("plain", "/State/Running"), true);
    stack
        .ctl(&["run", "--restart", "sometimes", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["unknown policy 'sometimes'"]);
}

#[test]
fn a_killed_container_that_should_always_run_comes_back_on_its_own_end_only() {
    let stack = Stack::with_busybox();
    background(&stack, "c1", &["--restart", "always"], "sleep 1000");
    let pid = stack.inspect("c1", "/State/Pid");
    // Its own end, as far as the engine can tell.
    let killed = std::process::Command::new("kill")
        .arg("-9")
        .arg(pid.to_string())
        .status();
    assert!(killed.unwrap().success());
    eventually("a new main process", || {
        let now = stack.inspect("c1", "/State/Pid");
        (now != pid && now != 0).then_some(())
    });
    stack.ctl(&["kill", "c1"]).ok();
    until(&stack, "c1", "/State/Status", "exited");
}

#[test]
fn a_new_name_takes_the_place_of_the_old() {
    let stack = Stack::with_busybox();
    background(&stack, "old", &[], "sleep 1000");
    background(&stack, "other", &[], "sleep 1000");
    assert_eq!(stack.ctl(&["rename", "old", "new"]).ok(), "");
    assert_eq!(stack.inspect("new", "/Name"), "/new");
    stack
        .ctl(&["rename", "old", "x1"])
        .fails_naming(&["No such container: old"]);
    stack
        .ctl(&["rename", "new", "other"])
        .fails_naming(&["Conflict", "other"]);
    stack
        .ctl(&["rename", "new", "?"])
        .fails_naming(&["Invalid container name"]);
    stack
        .ctl(&["create", "--name", "old", BUSYBOX, "true"])
        .ok();
}

#[test]
fn limits_and_policy_change_while_it_runs() {
    let stack = Stack::with_busybox();
    background(&stack, "c1", &["-m", "64m"], "sleep 1000");
    assert_eq!(
        stack
            .ctl(&["update", "--pids-limit", "77", "--restart", "always", "c1"])
            .ok(),
        "c1\n"
    );
    let script = "for f in pids/pids.max pids.max; do if [ -e /sys/fs/cgroup/$f ]; then cat /sys/fs/cgroup/$f; break; fi; done";
    assert_eq!(stack.ctl(&["exec", "c1", "sh", "-c", script]).ok(), "77\n");
    assert_eq!(stack.inspect("c1", "/HostConfig/PidsLimit"), 77);
    assert_eq!(stack.inspect("c1", "/HostConfig/Memory"), 64 << 20);
    assert_eq!(
        stack.inspect("c1", "/HostConfig/RestartPolicy/Name"),
        "always"
    );
    stack
        .ctl(&["update", "-m", "1m", "c1"])
        .fails_naming(&["Minimum memory limit allowed is 6MB"]);
}

#[test]
fn processes_and_statistics_are_shown() {
    let stack = Stack::with_busybox();
    background(&stack, "c1", &["-m", "64m"], "exec sleep 1234");
    let top = stack.ctl(&["top", "c1"]).ok();
    assert!(
        top.starts_with("UID ") && top.contains("sleep 1234"),
        "{top}"
    );
    assert_eq!(top.lines().count(), 2);
    let top = stack.ctl(&["top", "c1", "-o", "pid,comm"]).ok();
    assert!(top.starts_with("PID ") && top.contains("sleep"), "{top}");
    let stats = stack
        .ctl(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.MemUsage}} {{.PIDs}}",
        ])
        .ok();
    assert!(
        stats.starts_with("c1 ") && stats.ends_with(" / 64MiB 1\n"),
        "{stats}"
    );
    stack.ctl(&["stop", "-t", "0", "c1"]).ok();
    stack.ctl(&["top", "c1"]).fails_naming(&["is not running"]);
    let stats = stack
        .ctl(&["stats", "--no-stream", "-a", "--format", "{{.PIDs}}"])
        .ok();
    assert_eq!(stats, "0\n");
}

#[test]
fn health_is_what_the_check_says() {
    let stack = Stack::with_busybox();
    background(
        &stack,
        "c1",
        &[
            "--health-cmd",
            "test -e /ok && echo good",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
        ],
        "sleep 1000",
    );
    until(&stack, "c1", "/State/Health/Status", "unhealthy");
    assert!(stack.ctl(&["ps"]).ok().contains("(unhealthy)"));
    stack.ctl(&["exec", "c1", "touch", "/ok"]).ok();
    until(&stack, "c1", "/State/Health/Status", "healthy");
    assert!(
        stack
            .ctl(&["ps", "-f", "health=healthy"])
            .ok()
            .contains("c1")
    );
    let log = stack.inspect("c1", "/State/Health/Log");
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["ExitCode"], &last["Output"]),
        (&json!(0), &json!("good\n"))
    );
    background(
        &stack,
        "c2",
        &[
            "--health-cmd",
            "sleep 1000",
            "--health-interval",
            "100ms",
            "--health-timeout",
            "200ms",
            "--health-retries",
            "1",
        ],
        "sleep 1000",
    );
    until(&stack, "c2", "/State/Health/Status", "unhealthy");
    let output = stack.inspect("c2", "/State/Health/Log/0/Output");
    assert!(
        output.as_str().unwrap().contains("exceeded timeout"),
        "{output}"
    );
}

#[test]
fn events_tell_what_happened() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "--name", "c1", BUSYBOX, "sh", "-c", "exit 4"])
        .exits(4);
    stack.ctl(&["rm", "c1"]).ok();
    let said = stack
        .ctl(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "-f",
            "container=c1",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    assert_eq!(said, "create\nstart\ndie\ndestroy\n");
    let said = stack
        .ctl(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "-f",
            "event=die",
        ])
        .ok();
    assert!(
        said.contains(" container die ") && said.contains("exitCode=4") && said.contains("name=c1"),
        "{said}"
    );
    stack
        .ctl(&["events", "-f", "bogus=1", "--until", "0s"])
        .fails_naming(&["invalid filter 'bogus'"]);
}

#[test]
fn lists_are_filtered_and_formatted() {
    let stack = Stack::with_busybox();
    background(&stack, "web", &["-l", "tier=front"], "sleep 1000");
    stack
        .ctl(&[
            "run",
            "--name",
            "done",
            BUSYBOX,
            "sh",
            "-c",
            "echo x > /file; exit 3",
        ])
        .exits(3);
    let names = |args: &[&str]| {
        let all = [&["ps", "--format", "{{.Names}}"], args].concat();
        stack.ctl(&all).ok()
    };
    assert_eq!(names(&[]), "web\n");
    assert_eq!(names(&["-a"]), "done\nweb\n");
    assert_eq!(names(&["-l"]), "done\n");
    assert_eq!(names(&["-f", "status=exited"]), "done\n");
    assert_eq!(names(&["-f", "exited=3"]), "done\n");
    assert_eq!(names(&["-a", "-f", "label=tier=front"]), "web\n");
    assert_eq!(names(&["-a", "-f", "name=do"]), "done\n");
    assert_eq!(
        names(&["-a", "-f", "ancestor=busybox", "-n", "1"]),
        "done\n"
    );
    let table = stack
        .ctl(&["ps", "--format", "table {{.Names}}\\t{{.State}}"])
        .ok();
    assert_eq!(table, "NAMES     STATE\nweb       running\n");
    let json: serde_json::Value =
        serde_json::from_str(&stack.ctl(&["ps", "--format", "json"]).ok()).unwrap();
    assert_eq!(
        (&json["Names"], &json["Labels"]),
        (&json!("web"), &json!("tier=front"))
    );
    let sized = stack.ctl(&["ps", "-as"]).ok();
    assert!(
        sized.lines().next().unwrap().trim_end().ends_with("SIZE") && sized.contains("(virtual "),
        "{sized}"
    );
    stack
        .ctl(&["ps", "-f", "bogus=1"])
        .exits(1)
        .fails_naming(&["invalid filter 'bogus'"]);
    assert_eq!(
        stack
            .ctl(&[
                "inspect",
                "-f",
                "{{.State.ExitCode}} {{.Config.Image}}",
                "done"
            ])
            .ok(),
        "3 busybox:latest\n"
    );
    let pruned = stack.ctl(&["container", "prune", "-f"]).ok();
    assert!(
        pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "),
        "{pruned}"
    );
    assert_eq!(names(&["-a"]), "web\n");
}

#[test]
fn images_have_names_history_and_formats() {
    let stack = Stack::with_busybox();
    assert_eq!(
        stack
            .ctl(&["tag", "busybox", "example.org/team/box:v1"])
            .ok(),
        ""
    );
    let listed = stack
        .ctl(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert_eq!(listed, "busybox:latest\nexample.org/team/box:v1\n");
    let found = stack
        .ctl(&["images", "-q", "-f", "reference=*/team/*"])
        .ok();
    assert_eq!(found.lines().count(), 1);
    stack
        .ctl(&["run", "--rm", "example.org/team/box:v1", "true"])
        .ok();
    let untagged = stack.ctl(&["rmi", "example.org/team/box:v1"]).ok();
    assert!(
        untagged.contains("Untagged: example.org/team/box:v1") && !untagged.contains("Deleted"),
        "{untagged}"
    );
    stack
        .ctl(&["tag", "nothing", "x"])
        .fails_naming(&["No such image: nothing"]);
    let history = stack
        .ctl(&["history", "--format", "{{.Size}}", "busybox"])
        .ok();
    assert!(
        history.lines().any(|size| size.ends_with("MB")),
        "{history}"
    );
}

#[test]
fn logs_can_be_cut_by_time() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "echo first; sleep 2; echo second",
        ])
        .ok();
    let stamped = stack.ctl(&["logs", "-t", "c1"]).ok();
    let second = stamped.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(
        stack.ctl(&["logs", "--since", second, "c1"]).ok(),
        "second\n"
    );
    let first = stamped.lines().next().unwrap().split(' ').next().unwrap();
    assert_eq!(stack.ctl(&["logs", "--until", first, "c1"]).ok(), "first\n");
    assert_eq!(
        stack.ctl(&["logs", "--since", "1h", "c1"]).ok(),
        "first\nsecond\n"
    );
}
