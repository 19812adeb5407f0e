//! Commands that ask once and print the answer.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use proto::engine::v1::{ContainerSummary, LogEntry, Stream};

use crate::fake::{Fake, ID, ctl};

fn output(fake: &Fake, args: &[&str]) -> Output {
    fake.ctl(args).stdin(Stdio::null()).output().unwrap()
}

fn check(fake: &Fake, args: &[&str], stdout: &str, stderr: &str, code: i32) {
    let output = output(fake, args);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{args:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr, "{args:?}");
    assert_eq!(output.status.code(), Some(code), "{args:?}");
}

#[test]
fn several_names_go_on_after_a_failed_one() {
    let fake = Fake::listen();
    let lost = "ctl: no such container: none\n";
    check(
        &fake,
        &["stop", "-t", "-1", "a", "none", "b"],
        "a\nb\n",
        lost,
        1,
    );
    assert_eq!(
        fake.daemon.asked(),
        [
            "stop a Some(-1) \"\"",
            "stop none Some(-1) \"\"",
            "stop b Some(-1) \"\""
        ]
    );
    check(&fake, &["start", "none", "b"], "b\n", lost, 1);
    check(&fake, &["kill", "-s", "HUP", "none", "b"], "b\n", lost, 1);
    check(&fake, &["rm", "none", "b"], "b\n", lost, 1);
    check(&fake, &["wait", "none", "b"], "3\n", lost, 1);
    let removed = format!("Untagged: b\nDeleted: sha256:{ID}\n");
    check(&fake, &["rmi", "none", "b"], &removed, lost, 1);
}

#[test]
fn what_is_gone_already_can_be_forced_away() {
    let fake = Fake::listen();
    check(&fake, &["rm", "-f", "none", "b"], "b\n", "", 0);
    check(
        &fake,
        &["rmi", "-f", "none"],
        "",
        "ctl: no such container: none\n",
        0,
    );
}

#[test]
fn ps_prints_a_table_or_ids() {
    let fake = Fake::listen();
    let heading = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n";
    check(&fake, &["ps"], heading, "", 0);
    let one = |id: String, name: &str| ContainerSummary {
        id,
        name: name.to_owned(),
        status: "Up 1 second\x1b[31m".to_owned(),
        ..Default::default()
    };
    *fake.daemon.containers.lock().unwrap() = vec![
        one(ID.to_owned(), "first"),
        one(ID.replace('0', "f"), "second"),
    ];
    check(
        &fake,
        &["container", "ls", "-aq"],
        "0123456789ab\nf123456789ab\n",
        "",
        0,
    );
    check(
        &fake,
        &["ps", "-lq", "--no-trunc"],
        &format!("{ID}\n"),
        "",
        0,
    );
    let table = output(&fake, &["ps", "-a"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("Up 1 second\\x1b[31m"));
    assert_eq!(
        fake.daemon.asked(),
        [
            "list all=false",
            "list all=true",
            "list all=true",
            "list all=true"
        ]
    );
}

#[test]
fn logs_keep_streams_apart_and_bytes_untouched() {
    let fake = Fake::listen();
    let entry = |stream: Stream, data: &'static [u8]| LogEntry {
        time: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 5,
        }),
        stream: stream.into(),
        data: data.into(),
    };
    *fake.daemon.logs.lock().unwrap() = vec![
        entry(Stream::Stdout, b"a\x1b[1m\n"),
        entry(Stream::Stderr, b"b\n"),
    ];
    check(
        &fake,
        &["logs", "-f", "--tail", "2", "box"],
        "a\x1b[1m\n",
        "b\n",
        0,
    );
    let time = "1970-01-01T00:00:01.000000005Z";
    let (out, err) = (format!("{time} a\x1b[1m\n"), format!("{time} b\n"));
    check(&fake, &["logs", "-tn", "all", "box"], &out, &err, 0);
    assert_eq!(
        fake.daemon.asked(),
        [
            "logs box follow=true tail=Some(2)",
            "logs box follow=false tail=None"
        ]
    );
}

#[test]
fn inspect_prints_what_it_found_and_reports_the_rest() {
    let fake = Fake::listen();
    let found = "[\n    {\n        \"Id\": \"x\"\n    },\n    {\n        \"Image\": 1\n    }\n]\n";
    check(
        &fake,
        &["inspect", "box", "none", "image"],
        found,
        "ctl: no such object: none\n",
        1,
    );
    let args = ["inspect", "--type", "container", "image"];
    check(&fake, &args, "[]\n", "ctl: no such container: image\n", 1);
}

#[test]
fn load_sends_the_whole_archive() {
    let fake = Fake::listen();
    let loaded = format!("Loaded image: demo:1\nLoaded image ID: sha256:{ID}\n");
    let archive = fake.dir.path().join("image.tar");
    std::fs::write(&archive, vec![0; 700_000]).unwrap();
    check(
        &fake,
        &["load", "-i", archive.to_str().unwrap()],
        &loaded,
        "",
        0,
    );
    let mut child = fake
        .ctl(&["image", "load"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&[0; 300_000])
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout),
        loaded
    );
    assert_eq!(fake.daemon.asked(), ["load 700000", "load 300000"]);
    let missing = "ctl: open /nosuch/x.tar: no such file or directory\n";
    check(&fake, &["load", "-i", "/nosuch/x.tar"], "", missing, 1);
}

#[test]
fn pull_ends_with_the_normalised_reference() {
    let fake = Fake::listen();
    let expected = format!(
        "Using default tag: latest\n0123456789ab: Pulling fs layer\n0123456789ab: Pull complete\n\
         Digest: sha256:{ID}\nStatus: Downloaded newer image for busybox:latest\n\
         docker.io/library/busybox:latest\n"
    );
    check(&fake, &["pull", "busybox"], &expected, "", 0);
    check(
        &fake,
        &["pull", "-q", "busybox"],
        "docker.io/library/busybox:latest\n",
        "",
        0,
    );
}

#[test]
fn the_host_may_come_from_the_environment() {
    let fake = Fake::listen();
    let version = Command::new(ctl())
        .arg("version")
        .env("CTL_HOST", fake.host())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&version.stdout)
            .contains("\nServer:\n Engine:\n  Version:          9.9\n")
    );
}

#[test]
fn completions_are_scripts_their_shell_reads() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(ctl())
            .args(["completion", shell])
            .output()
            .unwrap();
        assert!(script.status.success(), "{shell}");
        let text = String::from_utf8(script.stdout).unwrap();
        assert!(
            text.contains("detach-keys") && !text.contains("launch-daemon"),
            "{shell}"
        );
        if shell == "bash" {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let read = Command::new("bash")
                .arg("-n")
                .arg(file.path())
                .output()
                .unwrap();
            assert!(read.status.success(), "{read:?}");
        }
    }
}
