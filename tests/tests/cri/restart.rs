//! The daemon comes and goes; pods stay, and what is told of them is true.

use proto::runtime::v1 as wire;
use tests::command::eventually;
use tests::kubelet::{self, Kubelet, container, pod};

/// Shows a pod's address, without what comes and goes with it.
const INET: &str = "ip addr show eth0 | grep 'inet '";

#[test]
fn killed_while_pods_run_it_finds_them_again() {
    let mut stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let id = kubelet.run(&config);
    let script = "while [ ! -e /stop ]; do sleep 0.05; done; exit 17";
    let stays = kubelet.start(&id, &config, container("stays", &["sh", "-c", script]));
    let mut ends = container(
        "ends",
        &[
            "sh",
            "-c",
            "while [ ! -e /go/now ]; do sleep 0.05; done; exit 9",
        ],
    );
    let go = stack.scratch().path("go");
    ends.mounts = vec![wire::Mount {
        container_path: "/go".to_owned(),
        host_path: go.display().to_string(),
        ..Default::default()
    }];
    let ends = kubelet.start(&id, &config, ends);
    let made = kubelet
        .try_create(&id, &config, container("made", &["true"]))
        .expect("a container");
    let ip = kubelet.says(&stays, INET);
    stack.kill_daemon();
    std::fs::write(go.join("now"), "").expect("a file");
    stack.start_daemon();

    let request = wire::PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    // The first call may find out that the old connection is gone.
    let told = eventually("a status", || {
        kubelet
            .ask(kubelet.runtime().pod_sandbox_status(request.clone()))
            .ok()
    });
    let status = told.status.expect("a status");
    assert_eq!(status.state(), wire::PodSandboxState::SandboxReady);
    assert!(ip.contains(&status.network.expect("a network").ip));
    assert_eq!(
        kubelet.status(&stays).state(),
        wire::ContainerState::ContainerRunning
    );
    assert_eq!(
        kubelet.status(&made).state(),
        wire::ContainerState::ContainerCreated
    );
    let ended = kubelet.ended(&ends);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (9, "Error"));
    assert_eq!(kubelet.says(&stays, INET), ip);
    kubelet.says(&stays, "touch /stop");
    assert_eq!(kubelet.ended(&stays).exit_code, 17);
    let container_id = made.clone();
    let request = wire::StartContainerRequest { container_id };
    kubelet.ok(kubelet.runtime().start_container(request));
    assert_eq!(kubelet.ended(&made).exit_code, 0);
    // A new pod gets an address of its own.
    let other_config = pod(&stack, "other");
    let other = kubelet.run(&other_config);
    let other = kubelet.start(&other, &other_config, container("c", &["sleep", "1000"]));
    assert_ne!(kubelet.says(&other, INET), ip);
}

#[test]
fn a_pod_whose_namespaces_are_gone_is_not_ready() {
    let mut stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let id = kubelet.run(&pod(&stack, "p"));
    stack.kill_daemon();
    // As after a boot.
    let net = stack.state().join("sandboxes").join(&id).join("net");
    nix::mount::umount(&net).expect("it was pinned");
    stack.start_daemon();
    let request = wire::PodSandboxStatusRequest {
        pod_sandbox_id: id,
        verbose: false,
    };
    let status = eventually("a status", || {
        kubelet
            .ask(kubelet.runtime().pod_sandbox_status(request.clone()))
            .ok()
    });
    let state = status.status.expect("a status").state();
    assert_eq!(state, wire::PodSandboxState::SandboxNotready);
}
