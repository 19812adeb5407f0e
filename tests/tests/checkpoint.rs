//! Containers saved by `checkpoint` and brought back by `restore`, with a real criu.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::command::{self, Said, eventually, wait};
use tests::need::{self, Need};
use tests::pty::Pty;
use tests::repository;
use tests::scratch::Scratch;

/// Counts the lines it gets, in memory only.
const COUNTER: &str = "n=0; while read x; do n=$((n+1)); echo \"$x $n\"; done";

/// A runtime that finds the criu that works here, with a root of its own.
struct Runtime {
    program: PathBuf,
    root: PathBuf,
    path: String,
}

impl Runtime {
    fn new(program: PathBuf, root: PathBuf) -> Self {
        let criu = need::criu().expect("criu was looked for before");
        let dir = criu.parent().expect("criu is in a directory").display();
        let path = format!("{dir}:{}", std::env::var("PATH").unwrap_or_default());
        Self {
            program,
            root,
            path,
        }
    }

    fn ours(scratch: &Scratch) -> Self {
        Self::new(repository::program("runc-rs"), scratch.path("ours"))
    }

    fn theirs(scratch: &Scratch) -> Self {
        let runc = need::on_path("runc").expect("runc is installed");
        Self::new(runc, scratch.path("theirs"))
    }

    fn command(&self, bundle: &Bundle, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(args);
        command.env("PATH", &self.path).current_dir(bundle.dir());
        command
    }

    #[track_caller]
    fn call(&self, bundle: &Bundle, args: &[&str]) -> Said {
        command::run(&mut self.command(bundle, args))
    }

