//! What a container may use and do: limits, rights, devices and the like,
//! asked for by flags of `ctl run` and seen from inside.

use std::fs;

use serde_json::json;
use tests::command::eventually;
use tests::stack::{BUSYBOX, Stack};

/// `ctl run --rm ARGS BUSYBOX sh -c SCRIPT`
#[track_caller]
fn shell(stack: &Stack, args: &[&str], script: &str) -> String {
    stack
        .ctl(&[&["run", "--rm"], args, &[BUSYBOX, "sh", "-c", script]].concat())
        .ok()
}

/// `ctl run --rm ARGS BUSYBOX true` is refused with 125 and these words.
#[track_caller]
fn refused(stack: &Stack, args: &[&str], words: &[&str]) {
    let all = [&["run", "--rm"], args, &[BUSYBOX, "true"]].concat();
    stack.ctl(&all).exits(125).fails_naming(words);
}

/// The first of these files that there is: v1's, then v2's.
fn cgroup(files: &str) -> String {
    format!(
        "for f in {files}; do if [ -e /sys/fs/cgroup/$f ]; then cat /sys/fs/cgroup/$f; break; fi; done"
    )
}

#[test]
fn memory_cpu_and_process_limits_hold() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["-m", "64m"],
        &cgroup("memory/memory.limit_in_bytes memory.max"),
    );
    assert_eq!(said, "67108864\n");
    let said = shell(
        &stack,
        &["--cpus", "0.5"],
        &cgroup("cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us cpu.max"),
    );
    assert!(said.starts_with("50000"), "{said}");
    let said = shell(
        &stack,
        &["--pids-limit", "33"],
        &cgroup("pids/pids.max pids.max"),
    );
    assert_eq!(said, "33\n");
    let said = shell(
        &stack,
        &["--cpuset-cpus", "0"],
        "grep Cpus_allowed_list /proc/self/status",
    );
    assert_eq!(said, "Cpus_allowed_list:\t0\n");
    refused(
        &stack,
        &["-m", "1m"],
        &["Minimum memory limit allowed is 6MB"],
    );
    refused(
        &stack,
        &["--cpus", "1000"],
        &["range of CPUs is from 0.01 to"],
    );
    let said = stack.ctl(&["run", "-m", "lots", BUSYBOX]).exits(125);
    let words = "invalid argument \"lots\" for \"-m, --memory\" flag";
    assert!(said.err.starts_with(words), "{}", said.err);
    stack
        .ctl(&[
            "create",
            "--name",
            "c1",
            "-m",
            "64m",
            "--cpus",
            "1.5",
            "--pids-limit",
            "5",
            BUSYBOX,
            "true",
        ])
        .ok();
    assert_eq!(stack.inspect("c1", "/HostConfig/Memory"), 64 << 20);
    assert_eq!(stack.inspect("c1", "/HostConfig/MemorySwap"), 128 << 20);
    assert_eq!(stack.inspect("c1", "/HostConfig/NanoCpus"), 1_500_000_000);
    assert_eq!(stack.inspect("c1", "/HostConfig/PidsLimit"), 5);
}

#[test]
fn a_container_that_ran_out_of_memory_says_so() {
    let stack = Stack::with_busybox();
    // tail keeps all of a line that never ends.
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            "-m",
            "16m",
            BUSYBOX,
            "sh",
            "-c",
            "tail /dev/zero",
        ])
        .exits(137);
    eventually("the mark of the kernel's kill", || {
        (stack.inspect("c1", "/State/OOMKilled") == true).then_some(())
    });
    stack
        .ctl(&["run", "--name", "d1", "-m", "16m", BUSYBOX, "true"])
        .ok();
    assert_eq!(stack.inspect("d1", "/State/OOMKilled"), false);
}

