//! Pods whose network comes from CNI plugins, Debian's own.

use std::fs;
use std::path::PathBuf;

use proto::runtime::v1 as wire;
use serde_json::json;
use tests::kubelet::{Kubelet, container, pod};
use tests::stack::Stack;

struct Lab {
    kubelet: Kubelet,
    networks: PathBuf,
    leases: PathBuf,
    // Last: it finds what the rest left behind.
    stack: Stack,
}

/// A daemon that looks for networks in a directory of the test's own.
fn lab() -> Lab {
    let stack = Stack::cold();
    let (networks, leases) = (stack.scratch().path("net.d"), stack.scratch().path("ipam"));
    let config = stack.scratch().path("config.toml");
    fs::create_dir_all(&networks).expect("a directory");
    fs::write(&config, format!("[cri]\ncni_conf_dir = {networks:?}\n")).expect("a file");
    let mut stack = stack.with_env("CONTAINERD_LITE_CONFIG", &config.display().to_string());
    stack.start_daemon();
    let kubelet = Kubelet::of(&stack);
    Lab {
        kubelet,
        networks,
        leases,
        stack,
    }
}

impl Lab {
    fn configure(&self, plugin: &str) {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": plugin, "ipam": {"type": "host-local", "dataDir": self.leases, "subnet": "10.213.9.0/24"}}]});
        let path = self.networks.join("10-pods.conflist");
        fs::write(path, list.to_string()).expect("a file");
    }

    /// Addresses that are given out.
    fn leased(&self) -> Vec<String> {
        let entries = fs::read_dir(self.leases.join("pods")).expect("host-local's directory");
        let names = entries.map(|e| {
            e.expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        });
        names.filter(|name| name.starts_with("10.")).collect()
    }

    /// What is wrong with the network of pods; nothing where it is ready.
    fn fault(&self) -> Option<String> {
        let told = self.kubelet.ok(self
            .kubelet
            .runtime()
            .status(wire::StatusRequest::default()));
        let conditions = told.status.expect("a status").conditions;
        let network = conditions
            .into_iter()
            .find(|one| one.r#type == "NetworkReady");
        let network = network.expect("the condition");
        (!network.status).then_some(network.message)
    }
}

#[test]
fn plugins_give_a_pod_its_network_and_take_it_back_after_a_restart() {
    let mut lab = lab();
    lab.kubelet.load_busybox(&lab.stack);
    lab.configure("ptp");
    assert_eq!(lab.fault(), None);
    let config = pod(&lab.stack, "p");
    let id = lab.kubelet.run(&config);
    let sleeps = lab
        .kubelet
        .start(&id, &config, container("c", &["sleep", "1000"]));
    let request = wire::PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    let told = lab
        .kubelet
        .ok(lab.kubelet.runtime().pod_sandbox_status(request));
    let ip = told
        .status
        .and_then(|status| status.network)
        .expect("a network")
        .ip;
    assert_eq!(lab.leased(), std::slice::from_ref(&ip));
    let shown = lab.kubelet.says(&sleeps, "ip addr show eth0");
    assert!(shown.contains(&ip), "{shown}");

    // Another network, in which the pod never was.
    lab.stack.kill_daemon();
    lab.configure("nowhere");
    lab.stack.start_daemon();
    // Finds out that the connection is to the one that is gone.
    let version = wire::VersionRequest::default();
    let _ = lab.kubelet.ask(lab.kubelet.runtime().version(version));
    assert_eq!(lab.leased(), [ip]);
    let request = wire::StopPodSandboxRequest { pod_sandbox_id: id };
    lab.kubelet
        .ok(lab.kubelet.runtime().stop_pod_sandbox(request));
    assert_eq!(lab.leased(), Vec::<String>::new());
}

#[test]
fn a_network_that_cannot_be_had_is_told_by_name() {
    let lab = lab();
    assert_eq!(
        lab.fault(),
        None,
        "without a configuration there is a bridge"
    );
    lab.configure("nowhere");
    let fault = lab.fault().expect("there is no such plugin");
    assert!(
        fault.contains("nowhere") && fault.contains("/usr/lib/cni"),
        "{fault}"
    );
    let request = wire::RunPodSandboxRequest {
        config: Some(pod(&lab.stack, "p")),
        runtime_handler: String::new(),
    };
    let refused = lab
        .kubelet
        .ask(lab.kubelet.runtime().run_pod_sandbox(request));
    assert!(
        refused
            .expect_err("no network")
            .message()
            .contains("nowhere")
    );

    fs::write(lab.networks.join("10-pods.conflist"), "{").expect("a file");
    let fault = lab.fault().expect("it is no configuration");
    assert!(fault.contains("10-pods.conflist"), "{fault}");
    // A better one beside it counts.
    fs::write(
        lab.networks.join("20-pods.conf"),
        r#"{"name": "pods", "type": "loopback"}"#,
    )
    .expect("a file");
    assert_eq!(lab.fault(), None);
}
