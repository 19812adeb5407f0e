//! Groups that systemd makes, seen through systemd.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::bundle::{Bundle, RUNTIME, contains, text};
use crate::{eventually, inside, value};

/// A container in a scope of its own below `system.slice`.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.config["linux"]["cgroupsPath"] =
        json!(format!("system.slice:runc-rs-test:{}", bundle.id));
    bundle
}

fn unit(bundle: &Bundle) -> String {
    format!("runc-rs-test-{}.scope", bundle.id)
}

fn place(bundle: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(unit(bundle))
}

#[track_caller]
fn start(bundle: &Bundle) {
    bundle.save();
    let log = std::fs::File::create(bundle.dir.path().join("errors")).unwrap();
    let create = bundle
        .command(RUNTIME, &["--systemd-cgroup", "create", &bundle.id])
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .unwrap();
    let said = std::fs::read_to_string(bundle.dir.path().join("errors")).unwrap();
    assert!(create.success(), "{said}");
    ok(bundle, &["start", &bundle.id]);
}

#[track_caller]
fn ok(bundle: &Bundle, args: &[&str]) {
    let out = bundle.call(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
}

fn run(bundle: &Bundle) -> Output {
    bundle.save();
    bundle.call(&["--systemd-cgroup", "run", &bundle.id])
}

fn show(unit: &str, property: &str) -> String {
    let out = Command::new("systemctl")
        .args(["show", "-P", property, unit])
        .output()
        .unwrap();
    text(&out.stdout).trim().to_owned()
}

#[test]
fn a_scope_has_the_limits_as_properties_and_in_its_files() {
    let mut bundle = bundle("exec sleep 100");
    bundle.config["linux"]["resources"] = json!({
        "cpu": {"shares": 512, "quota": 20500, "period": 100_000, "cpus": "0"},
        "memory": {"limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432},
        "pids": {"limit": 30},
        "devices": [{"allow": false, "access": "rwm"}],
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "unified": {"memory.high": "50331648"}
    });
    bundle.config["annotations"] = json!({
        "org.systemd.property.Description": "'a box of its own'",
        "org.systemd.property.TimeoutStopSec": "7"
    });
    start(&bundle);
    let (unit, group) = (unit(&bundle), place(&bundle));
    for (property, wanted) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Description", "a box of its own"),
        ("TimeoutStopUSec", "7s"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "50331648"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "210ms"),
        ("CPUQuotaPeriodUSec", "100ms"),
        ("TasksMax", "30"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "strict"),
    ] {
        assert_eq!(show(&unit, property), wanted, "{property}");
    }
    for (file, wanted) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.high", "50331648"),
        ("cpu.weight", "59"),
        ("cpu.max", "21000 100000"),
        ("pids.max", "30"),
        ("cpuset.cpus", "0"),
        ("hugetlb.2MB.max", "4194304"),
    ] {
        assert_eq!(value(&group, file), wanted, "{file}");
    }
    let pid = bundle.state()["pid"].to_string();
    assert_eq!(value(&group, "cgroup.procs"), pid, "nobody else is in it");
    assert_eq!(inside(&bundle, "cat /proc/self/cgroup"), "0::/");

    ok(
        &bundle,
        &[
            "update",
            "--memory",
            "80M",
            "--memory-swap",
            "-1",
            "--pids-limit",
            "20",
            "--cpu-quota",
            "-1",
            &bundle.id,
        ],
    );
    assert_eq!(show(&unit, "MemoryMax"), "83886080");
    assert_eq!(show(&unit, "MemorySwapMax"), "infinity");
    assert_eq!(show(&unit, "TasksMax"), "20");
    assert_eq!(show(&unit, "CPUQuotaPerSecUSec"), "infinity");
    assert_eq!(value(&group, "memory.max"), "83886080");
    assert_eq!(value(&group, "cpu.max"), "max 100000");

    ok(&bundle, &["delete", "-f", &bundle.id]);
    assert!(!group.exists());
    assert_eq!(show(&unit, "ActiveState"), "inactive");
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
fn one_process_may_be_all_there_is() {
    let mut bundle = bundle("exec sleep 100");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 0});
    start(&bundle);
    assert_eq!(show(&unit(&bundle), "TasksMax"), "1");
    assert_eq!(value(&place(&bundle), "pids.max"), "1");
}

