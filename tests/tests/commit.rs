//! `ctl commit`: images made of containers.

use serde_json::json;
use tests::command::eventually;
use tests::stack::{BUSYBOX, Stack};

/// One field of `ctl image inspect`, by its JSON pointer.
#[track_caller]
fn image(stack: &Stack, name: &str, pointer: &str) -> serde_json::Value {
    let said = stack.ctl(&["image", "inspect", name]).ok();
    let value: serde_json::Value = serde_json::from_str(&said).expect("inspect prints JSON");
    let found = value.pointer(&format!("/0{pointer}"));
    found
        .unwrap_or_else(|| panic!("{pointer} in {value:#}"))
        .clone()
}

#[test]
fn what_a_container_changed_is_in_the_image_and_runs() {
    let stack = Stack::with_busybox();
    let script = "echo hi > /new; rm /etc/group; ln -s /new /link; mkdir -m 700 /dir";
    stack
        .ctl(&[
            "run", "--name", "c1", "-v", "/data", BUSYBOX, "sh", "-c", script,
        ])
        .ok();
    let id = stack
        .ctl(&["commit", "-a", "me", "-m", "a remark", "c1", "made:1"])
        .ok();
    assert!(
        id.starts_with("sha256:") && id.trim_end().len() == 71,
        "{id}"
    );
    assert_eq!(image(&stack, "made:1", "/Id"), id.trim_end());
    assert_eq!(image(&stack, "made:1", "/Author"), "me");
    let look = "cat /link; stat -c %a /dir; ls /etc";
    let seen = stack.ctl(&["run", "--rm", "made:1", "sh", "-c", look]).ok();
    // Of the files that the runtime mounts there is nothing but the mounts.
    assert_eq!(seen, "hi\n700\nhostname\nhosts\npasswd\nresolv.conf\n");
    // The container's command is the image's.
    let again = stack.ctl(&["run", "--rm", "made:1"]);
    assert_ne!(again.code, 0, "{again}");
    let history = stack.ctl(&["history", "--no-trunc", "made:1"]).ok();
    assert!(history.contains(&format!("sh -c {script}")), "{history}");
    assert!(history.contains("a remark"), "{history}");
    // The layers of the image below are shared, not copied.
    let below = image(&stack, BUSYBOX, "/RootFS/Layers");
    let layers = image(&stack, "made:1", "/RootFS/Layers");
    assert_eq!(layers.as_array().map(Vec::len), Some(2));
    assert_eq!(layers[0], below[0]);
    // What was not changed makes no layer.
    stack.ctl(&["create", "--name", "c2", "made:1"]).ok();
    stack.ctl(&["commit", "c2", "same"]).ok();
    assert_eq!(image(&stack, "same", "/RootFS/Layers"), layers);
}

#[test]
fn changes_are_dockerfile_instructions() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "create", "--name", "c1", "-e", "A=1", "-l", "one=1", BUSYBOX, "sh",
        ])
        .ok();
    let changes = [
        "ENV B=$A-2 C=3",
        "EXPOSE 80 53/udp",
        "LABEL two=\"2 2\"",
        "ENTRYPOINT [\"/bin/echo\"]",
        "CMD [\"from\", \"commit\"]",
        "USER 1000",
        "VOLUME /data",
        "WORKDIR /tmp",
        "ONBUILD RUN true",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --interval=5s CMD true",
    ];
    let flags: Vec<&str> = changes
        .iter()
        .flat_map(|change| ["--change", change])
        .collect();
    stack
        .ctl(&[&["commit"][..], &flags, &["c1", "changed"]].concat())
        .ok();
    let config = image(&stack, "changed", "/Config");
    for (field, value) in [
        ("ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("Labels", json!({"one": "1", "two": "2 2"})),
        ("Entrypoint", json!(["/bin/echo"])),
        ("Cmd", json!(["from", "commit"])),
        ("User", json!("1000")),
        ("Volumes", json!({"/data": {}})),
        ("WorkingDir", json!("/tmp")),
    ] {
        assert_eq!(config[field], value, "{field} of {config:#}");
    }
    let env = config["Env"].as_array().expect("a list of variables");
    for variable in ["A=1", "B=1-2", "C=3"] {
        assert!(env.contains(&json!(variable)), "{variable} in {env:?}");
    }
    assert_eq!(stack.ctl(&["run", "--rm", "changed"]).ok(), "from commit\n");
    let where_and_who = [
        "run",
        "--rm",
        "--entrypoint",
        "sh",
        "changed",
        "-c",
        "pwd; id -u",
    ];
    assert_eq!(stack.ctl(&where_and_who).ok(), "/tmp\n1000\n");
    stack
        .ctl(&["commit", "-c", "RUN true", "c1"])
        .exits(1)
        .fails_naming(&["RUN is not a valid change command"]);
    stack
        .ctl(&["commit", "-c", "NONSENSE", "c1"])
        .exits(1)
        .fails_naming(&["NONSENSE"]);
    stack
        .ctl(&["commit", "c1", "Upper/Case"])
        .exits(1)
        .fails_naming(&["invalid reference format"]);
    stack
        .ctl(&["commit", "nobody"])
        .exits(1)
        .fails_naming(&["No such container: nobody"]);
}