    /// A command that leaves a container behind, with pipes for its standard input and output.
    #[track_caller]
    fn leave(&self, bundle: &Bundle, args: &[&str]) -> Streams {
        let mut command = self.command(bundle, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let mut child = command.spawn().expect("the runtime can be run");
        let streams = Streams {
            stdin: child.stdin.take().expect("stdin is a pipe"),
            stdout: BufReader::new(child.stdout.take().expect("stdout is a pipe")),
        };
        let status = wait(&mut child, command::DEADLINE).expect("it ends");
        assert!(status.success(), "{args:?}: {}", self.log(bundle));
        streams
    }

    /// What criu complained of last.
    fn log(&self, bundle: &Bundle) -> String {
        let read = |name: &str| {
            let file = bundle.dir().join("work").join(name);
            fs::read_to_string(file).unwrap_or_default()
        };
        [read("dump.log"), read("restore.log")]
            .concat()
            .lines()
            .filter(|line| line.contains("Error"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[track_caller]
    fn state(&self, bundle: &Bundle, id: &str) -> Value {
        let text = self.call(bundle, &["state", id]).ok();
        serde_json::from_str(&text).expect("state prints JSON")
    }

    #[track_caller]
    fn save(&self, bundle: &Bundle, id: &str, more: &[&str]) {
        let args = [&["checkpoint", "--work-path", "work"], more, &[id]].concat();
        self.call(bundle, &args).ok();
    }
}

/// A container's standard input and output.
struct Streams {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Streams {
    #[track_caller]
    fn ask(&mut self, word: &str) -> String {
        writeln!(self.stdin, "{word}").expect("the container reads");
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the container answers");
        line
    }
}

const RESTORE: [&str; 4] = ["restore", "--detach", "--work-path", "work"];

fn restore<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RESTORE[..], more].concat()
}

#[test]
fn a_container_goes_on_where_it_was_saved() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", COUNTER]);
    let ours = Runtime::ours(&scratch);
    let mut streams = ours.leave(&bundle, &["run", "--detach", "c1"]);
    assert_eq!(streams.ask("first"), "first 1\n");
    for count in 2..4 {
        ours.save(&bundle, "c1", &[]);
        assert_eq!(ours.call(&bundle, &["list", "-q"]).ok(), "");
        assert_eq!(scratch.litter_that_stays(), Vec::<String>::new());
        streams = ours.leave(&bundle, &restore(&["--pid-file", "pid", "c1"]));
        assert_eq!(streams.ask("next"), format!("next {count}\n"));
        let state = ours.state(&bundle, "c1");
        assert_eq!(state["status"], "running");
        let pid = fs::read_to_string(bundle.dir().join("pid")).expect("the pid file is written");
        assert_eq!(state["pid"].to_string(), pid);
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        assert!(
            groups.contains(&format!("/{}/b", scratch.name())),
            "{groups}"
        );
        assert_eq!(
            ours.call(&bundle, &["exec", "c1", "echo", "in"]).ok(),
            "in\n"
        );
        ours.call(&bundle, &["pause", "c1"]).ok();
        ours.call(&bundle, &["resume", "c1"]).ok();
    }
    drop(streams.stdin);
    let mut rest = String::new();
    streams.stdout.read_to_string(&mut rest).expect("it ends");
    ours.call(&bundle, &["delete", "--force", "c1"]).ok();
}

/// Images, and what lies beside them, are the same on both sides.
#[test]
fn what_runc_saves_is_restored_and_the_other_way_round() {
    if need::skip(&[Need::Criu, Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", COUNTER]);
    let (theirs, ours) = (Runtime::theirs(&scratch), Runtime::ours(&scratch));
    let mut streams = theirs.leave(&bundle, &["run", "--detach", "c1"]);
    assert_eq!(streams.ask("theirs"), "theirs 1\n");
    for (count, from, to) in [(2, &theirs, &ours), (3, &ours, &theirs)] {
        from.save(&bundle, "c1", &[]);
        streams = to.leave(&bundle, &restore(&["c1"]));
        assert_eq!(streams.ask("x"), format!("x {count}\n"));
    }
    theirs.call(&bundle, &["delete", "--force", "c1"]).ok();
}

#[test]
fn a_restore_in_the_foreground_ends_as_the_container_does() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let script = "read x; echo got $x; exit 7";
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", script]);
    let ours = Runtime::ours(&scratch);
    let _streams = ours.leave(&bundle, &["run", "--detach", "c1"]);
    ours.save(&bundle, "c1", &["--image-path", "elsewhere"]);
    let args = ["restore", "--image-path", "elsewhere", "c1"];
    let said = command::run_with_input(&mut ours.command(&bundle, &args), b"it\n");
    assert_eq!(said.exits(7).out, "got it\n");
    assert_eq!(ours.call(&bundle, &["list", "-q"]).ok(), "");
}

#[test]
fn a_container_left_running_can_be_restored_beside_itself() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", COUNTER]);
    let ours = Runtime::ours(&scratch);
    let mut first = ours.leave(&bundle, &["run", "--detach", "c1"]);
    assert_eq!(first.ask("a"), "a 1\n");
    let ignore = ["--manage-cgroups-mode", "ignore"];
    ours.save(&bundle, "c1", &["--leave-running", ignore[0], ignore[1]]);
    assert_eq!(first.ask("b"), "b 2\n");
    assert_eq!(ours.state(&bundle, "c1")["status"], "running");
    let name = scratch.name().to_owned();
    bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{name}/second")));
    let mut second = ours.leave(&bundle, &restore(&[ignore[0], ignore[1], "c2"]));
    assert_eq!(second.ask("c"), "c 2\n");
    let pid = ours.state(&bundle, "c2")["pid"].to_string();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    assert!(
        groups.contains("/second") && !groups.contains("/b"),
        "{groups}"
    );
    for id in ["c1", "c2"] {
        ours.call(&bundle, &["delete", "--force", id]).ok();
    }
}

/// In the foreground the runtime itself has the terminal; `--console-socket` is tested beside the runtime.
#[test]
fn a_terminal_is_there_again() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", COUNTER]);
    bundle.edit(|config| config["process"]["terminal"] = json!(true));
    let ours = Runtime::ours(&scratch);
    let dir = bundle.text();
    let images = scratch.text("images");
    let mut run = Pty::spawn(
        &ours.command(&bundle, &["run", "--bundle", &dir, "c1"]),
        24,
        80,
    );
    run.send(b"go\r");
    run.expect("go 1");
    ours.save(&bundle, "c1", &["--image-path", &images]);
    assert_eq!(run.wait(), 137);
    let args = ["restore", "--bundle", &dir, "--image-path", &images, "c1"];
    let mut restored = Pty::spawn(&ours.command(&bundle, &args), 24, 80);
    restored.send(b"go\r");
    restored.expect("go 2");
    // End of input ends the loop.
    restored.send(b"\x04");
    assert_eq!(restored.wait(), 0);
}

#[test]
fn mounts_from_outside_come_from_the_bundle_again() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    let dir = bundle.dir().to_owned();
    for name in ["one", "two", "rootfs/real/conf"] {
        fs::create_dir_all(dir.join(name)).expect("a directory can be made");
    }
    symlink("/real/conf", dir.join("rootfs/conf")).expect("a link can be made");
    fs::write(dir.join("file"), "from outside").expect("a file can be written");
    let bind =
        |source: &str, at: &str| json!({"source": source, "destination": at, "options": ["bind"]});
    bundle.edit(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts is a list");
        mounts.push(bind("one", "/data"));
        mounts.push(bind("two", "/data/below/nested"));
        mounts.push(bind("file", "/conf/file"));
        // Without a namespace of their own, cgroups are bind mounts too.
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("namespaces is a list")
            .retain(|n| n["type"] != "cgroup");
    });
    let ours = Runtime::ours(&scratch);
    let _streams = ours.leave(&bundle, &["run", "--detach", "c1"]);
    ours.save(&bundle, "c1", &[]);
    // What creating the container made for the mounts below is made again.
    fs::remove_dir_all(dir.join("one/below")).expect("the nested place was there");
    fs::write(dir.join("two/new"), "since").expect("a file can be written");
    let _streams = ours.leave(&bundle, &restore(&["c1"]));
    let read = |path: &str| ours.call(&bundle, &["exec", "c1", "cat", path]).ok();
    assert_eq!(read("/real/conf/file"), "from outside");
    assert_eq!(read("/data/below/nested/new"), "since");
    assert_eq!(read("/proc/keys"), "", "masked files stay masked");
    let mounts = read("/proc/self/mountinfo");
    assert!(mounts.contains(" /sys/fs/cgroup"), "{mounts}");
    assert!(!mounts.contains("criu-root"), "{mounts}");
    ours.call(&bundle, &["delete", "--force", "c1"]).ok();
}