#[test]
fn a_run_that_fails_or_ends_leaves_no_unit() {
    let ends = bundle("exit 3");
    assert_eq!(run(&ends).status.code(), Some(3));
    let mut limit = bundle("true");
    limit.config["linux"]["resources"]["unified"] = json!({"hello.max": "1"});
    contains(&text(&run(&limit).stderr), "hello.max");
    let mut property = bundle("true");
    property.config["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"});
    contains(&text(&run(&property).stderr), "NoSuchThing");
    let mut value = bundle("true");
    value.config["annotations"] = json!({"org.systemd.property.Description": "no quotes"});
    contains(&text(&run(&value).stderr), "expected a value as in");
    let mut path = bundle("true");
    path.config["linux"]["cgroupsPath"] = json!("/a/b");
    contains(&text(&run(&path).stderr), "slice:prefix:name");
    for bundle in [&ends, &limit, &property, &value] {
        assert!(!place(bundle).exists());
        assert_eq!(show(&unit(bundle), "LoadState"), "not-found");
    }
}

#[test]
fn a_unit_of_the_name_is_left_alone_unless_it_has_failed() {
    let first = bundle("exec sleep 100");
    start(&first);
    let mut second = bundle("true");
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    contains(&text(&run(&second).stderr), "already");
    assert_eq!(first.state()["status"], "running");
    // Killed for want of memory, a scope fails and stays until it is forgotten.
    let mut killed = bundle("exec busybox tail /dev/zero");
    killed.config["linux"]["resources"]["memory"] =
        json!({"limit": 16_777_216, "swap": 16_777_216});
    start(&killed);
    eventually("an end", || {
        (killed.state()["status"] == "stopped").then_some(())
    });
    ok(&killed, &["delete", &killed.id]);
    assert_eq!(show(&unit(&killed), "LoadState"), "not-found");
}

#[test]
fn device_rules_outlive_a_reload_of_systemd() {
    let mut bundle = bundle("exec sleep 100");
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] =
            json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_KILL"]);
    }
    start(&bundle);
    inside(&bundle, "busybox mknod /kmsg c 1 11");
    let check = || {
        let said = inside(
            &bundle,
            "busybox head -c 1 /kmsg 2>&1; echo x > /dev/null && echo null; true",
        );
        contains(&said, "Operation not permitted");
        contains(&said, "null");
    };
    check();
    let reload = Command::new("systemctl").arg("daemon-reload").status();
    assert!(reload.unwrap().success());
    check();
    ok(&bundle, &["update", "--pids-limit", "50", &bundle.id]);
    check();
    assert_eq!(show(&unit(&bundle), "NeedDaemonReload"), "no");
}

#[test]
fn a_user_has_units_of_their_own() {
    let bundle =
        crate::delegation::rootless("cat /proc/self/cgroup; read a < /proc/self/cgroup; exec true");
    let mut config = bundle.config.clone();
    config["linux"]["cgroupsPath"] = json!(format!("user.slice:runc-rs-test:{}", bundle.id));
    config["linux"]["resources"]["pids"] = json!({"limit": 20});
    std::fs::write(bundle.dir.path().join("config.json"), config.to_string()).unwrap();
    let command = bundle.command(RUNTIME, &["--systemd-cgroup", "run", &bundle.id]);
    let directory = format!("--working-directory={}", bundle.dir.path().display());
    let out = Command::new("setpriv")
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups"])
        .args([
            "systemd-run",
            "--user",
            "--wait",
            "--pipe",
            "--collect",
            "--quiet",
            &directory,
        ])
        .arg(command.get_program())
        .args(command.get_args())
        .env("XDG_RUNTIME_DIR", "/run/user/1000")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(
        text(&out.stdout),
        format!(
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/{}\n",
            unit(&bundle)
        )
    );
}
