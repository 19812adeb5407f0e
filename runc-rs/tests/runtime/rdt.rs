//! Intel RDT, against a directory that looks like the kernel's filesystem: hardly a machine that runs tests has the hardware. Each
//! call sees it in a mount namespace of its own, where the kernel would have it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, RUNTIME, contains, text};

/// Where the directory takes the place of /sys/fs, with the cgroups that are there.
const SCRIPT: &str = r#"set -e
mount --rbind /sys/fs/cgroup sys/cgroup
mount --rbind sys /sys/fs
umount -R -l sys/cgroup
exec "$@""#;

struct Machine {
    bundle: Bundle,
}

impl Machine {
    fn new(script: &str, config: Value) -> Self {
        let mut bundle = Bundle::new(script);
        bundle.config["linux"]["intelRdt"] = config;
        bundle.save();
        let machine = Self { bundle };
        fs::create_dir_all(machine.bundle.dir.path().join("sys/cgroup")).unwrap();
        for (file, text) in [
            ("schemata", "    L3:0=fff\n    MB:0=100\n"),
            ("info/L3/cbm_mask", "fff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\n"),
            ("shared/mon_groups/.keep", ""),
        ] {
            let file = machine.path(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        machine
    }

    fn path(&self, file: &str) -> PathBuf {
        self.bundle.dir.path().join("sys/resctrl").join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", SCRIPT, "sh", RUNTIME, "--root"])
            .arg(self.bundle.root())
            .args(args)
            .current_dir(self.bundle.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn does(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    fn start(&self) {
        for args in [["create", &self.bundle.id], ["start", &self.bundle.id]] {
            let mut command = self.command(&args);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.unwrap().success(), "{args:?}");
        }
    }
}

#[test]
fn a_container_gets_its_shares_and_its_processes_join() {
    let machine = Machine::new(
        "exec sleep 1000",
        json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=3"]}),
    );
    let id = machine.bundle.id.clone();
    machine.start();
    let own = |file: &str| format!("{id}/{file}");
    assert_eq!(machine.read(&own("schemata")), "L3:0=f\nMB:0=20\nL2:0=3\n");
    // Who writes 0 there joins.
    assert_eq!(machine.read(&own("tasks")), "0");
    fs::write(machine.path(&own("tasks")), "").unwrap();
    machine.does(&["exec", &id, "true"]);
    assert_eq!(machine.read(&own("tasks")), "0");

    machine.does(&["update", "--l3-cache-schema", "L3:0=3", &id]);
    assert_eq!(machine.read(&own("schemata")), "L3:0=3\nMB:0=20\nL2:0=3\n");
    machine.does(&["update", "--mem-bw-schema", "MB:0=30", &id]);
    assert_eq!(machine.read(&own("schemata")), "L3:0=3\nMB:0=30\nL2:0=3\n");

    let counted = machine.path(&own("mon_data/mon_L3_00/llc_occupancy"));
    fs::create_dir_all(counted.parent().unwrap()).unwrap();
    fs::write(&counted, "4096\n").unwrap();
    let stats: Value = serde_json::from_str(&machine.does(&["events", "--stats", &id])).unwrap();
    let rdt = &stats["data"]["intel_rdt"];
    assert_eq!(rdt["l3_cache_schema"], "L3:0=3");
    assert_eq!(rdt["mem_bw_schema_root"], "MB:0=100");
    assert_eq!(rdt["l3_cache_info"]["num_closids"], 16);
    assert_eq!(rdt["cmt_stats"], json!([{"llc_occupancy": 4096}]));

    // The kernel's files go with their directory; these do not.
    let remains = ["tasks", "schemata"].map(|file| fs::remove_file(machine.path(&own(file))));
    assert!(remains.iter().all(Result::is_ok));
    fs::remove_dir_all(machine.path(&own("mon_data"))).unwrap();
    machine.does(&["delete", "--force", &id]);
    assert!(!machine.path(&id).exists());
}

#[test]
fn a_group_of_others_is_joined_counted_apart_and_left() {
    let machine = Machine::new(
        "exec sleep 1000",
        json!({"closID": "shared", "enableMonitoring": true}),
    );
    let id = machine.bundle.id.clone();
    machine.start();
    let monitor = format!("shared/mon_groups/{id}");
    assert_eq!(machine.read("shared/tasks"), "0");
    assert_eq!(machine.read(&format!("{monitor}/tasks")), "0");
    let state = machine.bundle.root().join(&id).join("state.json");
    let state: Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    assert_eq!(state["intel_rdt_path"], "/sys/fs/resctrl/shared");
    assert_eq!(
        state["intel_rdt_mon_path"],
        format!("/sys/fs/resctrl/{monitor}")
    );
    fs::remove_file(machine.path(&format!("{monitor}/tasks"))).unwrap();
    machine.does(&["delete", "--force", &id]);
    assert!(!machine.path(&monitor).exists() && machine.path("shared/tasks").exists());
}

#[test]
fn what_the_machine_lacks_is_said_in_runcs_words() {
    let complaint = |config: Value, lacks: &[&str]| {
        let machine = Machine::new("true", config);
        for what in lacks {
            fs::remove_dir_all(machine.path(what)).unwrap();
        }
        let out = machine.call(&["run", &machine.bundle.id]);
        assert_eq!(out.status.code(), Some(1));
        assert!(machine.bundle.cgroups().is_empty());
        text(&out.stderr)
    };
    for (config, lacks, words) in [
        (json!({"closID": "a/b"}), &[][..], "invalid intelRdt.ClosID"),
        (
            json!({"l3CacheSchema": "L3:0=f"}),
            &["info/L3"],
            "Intel RDT/CAT is not enabled",
        ),
        (
            json!({"memBwSchema": "MB:0=9"}),
            &["info/MB"],
            "Intel RDT/MBA is not enabled",
        ),
        (json!({"closID": "none"}), &[], "clos dir not accessible"),
    ] {
        contains(&complaint(config, lacks), words);
    }
    let plain = Machine::new("exec sleep 1000", json!({}));
    plain.start();
    let id = plain.bundle.id.as_str();
    fs::remove_dir_all(plain.path("info/MB")).unwrap();
    let out = plain.call(&["update", "--mem-bw-schema", "MB:0=9", id]);
    contains(
        &text(&out.stderr),
        "Intel RDT/MBA: memory bandwidth schema is not enabled",
    );
    fs::remove_file(plain.path(&format!("{id}/tasks"))).unwrap();
    plain.does(&["delete", "--force", id]);
    let none = Bundle::new("exec sleep 1000");
    none.start();
    let out = none.call(&["update", "--l3-cache-schema", "L3:0=9", &none.id]);
    contains(
        &text(&out.stderr),
        "Intel RDT/CAT: l3 cache schema is not enabled",
    );
}
