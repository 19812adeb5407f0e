//! How daemons of several ages start a shim, and what they are told.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use proto::containerd::runc::v1::Options;
use proto::containerd::runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, Extension};
use proto::containerd::task::v2::{ConnectRequest, ConnectResponse};
use proto::containerd::types::RuntimeInfo;

use crate::lab::{Lab, SHIM, in_lab};

/// containerd 2.3's parameters for the container `id`.
fn params(lab: &Lab, id: &str, options: Option<Options>) -> Vec<u8> {
    let events = lab.path("d.sock.ttrpc").to_str().unwrap().to_owned();
    let grpc = lab.path("d.sock").to_str().unwrap().to_owned();
    let extensions = options.map(|options| Extension {
        value: Some(Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.encode_to_vec(),
        }),
    });
    BootstrapParams {
        instance_id: id.into(),
        namespace: "test".into(),
        containerd_version: "2.3.0".into(),
        containerd_ttrpc_address: events,
        containerd_grpc_address: grpc,
        containerd_binary: "/bin/false".into(),
        extensions: extensions.into_iter().collect(),
        socket_dir: Some(lab.path("sockets").to_str().unwrap().into()),
        ..Default::default()
    }
    .encode_to_vec()
}

#[test]
fn bootstrap_parameters_are_answered_in_kind_and_the_shim_works() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["sh", "-c", "exit 3"], |_| ());
        let input = params(lab, "c", None);
        // Events go where the parameters say.
        let started = lab.shim_given("c", "start", &input, &[("TTRPC_ADDRESS", "")]);
        assert!(started.status.success(), "{started:?}");
        let result = BootstrapResult::decode(started.stdout.as_slice()).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        let socket = Path::new(result.address.strip_prefix("unix://").unwrap());
        assert_eq!(socket.parent().unwrap(), lab.path("sockets"));
        lab.connect("c", &result.address).await;
        lab.create(lab.request("c")).await.unwrap();
        lab.start("c", "").await.unwrap();
        assert_eq!(lab.wait("c", "").await, 3);
        lab.wait_for_events(3).await;
        // Again: the same shim, in the same words.
        let again = lab.shim_given("c", "start", &input, &[]);
        assert_eq!(again.stdout, started.stdout);
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;
        // A shim that was ended above takes a moment to remove its own.
        let sockets = || fs::read_dir(lab.path("sockets")).unwrap().count();
        for _ in 0..300 {
            if sockets() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(sockets(), 0);
    });
}

#[test]
fn a_daemon_that_knows_version_3_is_told_in_json() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["true"], |_| ());
        let started = lab.shim_given("c", "start", &[], &[("MAX_SHIM_VERSION", "3")]);
        let told: serde_json::Value = serde_json::from_slice(&started.stdout).unwrap();
        assert_eq!(
            (told["version"].as_u64(), told["protocol"].as_str()),
            (Some(3), Some("ttrpc"))
        );
        lab.connect("c", told["address"].as_str().unwrap()).await;
    });
}

/// The v1 cgroup, or the one there is, that `pid` is in.
fn cgroup(pid: i32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let telling = |line: &&str| line.contains(":pids:") || line.starts_with("0::");
    let line = groups.lines().find(telling).unwrap();
    line.rsplit_once(':').unwrap().1.to_owned()
}

#[test]
fn the_shim_joins_the_cgroup_of_the_options_and_is_easier_to_kill_than_its_daemon() {
    in_lab(async |lab| {
        let name = lab.dir.path().file_name().unwrap().to_str().unwrap();
        let group = format!("/{name}-shims");
        let hierarchy = Path::new("/sys/fs/cgroup");
        let dir = match hierarchy.join("pids").is_dir() {
            true => hierarchy.join("pids"),
            false => hierarchy.to_owned(),
        };
        let dir = dir.join(&group[1..]);
        fs::create_dir(&dir).unwrap();
        for (id, bootstrap) in [("old", false), ("new", true)] {
            lab.make_bundle(id, &["true"], |_| ());
            let options = Options {
                shim_cgroup: group.clone(),
                ..Options::default()
            };
            let input = match bootstrap {
                true => params(lab, id, Some(options)),
                false => Any {
                    type_url: "containerd.runc.v1.Options".into(),
                    value: options.encode_to_vec(),
                }
                .encode_to_vec(),
            };
            let started = lab.shim_given(id, "start", &input, &[]);
            assert!(started.status.success(), "{started:?}");
            let pid = lab.shim_pid(id);
            assert_eq!(cgroup(pid), group);
            let score = |pid: &str| -> i32 {
                let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
                text.trim().parse().unwrap()
            };
            assert_eq!(score(&pid.to_string()), (score("self") + 1).min(1000));
            lab.end_shim(id).await;
        }
        fs::remove_dir(&dir).unwrap();
        // And no cgroup is no reason to leave a shim behind.
        lab.make_bundle("none", &["true"], |_| ());
        let options = Options {
            shim_cgroup: group,
            ..Options::default()
        };
        let started = lab.shim_given("none", "start", &params(lab, "none", Some(options)), &[]);
        let words = String::from_utf8_lossy(&started.stderr);
        assert!(
            !started.status.success() && words.contains("does not exist"),
            "{words}"
        );
        assert_eq!(fs::read_dir(lab.path("sockets")).unwrap().count(), 0);
    });
}

#[test]
fn one_shim_keeps_all_containers_of_a_node_that_asks_for_it() {
    in_lab(async |lab| {
        let node = [("CONTAINERD_SHIM_GROUP", "node")];
        let mut pids = Vec::new();
        for id in ["a", "b"] {
            lab.make_bundle(id, &["sleep", "1000"], |_| ());
            let started = lab.shim_given(id, "start", &[], &node);
            let address = String::from_utf8(started.stdout).unwrap();
            lab.connect(id, &address).await;
            lab.create(lab.request(id)).await.unwrap();
            let request = ConnectRequest { id: id.into() };
            let connected: ConnectResponse = lab.call(id, "Connect", request).await.unwrap();
            pids.push(connected.shim_pid);
        }
        assert_eq!(pids[0], pids[1]);
        for id in ["a", "b"] {
            lab.delete(id, "").await.unwrap();
        }
        lab.shut_down("b").await;
    });
}

#[test]
fn info_tells_what_shim_and_runtime_can_do() {
    in_lab(async |lab| {
        let mut child = Command::new(SHIM)
            .arg("-info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let options = lab.options().unwrap().encode_to_vec();
        child.stdin.take().unwrap().write_all(&options).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let info = RuntimeInfo::decode(out.stdout.as_slice()).unwrap();
        assert_eq!(info.name, "io.containerd.runc-rs.v2");
        assert_eq!(info.version.unwrap().version, env!("CARGO_PKG_VERSION"));
        let features: serde_json::Value =
            serde_json::from_slice(&info.features.unwrap().value).unwrap();
        assert!(features["ociVersionMax"].is_string(), "{features}");
    });
}
