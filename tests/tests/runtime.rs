//! `runc-rs` beside `runc`: the same bundle, the same steps, the same answers.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::command::{self, Said, eventually};
use tests::need::{self, Need};
use tests::repository;
use tests::scratch::Scratch;

/// One of the two runtimes with a root directory of its own.
struct Runtime {
    program: PathBuf,
    root: PathBuf,
}

impl Runtime {
    fn ours(scratch: &Scratch) -> Self {
        Self {
            program: repository::program("runc-rs"),
            root: scratch.path("ours"),
        }
    }

    fn theirs(scratch: &Scratch) -> Self {
        Self {
            program: need::on_path("runc").expect("runc is installed"),
            root: scratch.path("theirs"),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(args);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Said {
        command::run(&mut self.command(args))
    }

    /// `create`, whose container keeps the standard streams: no pipes.
    #[track_caller]
    fn create(&self, bundle: &Bundle, id: &str) {
        let mut command = self.command(&["create", "--bundle", &bundle.text(), id]);
        let silent = Stdio::null;
        let status = command
            .stdin(silent())
            .stdout(silent())
            .stderr(silent())
            .status()
            .expect("the runtime can be run");
        assert!(status.success(), "{} create", self.program.display());
    }

    #[track_caller]
    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).expect("state prints JSON")
    }

    #[track_caller]
    fn until(&self, id: &str, status: &str) {
        eventually(status, || {
            (self.state(id)["status"] == status).then_some(())
        });
    }
}

/// Both runtimes, theirs first.
fn both(scratch: &Scratch) -> [Runtime; 2] {
    [Runtime::theirs(scratch), Runtime::ours(scratch)]
}

/// runc's own words without its decoration: the text between the quotes of
/// `level=error msg="…"`, without the prefix that names the command.
fn core_of(err: &str) -> String {
    let quoted = err
        .split("msg=\"")
        .nth(1)
        .map_or(err, |rest| rest.trim_end().trim_end_matches('"'));
    let quoted = quoted.replace("\\\"", "\"");
    quoted
        .trim_start_matches("runc create failed: ")
        .trim_start_matches("runc run failed: ")
        .to_owned()
}

#[test]
fn a_life_has_the_same_states() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    let mut lives = Vec::new();
    for runtime in both(&scratch) {
        let mut life = Vec::new();
        let mut note = |what: &str, pid_wanted: bool| {
            let mut state = runtime.state("c1");
            let pid = state["pid"].as_i64().unwrap();
            assert_eq!(pid > 0, pid_wanted, "{what}: {state}");
            let created = state["created"].as_str().unwrap().to_owned();
            assert!(created.ends_with('Z') && created.contains('T'), "{created}");
            for key in ["pid", "created", "ociVersion"] {
                state
                    .as_object_mut()
                    .unwrap()
                    .remove(key)
                    .unwrap_or_else(|| panic!("{key} in state"));
            }
            life.push((what.to_owned(), state));
        };
        runtime.create(&bundle, "c1");
        note("after create", true);
        runtime.run(&["start", "c1"]).ok();
        note("after start", true);
        runtime.run(&["kill", "c1", "KILL"]).ok();
        runtime.until("c1", "stopped");
        note("after kill", false);
        runtime.run(&["delete", "c1"]).ok();
        assert_eq!(runtime.run(&["list", "-q"]).ok(), "");
        lives.push(life);
    }
    assert_eq!(lives[0], lives[1]);
}

#[test]
fn mistakes_are_answered_in_the_same_words() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    // One each: two containers at once in one cgroup are refused.
    let bundles = ["t", "o"].map(|name| Bundle::new(&scratch, name).running(&["sleep", "1000"]));
    let dir = &bundles[0].text();
    let [theirs, ours] = both(&scratch);
    let compare = |args: &[&str]| {
        let (theirs, ours) = (theirs.run(args), ours.run(args));
        assert_eq!(ours.code, theirs.code, "{ours}\n{theirs}");
        let core = core_of(&theirs.err);
        assert!(
            ours.err.contains(&core),
            "{core:?} is what runc says:\n{ours}"
        );
    };
    for args in [
        &["state", "none"],
        &["start", "none"],
        &["delete", "none"],
        &["kill", "none"],
    ] {
        compare(args);
    }
    compare(&["delete", "--force", "none"]);
    compare(&["create", "--bundle", dir, "../escape"]);
    for (runtime, bundle) in [&theirs, &ours].into_iter().zip(&bundles) {
        runtime.create(bundle, "c1");
    }
    compare(&["create", "--bundle", dir, "c1"]);
    for runtime in [&theirs, &ours] {
        runtime.run(&["start", "c1"]).ok();
    }
    compare(&["start", "c1"]);
    compare(&["delete", "c1"]);
    for runtime in [&theirs, &ours] {
        runtime.run(&["kill", "c1", "9"]).ok();
        runtime.until("c1", "stopped");
    }
    compare(&["kill", "c1", "KILL"]);
    compare(&["exec", "c1", "true"]);
    for runtime in [&theirs, &ours] {
        runtime.run(&["delete", "c1"]).ok();
    }
}

