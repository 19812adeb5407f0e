//! What `make run` shows, with the programs of this build.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::command::{self, eventually};
use tests::repository;
use tests::scratch::{Scratch, cgroup_roots};

/// The demo, with its own directory inside the test's.
fn demo(scratch: &Scratch) -> Command {
    let mut command = Command::new(repository::root().join("tests/demo/run.sh"));
    command
        .arg(repository::bin_dir())
        .env("TMPDIR", scratch.dir());
    command
}

#[test]
fn it_runs_a_container_and_cleans_up_twice() {
    let scratch = Scratch::new();
    for _ in 0..2 {
        let said = command::run(&mut demo(&scratch)).ok();
        assert!(said.contains("Hello from a container"), "{said}");
        assert!(said.contains("Exited (0)"), "ps -a: {said}");
        let logs = said.split("logs demo\n").nth(1).expect("ctl logs is shown");
        assert!(logs.contains("Hello from a container"), "{said}");
        assert_eq!(
            fs::read_dir(scratch.dir()).unwrap().count(),
            0,
            "its directory is gone"
        );
        assert_eq!(scratch.litter(), Vec::<String>::new());
    }
}

#[test]
fn interrupted_it_cleans_up_too() {
    let scratch = Scratch::new();
    let mut demo = demo(&scratch);
    let mut demo: Child = demo
        .env("DEMO_PAUSE", "60")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a running container", || {
        let work = fs::read_dir(scratch.dir()).ok()?.flatten().next()?;
        has_containers(&work.file_name()).then_some(())
    });
    let name = fs::read_dir(scratch.dir())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGINT).unwrap();
    let status = command::wait(&mut demo, Duration::from_secs(30)).expect("the demo ends");
    assert_ne!(command::code_of(status), 0);
    assert_eq!(
        fs::read_dir(scratch.dir()).unwrap().count(),
        0,
        "its directory is gone"
    );
    assert!(!has_containers(&name));
}

/// Whether a cgroup below this parent exists in any hierarchy.
fn has_containers(parent: &OsStr) -> bool {
    let mut entries = cgroup_roots()
        .into_iter()
        .flat_map(|root| fs::read_dir(root.join(parent)).into_iter().flatten());
    entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()))
}
