//! Logs in the form that a kubelet reads, and rotates.

use std::fs;
use std::path::Path;

use proto::runtime::v1 as wire;
use tests::command::eventually;
use tests::kubelet::{self, Kubelet, container, pod};

/// The lines of a log without their times, each of which must be one.
#[track_caller]
fn lines(log: &str) -> Vec<String> {
    let text = fs::read_to_string(log).expect("a log");
    text.lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.ends_with('Z') && time.contains('T'), "{line}");
            rest.to_owned()
        })
        .collect()
}

#[test]
fn lines_have_time_stream_and_tag_and_long_ones_are_parts() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let id = kubelet.run(&config);
    let script = "echo one; echo oops >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf rest";
    let one = kubelet.start(&id, &config, container("one", &["sh", "-c", script]));
    let log = kubelet.ended(&one).log_path;
    assert_eq!(log, format!("{}/one/0.log", config.log_directory));
    let mut said = lines(&log);
    said.sort();
    let long = "x".repeat(16 << 10);
    let mut wanted = vec![
        "stderr F oops".to_owned(),
        "stdout F one".to_owned(),
        "stdout F rest".to_owned(),
        format!("stdout F {}", "x".repeat(20_000 - (16 << 10))),
        format!("stdout P {long}"),
    ];
    wanted.sort();
    assert_eq!(said, wanted);
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let id = kubelet.run(&config);
    let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done";
    let one = kubelet.start(&id, &config, container("one", &["sh", "-c", script]));
    let log = kubelet.status(&one).log_path;
    eventually("output", || (lines(&log).len() > 3).then_some(()));
    let old = format!("{log}.old");
    fs::rename(&log, &old).expect("a rename");
    let reopen = || {
        let container_id = one.clone();
        let request = wire::ReopenContainerLogRequest { container_id };
        kubelet.ask(kubelet.runtime().reopen_container_log(request))
    };
    reopen().expect("it goes on");
    assert!(Path::new(&log).exists());
    eventually("more output", || (lines(&log).len() > 3).then_some(()));
    let request = wire::StopContainerRequest {
        container_id: one.clone(),
        timeout: 0,
    };
    kubelet.ok(kubelet.runtime().stop_container(request));
    let all = [lines(&old), lines(&log)].concat();
    for (at, line) in all.iter().enumerate() {
        assert_eq!(
            line,
            &format!("stdout F {}", at + 1),
            "no line is lost or doubled"
        );
    }
    assert!(
        reopen().is_err(),
        "there is none to reopen of one that has ended"
    );
}
