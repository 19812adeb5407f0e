//! Daemon and host as a whole: `info`, `version`, `system df`, `system prune`,
//! `doctor`.

use std::process::Command;

use serde_json::Value;
use tests::command::{self, eventually};
use tests::stack::{BUSYBOX, Stack};

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

#[test]
fn info_counts_and_names_what_is_there() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])
        .ok();
    stack.ctl(&["create", "--name", "c2", BUSYBOX, "true"]).ok();
    stack.ctl(&["pause", "c1"]).ok();
    let info = json(&stack.ctl(&["info", "--format", "json"]).ok());
    for (field, value) in [
        ("Containers", 2),
        ("ContainersRunning", 0),
        ("ContainersPaused", 1),
        ("ContainersStopped", 1),
        ("Images", 1),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(
        info["DockerRootDir"],
        stack.root().display().to_string().as_str()
    );
    let uname = Command::new("uname")
        .arg("-r")
        .output()
        .expect("uname can be run");
    let kernel = String::from_utf8_lossy(&uname.stdout).trim().to_owned();
    assert_eq!(info["KernelVersion"], kernel.as_str());
    let lines = stack.ctl(&["system", "info"]).ok();
    for line in [
        " Containers: 2\n",
        "  Paused: 1\n",
        &format!(" Kernel Version: {kernel}\n"),
    ] {
        assert!(lines.contains(line), "{line:?} in {lines}");
    }
    assert_eq!(
        stack.ctl(&["info", "-f", "{{.NCPU}} {{.OSType}}"]).ok(),
        format!("{} linux\n", info["NCPU"])
    );
    let version = json(&stack.ctl(&["version", "--format", "json"]).ok());
    assert_eq!(version["Client"]["Version"], version["Server"]["Version"]);
    assert_eq!(version["Server"]["KernelVersion"], kernel.as_str());
    let short = stack.ctl(&["version", "-f", "{{.Server.Os}}/{{.Server.Arch}}"]);
    assert_eq!(short.ok(), "linux/amd64\n");
}

/// What `du` says of the daemon's root directory.
fn du(stack: &Stack) -> u64 {
    let mut du = Command::new("du");
    let said = command::run(du.args(["-s", "--block-size=1"]).arg(stack.root())).ok();
    let bytes = said
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    bytes.expect("du prints a number")
}

fn df(stack: &Stack) -> Vec<(String, u64)> {
    let rows = stack
        .ctl(&["system", "df", "--format", "{{.Type}}|{{.Bytes}}"])
        .ok();
    rows.lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(kind, bytes)| (kind.to_owned(), bytes.parse().expect("a number")))
        .collect()
}

#[test]
fn disk_usage_is_what_du_says_to_the_byte() {
    let stack = Stack::with_busybox();
    let script = "dd if=/dev/zero of=/own bs=1k count=700; dd if=/dev/zero of=/data/kept bs=1k count=300; echo logged";
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            "-v",
            "named:/data",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ])
        .ok();
    stack.ctl(&["volume", "create", "free"]).ok();
    stack.ctl(&["commit", "c1", "made"]).ok();
    // The database may still be written to: ask until both see the same.
    eventually("du and system df to agree", || {
        let (before, rows, after) = (du(&stack), df(&stack), du(&stack));
        let total: u64 = rows.iter().map(|(_, bytes)| bytes).sum();
        (before == total && after == total).then_some(())
    });
    let rows = df(&stack);
    let of = |kind: &str| {
        let found = rows.iter().find(|(name, _)| name == kind);
        found.unwrap_or_else(|| panic!("{kind} in {rows:?}")).1
    };
    assert!(of("Containers") >= 700 << 10);
    assert!(of("Local Volumes") >= 300 << 10 && of("Local Volumes") < 700 << 10);
    assert!(of("Images") > 1 << 20);
    let table = stack.ctl(&["system", "df"]).ok();
    let images = table
        .lines()
        .find(|line| line.starts_with("Images"))
        .unwrap_or_default();
    let words: Vec<&str> = images.split_whitespace().collect();
    assert_eq!((words[1], words[2]), ("2", "1"), "{table}");
    let verbose = stack.ctl(&["system", "df", "-v"]).ok();
    for word in [
        "Images space usage:",
        "made",
        "c1",
        "named",
        "free",
        "Build cache usage:",
    ] {
        assert!(verbose.contains(word), "{word} in {verbose}");
    }
    assert!(
        verbose.contains(&format!("({} bytes)", du(&stack))),
        "{verbose}"
    );
}

#[test]
fn what_is_not_used_goes_with_one_command() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "runs",
            "--network",
            "none",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    stack
        .ctl(&[
            "run",
            "--name",
            "ended",
            "--network",
            "none",
            "-v",
            "/data",
            BUSYBOX,
            "sh",
            "-c",
            "echo 1 > /x",
        ])
        .ok();
    stack.ctl(&["commit", "ended", "made"]).ok();
    stack.ctl(&["commit", "ended", "made"]).ok();
    stack.ctl(&["volume", "create", "named"]).ok();
    stack
        .ctl(&["network", "create", "--subnet", "10.213.0.0/24", "lonely"])
        .ok();
    let asked = stack.ctl(&["system", "prune", "--volumes"]).ok();
    for line in [
        "WARNING! This will remove:\n  - all stopped containers\n",
        "  - all anonymous volumes not used",
        "  - all dangling images\n",
        "[y/N] ",
    ] {
        assert!(asked.contains(line), "{line:?} in {asked}");
    }
    assert!(
        stack.ctl(&["ps", "-aq"]).ok().lines().count() == 2,
        "nothing goes without a yes"
    );
    let said = stack.ctl(&["system", "prune", "-f", "--volumes"]).ok();
    for line in [
        "Deleted Containers:\n",
        "Deleted Networks:\nlonely\n",
        "Deleted Volumes:\n",
        "Deleted Images:\ndeleted: sha256:",
        "Total reclaimed space: ",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    assert_eq!(
        stack.ctl(&["ps", "-a", "--format", "{{.Names}}"]).ok(),
        "runs\n"
    );
    assert_eq!(stack.ctl(&["volume", "ls", "-q"]).ok(), "named\n");
    let said = stack.ctl(&["system", "prune", "-af"]).ok();
    assert!(said.contains("untagged: made:latest\n"), "{said}");
    assert_eq!(
        stack.ctl(&["images", "--format", "{{.Repository}}"]).ok(),
        "busybox\n"
    );
    stack
        .ctl(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"])
        .exits(1)
        .fails_naming(&["The \"until\" filter is not supported with \"--volumes\""]);
}

#[test]
fn the_doctor_names_what_was_looked_at_and_what_to_type() {
    let stack = Stack::start();
    let said = stack.ctl(&["doctor"]);
    for name in [
        "kernel: ",
        "overlayfs: ",
        "cgroups: ",
        "seccomp: ",
        "firewall: ",
        "/etc/subuid: ",
        "registr",
    ] {
        assert!(said.out.contains(name), "{name} in {said}");
    }
    let bad = said.out.lines().any(|line| line.starts_with("bad "));
    assert_eq!(said.code, i32::from(bad), "{said}");
    // Whatever is not well has a line that says what to do.
    let lines: Vec<&str> = said.out.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("bad ") || line.starts_with("warning ") {
            let next = lines.get(at + 1).copied().unwrap_or_default();
            assert!(next.trim_start().starts_with("-> "), "{line}\n{next}");
        }
    }
}
