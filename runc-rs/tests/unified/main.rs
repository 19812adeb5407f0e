//! The runtime where there is one cgroup hierarchy, systemd and AppArmor: in the virtual machine of tests/vm.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its case has failed"
)]

mod apparmor;
#[expect(
    dead_code,
    reason = "what the bundle of the other suite can do is not all needed here"
)]
#[path = "../runtime/bundle.rs"]
mod bundle;
mod delegation;
mod limits;
mod places;
mod systemd;

use std::path::{Path, PathBuf};

use bundle::Bundle;

/// The one directory of a container's cgroup.
fn group(bundle: &Bundle) -> PathBuf {
    let groups = bundle.cgroups();
    assert_eq!(groups.len(), 1, "{groups:?}");
    groups[0].clone()
}

#[track_caller]
fn value(group: &Path, file: &str) -> String {
    let file = group.join(file);
    std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        .trim()
        .to_owned()
}

/// What an exec prints, which must succeed.
#[track_caller]
fn inside(bundle: &Bundle, script: &str) -> String {
    let out = bundle.call(&["exec", &bundle.id, "sh", "-c", script]);
    assert!(
        out.status.success(),
        "{script}: {}",
        bundle::text(&out.stderr)
    );
    bundle::text(&out.stdout).trim().to_owned()
}

/// Waits for what is bound to come, as long as a busy machine may take.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
