//! How long each step of a start took, as `--debug --log-format json` tells it.

use std::process::Stdio;

use serde_json::Value;

use crate::bundle::{Bundle, RUNTIME, text};

/// What a call logs, as (process, what) of each line that tells a time.
fn spans(bundle: &Bundle, globals: &[&str], args: &[&str]) -> Vec<(String, String)> {
    let log = bundle.dir.path().join("log");
    let mut all = vec!["--log", log.to_str().unwrap()];
    all.extend(globals);
    all.extend(args);
    let mut command = bundle.command(RUNTIME, &all);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "{args:?}");
    let lines = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::write(&log, "").unwrap();
    let parsed = lines.lines().filter_map(|l| serde_json::from_str(l).ok());
    let timed = parsed.filter(|line: &Value| line["took_us"].is_u64());
    timed
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap().to_owned();
            (word("process"), word("msg"))
        })
        .collect()
}

const ON: &[&str] = &["--debug", "--log-format", "json"];

#[test]
fn each_step_of_a_start_tells_its_time() {
    for users in [false, true] {
        let mut bundle = Bundle::new("exec sleep 100");
        if users {
            bundle.in_user_namespace();
        }
        bundle.save();
        let plan = text(&bundle.call(&["plan", "."]).stdout);
        let steps = plan.lines().take_while(|step| *step != "await start");
        let mut wanted: Vec<String> = steps
            .map(|s| s.replace("_ses.ID", &format!("_ses.{}", bundle.id)))
            .collect();
        let created = spans(&bundle, ON, &["create", &bundle.id]);
        let of = |process: &str| -> Vec<String> {
            let own = created.iter().filter(|(p, _)| p == process);
            own.map(|(_, what)| what.clone()).collect()
        };
        assert_eq!(of("init"), wanted);
        wanted = [
            "read and check config.json",
            "plan",
            "make cgroup and set limits",
            "open mount sources",
            "clone init",
            "write state",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(of("runtime"), wanted);
        let started = spans(&bundle, ON, &["start", &bundle.id]);
        assert_eq!(started, [("runtime".to_owned(), "await exec".to_owned())]);
        let executed = spans(&bundle, ON, &["exec", &bundle.id, "true"]);
        assert!(
            executed.contains(&("init".to_owned(), "find program".to_owned())),
            "{executed:?}"
        );
        assert_eq!(executed.last().unwrap().1, "start and exec");
    }
}

#[test]
fn nobody_is_told_of_times_who_has_not_asked() {
    let bundle = Bundle::new("true");
    bundle.save();
    for globals in [&["--debug"][..], &["--log-format", "json"], &[]] {
        assert_eq!(spans(&bundle, globals, &["run", &bundle.id]), []);
    }
}