#[test]
fn ulimits_and_shm_and_sysctls() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--ulimit", "nofile=100:200"],
        "ulimit -Sn; ulimit -Hn",
    );
    assert_eq!(said, "100\n200\n");
    let said = shell(
        &stack,
        &["--shm-size", "8m"],
        "grep ' /dev/shm ' /proc/mounts",
    );
    assert!(said.contains("size=8192k"), "{said}");
    let said = shell(
        &stack,
        &["--sysctl", "net.ipv4.ip_local_port_range=2000 3000"],
        "cat /proc/sys/net/ipv4/ip_local_port_range",
    );
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["2000", "3000"]
    );
    refused(
        &stack,
        &["--ulimit", "bogus=1"],
        &["invalid ulimit type: bogus"],
    );
}

#[test]
fn capabilities_are_added_and_dropped() {
    let stack = Stack::with_busybox();
    let held = |args: &[&str]| {
        let text = shell(&stack, args, "grep CapBnd /proc/self/status");
        u64::from_str_radix(text.trim().trim_start_matches("CapBnd:").trim(), 16).unwrap()
    };
    let plain = held(&[]);
    assert_eq!(plain, 0xa804_25fb);
    assert_eq!(held(&["--cap-add", "NET_ADMIN"]), plain | 1 << 12);
    assert_eq!(held(&["--cap-drop", "chown"]), plain & !1);
    assert_eq!(
        held(&["--cap-drop", "ALL", "--cap-add", "CAP_KILL"]),
        1 << 5
    );
    let all = held(&["--privileged"]);
    assert_eq!(all & plain, plain);
    assert_ne!(all & 1 << 21, 0, "CAP_SYS_ADMIN");
    refused(
        &stack,
        &["--cap-add", "FLY"],
        &["unknown capability", "CAP_FLY"],
    );
}

#[test]
fn privileged_containers_see_devices_and_write_to_sys() {
    let stack = Stack::with_busybox();
    let script = "grep -c ' /sys sysfs ro' /proc/mounts; grep Seccomp: /proc/self/status; test -e /dev/kmsg && echo device; true";
    assert_eq!(shell(&stack, &[], script), "1\nSeccomp:\t2\n");
    let said = stack
        .ctl(&["run", "--rm", "--privileged", BUSYBOX, "sh", "-c", script])
        .out;
    assert_eq!(said, "0\nSeccomp:\t0\ndevice\n");
    // A process that joins a container later.
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])
        .ok();
    let bounding = |args: &[&str]| {
        let all = [
            &["exec"],
            args,
            &["c1", "grep", "CapBnd", "/proc/self/status"],
        ]
        .concat();
        stack.ctl(&all).ok()
    };
    assert!(bounding(&[]).contains("a80425fb"));
    assert!(bounding(&["--privileged"]).contains("1ff"));
}

#[test]
fn security_options_reach_the_process() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--security-opt", "no-new-privileges"],
        "grep NoNewPrivs /proc/self/status",
    );
    assert_eq!(said, "NoNewPrivs:\t1\n");
    let said = shell(
        &stack,
        &["--security-opt", "seccomp=unconfined"],
        "grep Seccomp: /proc/self/status",
    );
    assert_eq!(said, "Seccomp:\t0\n");
    let profile = stack.scratch().path("profile.json");
    let rules = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    fs::write(&profile, rules.to_string()).unwrap();
    let option = format!("seccomp={}", profile.display());
    let said = shell(
        &stack,
        &["--security-opt", &option],
        "mkdir /x 2>/dev/null || echo refused",
    );
    assert_eq!(said, "refused\n");
    let said = shell(
        &stack,
        &["--security-opt", "systempaths=unconfined"],
        "grep -c '/proc/kcore' /proc/mounts || true",
    );
    assert_eq!(said, "0\n");
    refused(
        &stack,
        &["--security-opt", "bogus"],
        &["invalid --security-opt", "bogus"],
    );
}

#[test]
fn the_root_file_system_can_be_read_only() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--read-only", "--tmpfs", "/tmp", "-v", "data:/d"],
        "touch /x 2>/dev/null || echo refused; touch /tmp/x /d/x && echo written",
    );
    assert_eq!(said, "refused\nwritten\n");
}

#[test]
fn devices_of_the_host() {
    let stack = Stack::with_busybox();
    let script = "test -c /dev/there && dd if=/dev/there of=/dev/null bs=1 count=1 2>/dev/null && echo read; stat -c '%t %T' /dev/there";
    let said = shell(&stack, &["--device", "/dev/zero:/dev/there:r"], script);
    assert_eq!(said, "read\n1 5\n");
    refused(
        &stack,
        &["--device", "/dev/nothing-here"],
        &["/dev/nothing-here"],
    );
}