#[test]
fn a_network_namespace_of_others_is_found_again() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    // A process of its own holds the namespace; it goes with the test.
    let mut holder = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .env("HOLDER", scratch.name())
        .spawn()
        .expect("unshare can be run");
    let path = format!("/proc/{}/ns/net", holder.id());
    let inode = |path: &str| fs::metadata(path).map(|m| m.ino()).ok();
    eventually("a namespace of its own", || {
        (inode(&path) != inode("/proc/self/ns/net")).then_some(())
    });
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat > hook.json"]});
    bundle.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.expect("namespaces is a list") {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
        config["hooks"] = json!({"createRuntime": [hook]});
    });
    let ours = Runtime::ours(&scratch);
    let _streams = ours.leave(&bundle, &["run", "--detach", "c1"]);
    ours.save(&bundle, "c1", &[]);
    fs::remove_file(bundle.dir().join("hook.json")).expect("the hook ran at the start");
    let _streams = ours.leave(&bundle, &restore(&["c1"]));
    let pid = &ours.state(&bundle, "c1")["pid"];
    assert_eq!(inode(&format!("/proc/{pid}/ns/net")), inode(&path));
    let told = fs::read(bundle.dir().join("hook.json")).expect("the hook ran at the restore");
    let told: Value = serde_json::from_slice(&told).expect("hooks get JSON");
    assert_eq!((&told["id"], &told["pid"]), (&json!("c1"), pid));
    ours.call(&bundle, &["delete", "--force", "c1"]).ok();
    holder
        .kill()
        .and_then(|()| holder.wait())
        .expect("it can be ended");
}

#[test]
fn a_hook_that_fails_undoes_the_restore() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    let ours = Runtime::ours(&scratch);
    let _streams = ours.leave(&bundle, &["run", "--detach", "c1"]);
    ours.save(&bundle, "c1", &[]);
    bundle.edit(|config| {
        config["hooks"] =
            json!({"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 4"]}]});
    });
    let said = ours.call(&bundle, &restore(&["c1"])).exits(1);
    assert!(
        said.err
            .contains("error running prestart hook #0: exit status 4"),
        "{said}"
    );
    assert_eq!(scratch.litter_that_stays(), Vec::<String>::new());
    assert_eq!(ours.call(&bundle, &["list", "-q"]).ok(), "");
}

#[test]
fn what_cannot_be_saved_is_said_and_goes_on() {
    if need::skip(&[Need::Criu]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sh", "-c", COUNTER]);
    let ours = Runtime::ours(&scratch);
    let mut streams = ours.leave(&bundle, &["create", "c1"]);
    let refused = |args: &[&str], words: &str| {
        let said = ours.call(&bundle, args).exits(1);
        assert!(said.err.contains(words), "{words:?}: {said}");
    };
    refused(
        &["checkpoint", "c1"],
        "Container cannot be checkpointed in created state",
    );
    refused(&["checkpoint", "none"], "container does not exist");
    ours.call(&bundle, &["start", "c1"]).ok();
    refused(
        &["checkpoint", "--parent-path", "/p", "c1"],
        "--parent-path",
    );
    refused(&["checkpoint", "--parent-path", "p", "c1"], "--parent-path");
    refused(
        &["checkpoint", "--manage-cgroups-mode", "x", "c1"],
        "invalid manage-cgroups-mode value",
    );
    refused(
        &["checkpoint", "--empty-ns", "ipc", "c1"],
        "is not supported",
    );
    refused(&["checkpoint", "--page-server", "x", "c1"], "ADDRESS:PORT");
    refused(
        &["restore", "--detach", "c1"],
        "container with given ID already exists",
    );
    refused(
        &["--criu", "/bin/true", "checkpoint", "c1"],
        "CRIU version check failed",
    );
    refused(
        &["--criu", "/no/criu", "checkpoint", "c1"],
        "start /no/criu: exec: no such file or directory",
    );
    assert_eq!(streams.ask("still"), "still 1\n");
    ours.call(&bundle, &["delete", "--force", "c1"]).ok();
    // A socket whose other end is outside is what criu does not save unasked.
    let (_outside, inside) = UnixStream::pair().expect("sockets can be made");
    let mut run = ours.command(&bundle, &["run", "--detach", "c1"]);
    let run = run.stdin(OwnedFd::from(inside)).stdout(Stdio::null());
    let status = run.stderr(Stdio::null()).status();
    assert!(status.expect("the runtime can be run").success());
    refused(
        &["checkpoint", "--work-path", "work", "c1"],
        "criu failed: type DUMP",
    );
    assert_eq!(ours.state(&bundle, "c1")["status"], "running");
    ours.call(&bundle, &["delete", "--force", "c1"]).ok();
    refused(
        &["restore", "--detach", "--image-path", "none", "c2"],
        "open none",
    );
}
