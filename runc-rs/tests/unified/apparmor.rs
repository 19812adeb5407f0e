//! Programs confined by AppArmor.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, contains, text};
use crate::inside;

/// A profile in the kernel for as long as a test takes.
struct Profile(String);

impl Profile {
    fn load(name: &str) -> Self {
        let profile = Self(name.to_owned());
        profile.parser("-r");
        profile
    }

    fn parser(&self, how: &str) {
        let mut parser = Command::new("apparmor_parser")
            .args([how, "--skip-cache"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{
                file, capability, network, signal, mount, umount, pivot_root, ptrace, unix,
                deny /secret rw,
            }}\n",
            self.0
        );
        let mut input = parser.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        assert!(parser.wait().unwrap().success());
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("-R");
    }
}

#[test]
fn the_profile_of_the_config_confines_the_program_and_each_exec() {
    let profile = Profile::load("runc-rs-test-confined");
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["process"]["apparmorProfile"] = json!(profile.0);
    std::fs::write(bundle.dir.path().join("rootfs/secret"), "x").unwrap();
    bundle.start();
    let pid = bundle.state()["pid"].to_string();
    let label = std::fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap();
    assert_eq!(label.trim(), "runc-rs-test-confined (enforce)");
    assert_eq!(
        inside(&bundle, "cat /proc/self/attr/apparmor/current"),
        "runc-rs-test-confined (enforce)"
    );
    contains(
        &inside(&bundle, "cat /secret 2>&1 || true"),
        "ermission denied",
    );
    // The profile refuses, not the file's mode.
    let other = Profile::load("runc-rs-test-other");
    let out = bundle.call(&[
        "exec",
        "--apparmor",
        &other.0,
        &bundle.id,
        "cat",
        "/proc/self/attr/apparmor/current",
    ]);
    assert_eq!(text(&out.stdout).trim(), "runc-rs-test-other (enforce)");
    drop(bundle);
}

#[test]
fn a_profile_that_is_not_loaded_is_refused() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["apparmorProfile"] = json!("runc-rs-test-nowhere");
    contains(&bundle.complaint(), "runc-rs-test-nowhere");
}