#[test]
fn namespaces_of_the_host_and_of_others() {
    let stack = Stack::with_busybox();
    let inside = |args: &[&str], kind: &str| {
        shell(&stack, args, &format!("readlink /proc/self/ns/{kind}"))
            .trim()
            .to_owned()
    };
    let host = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    };
    assert_ne!(inside(&[], "pid"), host("pid"));
    assert_eq!(inside(&["--pid", "host"], "pid"), host("pid"));
    assert_eq!(inside(&["--ipc", "host"], "ipc"), host("ipc"));
    assert_eq!(inside(&["--uts", "host"], "uts"), host("uts"));
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])
        .ok();
    let own = stack
        .ctl(&["exec", "c1", "readlink", "/proc/self/ns/pid"])
        .ok();
    assert_eq!(inside(&["--pid", "container:c1"], "pid"), own.trim());
    refused(&stack, &["--pid", "bogus"], &["invalid PID mode: bogus"]);
}

#[test]
fn groups_hostname_and_labels_of_files() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--group-add", "extra", "--group-add", "77"],
        "id -G",
    );
    let groups: std::collections::BTreeSet<&str> = said.split_whitespace().collect();
    assert_eq!(groups, ["0", "2000", "77"].into());
    let said = shell(
        &stack,
        &["-h", "box", "--domainname", "example.org"],
        "hostname; cat /proc/sys/kernel/domainname",
    );
    assert_eq!(said, "box\nexample.org\n");
    let file = stack.scratch().path("labels");
    fs::write(&file, "# no label\na=1\nb=2\n").unwrap();
    stack
        .ctl(&[
            "create",
            "--name",
            "c1",
            "--label-file",
            &file.display().to_string(),
            "-l",
            "b=3",
            BUSYBOX,
            "true",
        ])
        .ok();
    assert_eq!(
        stack.inspect("c1", "/Config/Labels"),
        json!({"a": "1", "b": "3"})
    );
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--init"],
        "cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline",
    );
    assert!(said.starts_with("docker-init\n"), "{said}");
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--init",
            BUSYBOX,
            "sh",
            "-c",
            "(sleep 0.1 &); exec sleep 1000",
        ])
        .ok();
    eventually("the orphan to be reaped", || {
        let ps = stack.ctl(&["exec", "c1", "ps", "-o", "stat,comm"]).ok();
        (ps.contains("sleep") && !ps.contains('Z')).then_some(())
    });
    stack.ctl(&["stop", "c1"]).ok();
    assert_eq!(stack.inspect("c1", "/State/ExitCode"), 143);
    stack
        .ctl(&["run", "--rm", "--init", BUSYBOX, "sh", "-c", "exit 7"])
        .exits(7);
    stack
        .ctl(&["run", "--rm", "--init", BUSYBOX, "nothing-here"])
        .exits(127);
}

#[test]
fn logs_can_be_off_and_small() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "off",
            "--log-driver",
            "none",
            BUSYBOX,
            "echo",
            "x",
        ])
        .ok();
    assert_eq!(stack.ctl(&["logs", "off"]).out, "");
    stack
        .ctl(&[
            "run",
            "--name",
            "small",
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=2",
            BUSYBOX,
            "seq",
            "1",
            "20000",
        ])
        .ok();
    let log = stack.inspect("small", "/LogPath");
    let dir = std::path::Path::new(log.as_str().unwrap())
        .parent()
        .unwrap()
        .to_owned();
    let logs: Vec<u64> = fs::read_dir(dir)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("-json.log"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert_eq!(logs.len(), 2);
    assert!(logs.iter().all(|length| *length < 12_000), "{logs:?}");
    refused(
        &stack,
        &["--log-driver", "bogus"],
        &["bogus", "no log driver"],
    );
    refused(
        &stack,
        &["--log-opt", "bogus=1"],
        &["unknown log opt 'bogus'"],
    );
}