#[test]
fn list_has_the_same_table_and_json() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    let mut answers = Vec::new();
    for runtime in both(&scratch) {
        // Newer runcs refuse a state directory that was never made.
        std::fs::create_dir_all(&runtime.root).unwrap();
        let empty = runtime.run(&["list"]).ok();
        runtime.create(&bundle, "c1");
        let table = runtime.run(&["list"]).ok();
        let row: Vec<String> = table
            .lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let heading: Vec<String> = table
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let json: Value =
            serde_json::from_str(&runtime.run(&["list", "--format", "json"]).ok()).unwrap();
        let keys: Vec<String> = json[0].as_object().unwrap().keys().cloned().collect();
        runtime.run(&["delete", "--force", "c1"]).ok();
        answers.push((
            empty
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            heading,
            [
                row[0].clone(),
                row[2].clone(),
                row[3].clone(),
                row[5].clone(),
            ],
            keys,
            (
                json[0]["id"].clone(),
                json[0]["status"].clone(),
                json[0]["owner"].clone(),
            ),
        ));
    }
    assert_eq!(answers[0], answers[1]);
}

/// Prints what a process can see of its confinement. Of a masked file and of
/// the directory above the v1 hierarchies only the place is compared: runc
/// masks with the container's /dev/null where we take the host's, and leaves
/// that directory writable where we do not.
const FACTS: &str = "id; pwd; hostname; env | sort; ulimit -n; umask
    grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
    ls /dev; ls -ld /dev/null /dev/ptmx /dev/shm /dev/fd /dev/stdin | awk '{print $1, $NF}'
    awk '{print $5, ($5 ~ LENIENT ? \"\" : $6)}' LENIENT='^(/proc/(keys|timer_list)|/sys/fs/cgroup)$' /proc/self/mountinfo | sort
    ls /sys/class/net; cat /proc/sys/kernel/hostname; ls /proc/self/ns
    cat /proc/self/oom_score_adj; tr '\\0' ' ' < /proc/1/cmdline | head -c 5";

#[test]
fn a_process_sees_the_same_world() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", FACTS]);
    let dir = &bundle.text();
    let [theirs, ours] =
        both(&scratch).map(|runtime| runtime.run(&["run", "--bundle", dir, "c1"]).ok());
    assert!(theirs.contains("uid=0"), "{theirs}");
    assert_eq!(ours, theirs);
}

#[test]
fn run_ends_with_the_exit_code_of_the_process() {
    let scratch = Scratch::new();
    let ours = Runtime::ours(&scratch);
    for (script, code) in [
        ("exit 0", 0),
        ("exit 77", 77),
        ("kill -TERM $$; sleep 9", 143),
    ] {
        // PID 1 ignores signals without a handler, so the shell is not it.
        let bundle = Bundle::new(&scratch, "b").running(&[
            "sh",
            "-c",
            &format!("sh -c '{script}'; exit $?"),
        ]);
        ours.run(&["run", "--bundle", &bundle.text(), "c1"])
            .exits(code);
        fs::remove_dir_all(bundle.dir()).unwrap();
    }
    assert_eq!(ours.run(&["list", "-q"]).ok(), "");
}

#[test]
fn exec_joins_a_running_container() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    let mut answers = Vec::new();
    for runtime in both(&scratch) {
        runtime.create(&bundle, "c1");
        runtime.run(&["start", "c1"]).ok();
        let said = runtime.run(&[
            "exec",
            "--env",
            "A=b",
            "--cwd",
            "/tmp",
            "c1",
            "sh",
            "-c",
            &format!("{FACTS}; echo $A; exit 5"),
        ]);
        answers.push((said.code, said.out));
        runtime.run(&["delete", "--force", "c1"]).ok();
    }
    assert_eq!(answers[1], answers[0]);
}

#[test]
fn limits_of_the_config_reach_the_cgroup() {
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    bundle.edit(|config| {
        config["linux"]["resources"] =
            json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 33}});
    });
    let ours = Runtime::ours(&scratch);
    ours.create(&bundle, "c1");
    let files = |names: &[&str]| -> Vec<String> {
        let all = scratch.cgroups().into_iter().flat_map(|dir| {
            names
                .iter()
                .map(move |name| dir.join(name))
                .collect::<Vec<_>>()
        });
        all.filter_map(|file| fs::read_to_string(file).ok())
            .map(|text| text.trim().to_owned())
            .collect()
    };
    assert!(files(&["memory.limit_in_bytes", "memory.max"]).contains(&"33554432".to_owned()));
    assert!(files(&["pids.max"]).contains(&"33".to_owned()));
    ours.run(&["delete", "--force", "c1"]).ok();
}

#[test]
fn a_log_file_takes_the_error_as_json() {
    let scratch = Scratch::new();
    let ours = Runtime::ours(&scratch);
    let log = scratch.path("log.json");
    let said = ours.run(&[
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "state",
        "none",
    ]);
    said.exits(1);
    let text = fs::read_to_string(log).unwrap();
    let last: Value =
        serde_json::from_str(text.lines().last().unwrap()).expect("each line is JSON");
    assert_eq!(
        (&last["level"], &last["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
}

#[test]
fn spec_writes_what_runs() {
    let scratch = Scratch::new();
    let ours = Runtime::ours(&scratch);
    let bundle = Bundle::new(&scratch, "b");
    fs::remove_file(bundle.dir().join("config.json")).unwrap();
    ours.run(&["spec", "--bundle", &bundle.text()]).ok();
    let name = scratch.name().to_owned();
    bundle.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["echo", "hello"]);
        config["linux"]["cgroupsPath"] = json!(format!("/{name}/b"));
    });
    assert_eq!(
        ours.run(&["run", "--bundle", &bundle.text(), "c1"]).ok(),
        "hello\n"
    );
}
