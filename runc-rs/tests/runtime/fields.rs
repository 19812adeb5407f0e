//! Fields that are easily accepted and forgotten: each works, is refused, or is warned about.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};

#[test]
fn memory_comes_from_the_nodes_of_the_policy() {
    let mut bundle = Bundle::new("cat /proc/self/numa_maps");
    bundle.config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    contains(&bundle.prints(), "bind=static:0");
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_DEFAULT"});
    contains(&bundle.prints(), " default ");
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1-0"});
    contains(&bundle.complaint(), "/linux/memoryPolicy/nodes");
}

#[test]
fn an_exec_runs_on_the_processors_of_its_final_affinity() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    let mut process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        "args": ["grep", "Cpus_allowed_list", "/proc/self/status"],
        "execCPUAffinity": {"initial": "0", "final": "0"}});
    let exec = |process: &serde_json::Value| {
        std::fs::write(bundle.dir.path().join("p.json"), process.to_string()).unwrap();
        bundle.call(&["exec", "-p", "p.json", &bundle.id])
    };
    assert_eq!(text(&exec(&process).stdout), "Cpus_allowed_list:\t0\n");
    process["execCPUAffinity"]["final"] = json!("none");
    contains(&text(&exec(&process).stderr), "execCPUAffinity");
}

#[test]
fn what_would_be_ignored_is_refused() {
    for (field, value, words) in [
        (
            "intelRdt",
            json!({"closID": "x"}),
            "Intel RDT is not enabled",
        ),
        (
            "mountLabel",
            json!("system_u:object_r:container_file_t:s0"),
            "selinux is disabled or not supported",
        ),
    ] {
        let mut bundle = Bundle::new("");
        bundle.config["linux"][field] = value;
        contains(&bundle.complaint(), words);
    }
}

#[test]
fn a_label_where_there_is_no_selinux_is_refused_in_runcs_words() {
    let words = "selinux label is specified in config, but selinux is disabled or not supported";
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    contains(&bundle.complaint(), words);
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    let out = bundle.call(&[
        "exec",
        "--process-label",
        "a_u:a_r:a_t:s0",
        &bundle.id,
        "true",
    ]);
    assert_eq!(out.status.code(), Some(255));
    contains(&text(&out.stderr), words);
}

/// The caller's keyring may hold what opens the host's disks.
#[test]
fn an_exec_has_the_containers_session_keyring_and_not_its_callers() {
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.start();
    let rings = |runtime: &mut std::process::Command| {
        let out = runtime.output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let id = bundle.id.as_str();
    let seen = rings(&mut bundle.command(RUNTIME, &["exec", id, "cat", "/proc/keys"]));
    contains(&seen, &format!("_ses.{id}"));
    let kept = Bundle::new("exec sleep 100");
    kept.save();
    let mut unmasked = kept.config.clone();
    unmasked["linux"]["maskedPaths"] = json!([]);
    std::fs::write(kept.dir.path().join("config.json"), unmasked.to_string()).unwrap();
    let id = kept.id.as_str();
    let mut create = kept.command(RUNTIME, &["create", "--no-new-keyring", id]);
    let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    let seen = rings(&mut kept.command(RUNTIME, &["exec", id, "cat", "/proc/keys"]));
    assert!(!seen.contains(&format!("_ses.{id}")), "{seen}");
}

#[test]
fn flags_of_a_personality_are_warned_about() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["personality"] =
        json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
    let out = bundle.run();
    assert!(out.status.success());
    contains(
        &text(&out.stderr),
        "ignoring unsupported personality flags: ADDR_NO_RANDOMIZE",
    );
}

#[test]
fn a_pidfd_of_the_process_is_sent_where_asked() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.save();
    let path = bundle.dir.path().join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    let receive = |args: &[&str], word: &str| {
        let mut child = bundle.command(RUNTIME, args).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut name = [0; 64];
        let (len, mut fds) = kernel::scm::recv(stream.as_fd(), &mut name, 1).unwrap();
        assert_eq!(text(&name[..len]), word);
        let pidfd = fds.pop().unwrap();
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        assert!(child.wait().unwrap().success());
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        pid.unwrap().trim().to_owned()
    };
    let pid = receive(&["create", "--pidfd-socket", path, &bundle.id], "standard");
    assert_eq!(bundle.state()["pid"].to_string(), pid);
    assert!(bundle.call(&["start", &bundle.id]).status.success());
    let exec = receive(
        &["exec", "--pidfd-socket", path, &bundle.id, "true"],
        "setns",
    );
    assert_ne!(exec, pid);
}
