//! Limits: those of a config, those of an update, and that they hold.

use serde_json::{Value, json};

use crate::bundle::{Bundle, contains, text};
use crate::{eventually, group, inside, value};

/// The device number of the root's disk, which has a queue that can be limited.
fn disk() -> (u64, u64) {
    let text = std::fs::read_to_string("/sys/block/vda/dev").unwrap();
    let (major, minor) = text.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

#[test]
fn every_controller_gets_its_limit() {
    let (major, minor) = disk();
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["linux"]["resources"] = json!({
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"},
        "memory": {"limit": 67108864, "swap": 100663296, "reservation": 33554432},
        "pids": {"limit": 30},
        "blockIO": {
            "weight": 750,
            "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1000000}],
            "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 200}]
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"memory.high": "50331648", "memory.oom.group": "1"}
    });
    bundle.start();
    let group = group(&bundle);
    let weight = if group.join("io.bfq.weight").exists() {
        ("io.bfq.weight", "default 750")
    } else {
        ("io.weight", "default 7475")
    };
    for (file, wanted) in [
        ("cpu.weight", "59"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("pids.max", "30"),
        weight,
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ] {
        assert_eq!(value(&group, file), wanted, "{file}");
    }
    let rates = value(&group, "io.max");
    assert_eq!(
        rates,
        format!("{major}:{minor} rbps=1000000 wbps=max riops=max wiops=200")
    );
}

#[test]
fn an_idle_group_is_idle_and_takes_no_weight() {
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["linux"]["resources"]["cpu"] = json!({"idle": 1, "shares": 1024});
    bundle.start();
    assert_eq!(value(&group(&bundle), "cpu.idle"), "1");
    let update = bundle.call(&["update", "--cpu-idle", "0", &bundle.id]);
    assert!(update.status.success(), "{}", text(&update.stderr));
    assert_eq!(value(&group(&bundle), "cpu.idle"), "0");
}

#[test]
fn every_flag_of_update_reaches_its_file() {
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 20000, "period": 50000});
    bundle.start();
    let group = group(&bundle);
    let update = |args: &[&str]| {
        let out = bundle.call(&[&["update"], args, &[&bundle.id]].concat());
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    };
    let is = |file: &str, wanted: &str| assert_eq!(value(&group, file), wanted, "{file}");
    update(&["--cpu-share", "2048", "--pids-limit", "0"]);
    is("cpu.weight", "174");
    is("pids.max", "1");
    update(&["--pids-limit", "-1"]);
    is("pids.max", "max");
    update(&["--cpu-quota", "30000"]);
    is("cpu.max", "30000 50000");
    update(&["--cpu-period", "100000"]);
    is("cpu.max", "30000 100000");
    update(&["--cpu-burst", "10000"]);
    is("cpu.max.burst", "10000");
    // The burst is more than the old quota allows.
    update(&["--cpu-quota", "90000", "--cpu-burst", "80000"]);
    is("cpu.max.burst", "80000");
    update(&["--cpuset-cpus", "1", "--cpuset-mems", "0"]);
    is("cpuset.cpus", "1");
    is("cpuset.mems", "0");
    update(&[
        "--memory",
        "64M",
        "--memory-swap",
        "96M",
        "--memory-reservation",
        "32M",
    ]);
    is("memory.max", "67108864");
    is("memory.swap.max", "33554432");
    is("memory.low", "33554432");
    update(&["--memory", "-1"]);
    is("memory.max", "max");
    is("memory.swap.max", "max");
    update(&["--blkio-weight", "100"]);
    let weight = if group.join("io.bfq.weight").exists() {
        "io.bfq.weight"
    } else {
        "io.weight"
    };
    assert_ne!(value(&group, weight), "default 100");
    let refused = bundle.call(&["update", "--memory-swap", "64M", &bundle.id]);
    assert_eq!(refused.status.code(), Some(1));
    contains(&text(&refused.stderr), "swap limit without memory limit");
}

#[test]
fn a_limit_below_the_usage_is_refused_when_that_is_asked_for() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    let group = group(&bundle);
    let file = bundle.dir.path().join("limits");
    std::fs::write(
        &file,
        r#"{"memory": {"limit": 4096, "swap": 4096, "checkBeforeUpdate": true}}"#,
    )
    .unwrap();
    let out = bundle.call(&["update", "-r", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(out.status.code(), Some(1));
    contains(&text(&out.stderr), "rejecting memory limit");
    assert_eq!(value(&group, "memory.max"), "max");
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn a_file_of_no_controller_is_named() {
    for (file, words) in [
        (
            "hello.max",
            r#"unified resource \"hello.max\" can't be set: controller \"hello\" not available"#,
        ),
        ("nothing", "must be in the form CONTROLLER.PARAMETER"),
        ("../pids.max", "must be a file name"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["resources"]["unified"] = json!({ file: "1" });
        contains(&bundle.complaint(), words);
    }
}

#[test]
fn devices_are_denied_by_a_program_that_an_update_leaves_alone() {
    let (major, minor) = disk();
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    let caps = json!(["CAP_MKNOD", "CAP_KILL", "CAP_SYSLOG", "CAP_SYS_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = caps.clone();
    }
    bundle.start();
    let script = format!(
        "busybox mknod /disk b {major} {minor}; busybox mknod /kmsg c 1 11;
         busybox dd if=/disk of=/dev/null count=1 2>&1;
         busybox dd if=/kmsg of=/dev/null count=1 2>/dev/null && echo kmsg;
         echo x > /dev/null && echo null"
    );
    let check = |said: &str| {
        contains(said, "Operation not permitted");
        contains(said, "kmsg");
        contains(said, "null");
    };
    check(&inside(&bundle, &script));
    let update = bundle.call(&["update", "--pids-limit", "50", &bundle.id]);
    assert!(update.status.success(), "{}", text(&update.stderr));
    check(&inside(&bundle, &script.replace("busybox mknod", ":")));
}

#[test]
fn a_container_starts_in_512_kib() {
    let mut bundle = Bundle::new("echo started");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 524_288, "swap": 524_288});
    for _ in 0..5 {
        assert_eq!(bundle.prints(), "started\n");
    }
}

#[test]
fn statistics_have_pressure_and_a_kill_is_an_event() {
    let mut bundle = Bundle::new("read go; exec busybox tail /dev/zero");
    bundle.config["linux"]["resources"]["memory"] =
        json!({"limit": 16_777_216, "swap": 16_777_216});
    bundle.config["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "while [ ! -e /go ]; do sleep 0.1; done; busybox tail /dev/zero; exec sleep 100"
    ]);
    bundle.start();
    let out = bundle.call(&["events", "--stats", &bundle.id]);
    let stats: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 16_777_216);
    for part in ["cpu", "memory", "blkio"] {
        assert!(
            stats["data"][part]["psi"]["some"]["avg10"].is_number(),
            "{part}: {stats}"
        );
    }
    let log = bundle.dir.path().join("events");
    let mut events = bundle
        .command(
            crate::bundle::RUNTIME,
            &["events", "--interval", "100ms", &bundle.id],
        )
        .stdout(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    eventually("statistics", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("stats")
            .then_some(())
    });
    std::fs::write(bundle.dir.path().join("rootfs/go"), "").unwrap();
    eventually("an event", || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains(r#""type":"oom""#)
            .then_some(())
    });
    events.kill().unwrap();
    events.wait().unwrap();
}