#[test]
fn a_running_container_is_held_meanwhile_and_goes_on() {
    let mut stack = Stack::with_busybox();
    let script = "dd if=/dev/urandom of=/big bs=1M count=48 2>/dev/null; touch /ready; while :; do date +%s%N > /now; sleep 0.05; done";
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", script])
        .ok();
    eventually("the container's file", || {
        (stack.ctl(&["exec", "c1", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    stack.ctl(&["commit", "c1", "held"]).ok();
    let events = stack
        .ctl(&[
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    let told: Vec<&str> = events
        .lines()
        .filter(|action| ["pause", "unpause", "commit"].contains(action))
        .collect();
    assert_eq!(told, ["pause", "unpause", "commit"]);
    assert_eq!(stack.inspect("c1", "/State/Status"), "running");
    stack.ctl(&["commit", "-p=false", "c1", "moving"]).ok();
    let events = stack
        .ctl(&[
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    assert_eq!(
        events.lines().filter(|action| *action == "pause").count(),
        1
    );
    // One that is paused stays so.
    stack.ctl(&["pause", "c1"]).ok();
    stack.ctl(&["commit", "c1"]).ok();
    assert_eq!(stack.inspect("c1", "/State/Status"), "paused");
    stack.ctl(&["unpause", "c1"]).ok();
    // A daemon that dies while it holds one lets it go on when it comes back.
    let mut commit = stack.ctl_command(&["commit", "c1", "cut-short"]);
    let mut commit = commit
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("ctl can be run");
    eventually("the container to be held", || {
        let status = stack.inspect("c1", "/State/Status");
        let over = commit.try_wait().expect("ctl can be waited for").is_some();
        (status == "paused" || over).then_some(())
    });
    stack.kill_daemon();
    drop(commit.wait());
    stack.start_daemon();
    eventually("the container to go on", || {
        (stack.inspect("c1", "/State/Status") == "running").then_some(())
    });
    let first = stack.ctl(&["exec", "c1", "cat", "/now"]).ok();
    eventually("the container's clock", || {
        (stack.ctl(&["exec", "c1", "cat", "/now"]).ok() != first).then_some(())
    });
}

#[test]
fn an_image_that_loses_its_name_stays_and_one_that_is_gone_is_made_again() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "--name", "c1", BUSYBOX, "sh", "-c", "echo 1 > /file"])
        .ok();
    let first = stack.ctl(&["commit", "c1", "made"]).ok();
    let second = stack.ctl(&["commit", "c1", "made"]).ok();
    assert_ne!(first, second);
    let unnamed = stack.ctl(&["commit", "c1"]).ok();
    let dangling = stack
        .ctl(&[
            "images",
            "--no-trunc",
            "-f",
            "dangling=true",
            "--format",
            "{{.Repository}} {{.Tag}} {{.ID}}",
        ])
        .ok();
    let mut lines: Vec<&str> = dangling.lines().collect();
    lines.sort_unstable();
    let mut want = [first.trim_end(), unnamed.trim_end()].map(|id| format!("<none> <none> {id}"));
    want.sort_unstable();
    assert_eq!(lines, want);
    // The container's image goes; its layers are still below the container.
    stack.ctl(&["rmi", "-f", BUSYBOX, "made"]).ok();
    for id in [&first, &second, &unnamed] {
        stack.ctl(&["rmi", "-f", id.trim_end()]);
    }
    stack.ctl(&["commit", "c1", "again"]).ok();
    let read = ["run", "--rm", "again", "sh", "-c", "cat /file; ls /bin/sh"];
    assert_eq!(stack.ctl(&read).ok(), "1\n/bin/sh\n");
}
