//! What pods and containers use.

use proto::runtime::v1 as wire;
use tests::command::eventually;
use tests::kubelet::{self, Kubelet, container, pod};

#[test]
fn use_grows_with_work_and_is_told_by_container_and_by_pod() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let id = kubelet.run(&config);
    let script = "echo 1234567890 > /file; while :; do :; done";
    let busy = kubelet.start(&id, &config, container("busy", &["sh", "-c", script]));
    let idle = kubelet.start(&id, &config, container("idle", &["sleep", "1000"]));
    let stats = |container_id: &str| {
        let container_id = container_id.to_owned();
        let request = wire::ContainerStatsRequest { container_id };
        let told = kubelet.ok(kubelet.runtime().container_stats(request));
        told.stats.expect("stats")
    };
    let used = |stats: &wire::ContainerStats| {
        let cpu = stats.cpu.as_ref().expect("cpu");
        cpu.usage_core_nano_seconds.expect("a number").value
    };
    let first = used(&stats(&busy));
    eventually("more processor time, and a rate", || {
        let now = stats(&busy);
        let rate = now.cpu.as_ref().and_then(|cpu| cpu.usage_nano_cores);
        (used(&now) > first && rate.is_some_and(|rate| rate.value > 0)).then_some(())
    });
    let told = stats(&busy);
    let memory = told.memory.expect("memory");
    assert!(memory.working_set_bytes.expect("a number").value > 0);
    assert!(memory.page_faults.expect("a number").value > 0);
    let layer = told.writable_layer.expect("a layer");
    assert!(layer.inodes_used.expect("a number").value > 0);
    assert_eq!(
        told.attributes
            .expect("attributes")
            .metadata
            .expect("a name")
            .name,
        "busy"
    );

    let all = kubelet.ok(kubelet
        .runtime()
        .list_container_stats(wire::ListContainerStatsRequest {
            filter: Some(wire::ContainerStatsFilter {
                pod_sandbox_id: id.clone(),
                ..Default::default()
            }),
        }));
    let ids: Vec<String> = all
        .stats
        .into_iter()
        .map(|one| one.attributes.expect("attributes").id)
        .collect();
    assert_eq!(ids, [busy.clone(), idle.clone()]);

    kubelet.exec(&idle, &["ping", "-c", "1", "-w", "1", "10.85.0.1"]);
    let pod_sandbox_id = id.clone();
    let request = wire::PodSandboxStatsRequest { pod_sandbox_id };
    let told = kubelet
        .ok(kubelet.runtime().pod_sandbox_stats(request))
        .stats
        .expect("stats");
    let linux = told.linux.expect("linux");
    assert_eq!(linux.containers.len(), 2);
    assert!(
        linux
            .process
            .and_then(|all| all.process_count)
            .expect("a number")
            .value
            >= 2
    );
    let interface = linux
        .network
        .and_then(|all| all.default_interface)
        .expect("an interface");
    assert_eq!(interface.name, "eth0");
    assert!(interface.tx_bytes.expect("a number").value > 0);
    let listed = kubelet.ok(kubelet
        .runtime()
        .list_pod_sandbox_stats(wire::ListPodSandboxStatsRequest::default()));
    assert_eq!(listed.stats.len(), 1);
}
