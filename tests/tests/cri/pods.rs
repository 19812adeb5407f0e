//! Pods: what containers share, and what is left of it.

use std::fs;

use proto::runtime::v1 as wire;
use tests::kubelet::{self, Kubelet, container, context, own_processes, pod};
use tests::stack::Stack;
use tonic::Code;

fn ready() -> (Stack, Kubelet) {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    (stack, kubelet)
}

fn status(kubelet: &Kubelet, id: &str) -> Result<wire::PodSandboxStatus, tonic::Status> {
    let request = wire::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: true,
    };
    let told = kubelet.ask(kubelet.runtime().pod_sandbox_status(request))?;
    Ok(told.status.expect("a status"))
}

fn list(kubelet: &Kubelet, filter: wire::PodSandboxFilter) -> Vec<wire::PodSandbox> {
    let request = wire::ListPodSandboxRequest {
        filter: Some(filter),
    };
    kubelet
        .ok(kubelet.runtime().list_pod_sandbox(request))
        .items
}

fn stop(kubelet: &Kubelet, id: &str) {
    let pod_sandbox_id = id.to_owned();
    let request = wire::StopPodSandboxRequest { pod_sandbox_id };
    kubelet.ok(kubelet.runtime().stop_pod_sandbox(request));
}

fn remove(kubelet: &Kubelet, id: &str) {
    let pod_sandbox_id = id.to_owned();
    let request = wire::RemovePodSandboxRequest { pod_sandbox_id };
    kubelet.ok(kubelet.runtime().remove_pod_sandbox(request));
}

#[test]
fn a_pod_is_run_listed_stopped_and_removed() {
    let (stack, kubelet) = ready();
    let mut config = pod(&stack, "web");
    config.labels.insert("app".to_owned(), "web".to_owned());
    config.annotations.insert("a".to_owned(), "b".to_owned());
    let id = kubelet.run(&config);
    let found = status(&kubelet, &id).expect("a pod");
    assert_eq!(found.state(), wire::PodSandboxState::SandboxReady);
    assert_eq!(found.metadata, config.metadata);
    assert_eq!(
        (&found.labels, &found.annotations),
        (&config.labels, &config.annotations)
    );
    assert!(found.created_at > 0);
    let ip = found.network.expect("a network").ip;
    assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");

    // The same pod once more, and another.
    let request = wire::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: String::new(),
    };
    let again = kubelet.ask(kubelet.runtime().run_pod_sandbox(request));
    assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);
    let other = kubelet.run(&pod(&stack, "other"));

    let ids = |filter| -> Vec<String> {
        list(&kubelet, filter)
            .into_iter()
            .map(|pod| pod.id)
            .collect()
    };
    assert_eq!(ids(wire::PodSandboxFilter::default()), [id.clone(), other]);
    let by_label = wire::PodSandboxFilter {
        label_selector: [("app".to_owned(), "web".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(ids(by_label), [id.as_str()]);
    let by_id = wire::PodSandboxFilter {
        id: id[..10].to_owned(),
        ..Default::default()
    };
    assert_eq!(ids(by_id), [id.as_str()]);
    let streamed = kubelet.all(
        kubelet
            .runtime()
            .stream_pod_sandboxes(wire::StreamPodSandboxesRequest::default()),
    );
    assert_eq!(streamed[0].pod_sandboxes.len(), 2);

    stop(&kubelet, &id);
    stop(&kubelet, &id);
    let stopped = status(&kubelet, &id).expect("it stays known");
    assert_eq!(stopped.state(), wire::PodSandboxState::SandboxNotready);
    let not_ready = wire::PodSandboxFilter {
        state: Some(wire::PodSandboxStateValue {
            state: wire::PodSandboxState::SandboxNotready.into(),
        }),
        ..Default::default()
    };
    assert_eq!(ids(not_ready), [id.as_str()]);
    let sandboxes = stack.state().join("sandboxes");
    assert!(!sandboxes.join(&id).exists(), "its namespaces are let go");

    remove(&kubelet, &id);
    remove(&kubelet, &id);
    stop(&kubelet, &id);
    assert_eq!(status(&kubelet, &id).unwrap_err().code(), Code::NotFound);
    // Its name is free again.
    let next = kubelet.run(&config);
    assert_ne!(next, id);
}

#[test]
fn containers_of_a_pod_share_its_host_name_network_and_memory_and_not_the_hosts() {
    let (stack, kubelet) = ready();
    let mut config = pod(&stack, "shared");
    config.dns_config = Some(wire::DnsConfig {
        servers: vec!["10.11.12.13".to_owned()],
        searches: vec!["here.example".to_owned()],
        options: vec!["ndots:3".to_owned()],
    });
    let linux = config.linux.as_mut().expect("linux");
    let sysctl = "kernel.shm_rmid_forced".to_owned();
    linux.sysctls = [(sysctl, "1".to_owned())].into();
    let id = kubelet.run(&config);
    let first = kubelet.start(&id, &config, container("one", &["sleep", "1000"]));
    let second = kubelet.start(&id, &config, container("two", &["sleep", "1000"]));
    for kind in ["net", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let inside = kubelet.says(&first, &link);
        assert_eq!(inside, kubelet.says(&second, &link));
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        assert_ne!(inside, own.display().to_string());
    }
    let pid = "readlink /proc/self/ns/pid";
    assert_ne!(kubelet.says(&first, pid), kubelet.says(&second, pid));
    assert_eq!(
        kubelet.says(&first, "hostname; cat /etc/hostname"),
        "host-of-shared\nhost-of-shared"
    );
    assert_eq!(
        kubelet.says(&first, "cat /etc/resolv.conf"),
        "search here.example\nnameserver 10.11.12.13\noptions ndots:3"
    );
    kubelet.says(&first, "echo word > /dev/shm/file");
    assert_eq!(kubelet.says(&second, "cat /dev/shm/file"), "word");
    assert_eq!(
        kubelet.says(&second, "cat /proc/sys/kernel/shm_rmid_forced"),
        "1"
    );
    let network = status(&kubelet, &id).expect("a pod").network;
    let ip = network.expect("a network").ip;
    let addresses = kubelet.says(&first, "ip addr show eth0");
    assert!(addresses.contains(&format!("inet {ip}/")), "{addresses}");

    // Two pods reach each other.
    let other_config = pod(&stack, "other");
    let other = kubelet.run(&other_config);
    let there = container(
        "there",
        &["sh", "-c", "while :; do echo hi | nc -l -p 8080; done"],
    );
    kubelet.start(&other, &other_config, there);
    let ip = status(&kubelet, &other)
        .expect("a pod")
        .network
        .expect("one")
        .ip;
    tests::command::eventually("an answer of the other pod", || {
        let said = kubelet.exec(&first, &["nc", "-w", "5", &ip, "8080"]);
        (said.stdout == b"hi\n").then_some(())
    });
}

#[test]
fn namespaces_of_the_host_are_shared_where_that_is_asked_for() {
    let (stack, kubelet) = ready();
    let on_host = wire::NamespaceOption {
        network: wire::NamespaceMode::Node.into(),
        pid: wire::NamespaceMode::Node.into(),
        ipc: wire::NamespaceMode::Node.into(),
        ..Default::default()
    };
    let mut config = pod(&stack, "host");
    let linux = config.linux.as_mut().expect("linux");
    let of_pod = linux.security_context.as_mut().expect("a context");
    of_pod.namespace_options = Some(on_host.clone());
    let id = kubelet.run(&config);
    let found = status(&kubelet, &id).expect("a pod");
    assert_eq!(found.network.expect("a network").ip, "");
    let mut one = container("one", &["sleep", "1000"]);
    context(&mut one).namespace_options = Some(on_host);
    let one = kubelet.start(&id, &config, one);
    // The daemon has the test's network, and the host's everything else.
    let own = |kind: &str| fs::read_link(format!("/proc/thread-self/ns/{kind}"));
    for kind in ["net", "ipc", "pid", "uts"] {
        let inside = kubelet.says(&one, &format!("readlink /proc/self/ns/{kind}"));
        let own = own(kind).expect("a namespace");
        assert_eq!(inside, own.display().to_string(), "{kind}");
    }
}

#[test]
fn processes_are_shared_where_that_is_asked_for() {
    let (stack, kubelet) = ready();
    let mut config = pod(&stack, "shared");
    let linux = config.linux.as_mut().expect("linux");
    let of_pod = linux.security_context.as_mut().expect("a context");
    of_pod.namespace_options = Some(wire::NamespaceOption::default());
    let id = kubelet.run(&config);
    let sharing = |name: &str, args: &[&str]| {
        let mut config = container(name, args);
        context(&mut config).namespace_options = Some(wire::NamespaceOption::default());
        config
    };
    let one = kubelet.start(&id, &config, sharing("one", &["sleep", "4321"]));
    let two = kubelet.start(&id, &config, sharing("two", &["sleep", "1000"]));
    let seen = kubelet.says(&two, "ps");
    assert!(seen.contains("sleep 4321"), "{seen}");
    assert!(seen.contains("/pause"), "{seen}");
    let first = kubelet.says(&two, "cat /proc/1/comm");
    assert_eq!(first, "pause");
    // The process that holds them goes with the pod.
    stop(&kubelet, &id);
    for id in [&one, &two] {
        let state = kubelet.status(id).state();
        assert_eq!(state, wire::ContainerState::ContainerExited);
    }
}

#[test]
fn a_container_joins_the_processes_of_another() {
    let (stack, kubelet) = ready();
    let config = pod(&stack, "target");
    let id = kubelet.run(&config);
    let one = kubelet.start(&id, &config, container("one", &["sleep", "4321"]));
    let mut joining = container("debug", &["sleep", "1000"]);
    context(&mut joining).namespace_options = Some(wire::NamespaceOption {
        pid: wire::NamespaceMode::Target.into(),
        target_id: one.clone(),
        ..Default::default()
    });
    let debug = kubelet.start(&id, &config, joining.clone());
    let seen = kubelet.says(&debug, "cat /proc/1/cmdline | tr '\\0' ' '");
    assert_eq!(seen, "sleep 4321");
    context(&mut joining).namespace_options = Some(wire::NamespaceOption {
        pid: wire::NamespaceMode::Target.into(),
        target_id: "0".repeat(64),
        ..Default::default()
    });
    joining.metadata.as_mut().expect("metadata").attempt = 1;
    let refused = kubelet.try_create(&id, &config, joining);
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (stack, kubelet) = ready();
    let refuse = |config: wire::PodSandboxConfig, handler: &str| {
        let request = wire::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        let ran = kubelet.ask(kubelet.runtime().run_pod_sandbox(request));
        ran.unwrap_err().code()
    };
    let mut nameless = pod(&stack, "p");
    nameless.metadata = None;
    assert_eq!(refuse(nameless, ""), Code::InvalidArgument);
    assert_eq!(refuse(pod(&stack, "p"), "nothing"), Code::NotFound);
    let mut bad = pod(&stack, "p");
    let linux = bad.linux.as_mut().expect("linux");
    linux.sysctls = [("vm.swappiness".to_owned(), "1".to_owned())].into();
    assert_eq!(refuse(bad, ""), Code::InvalidArgument);
    assert_eq!(list(&kubelet, wire::PodSandboxFilter::default()), []);
    let left = fs::read_dir(stack.state().join("sandboxes"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    // A port that is taken.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut publishing = pod(&stack, "p");
    publishing.port_mappings = vec![wire::PortMapping {
        protocol: wire::Protocol::Tcp.into(),
        container_port: 80,
        host_port: port.into(),
        host_ip: String::new(),
    }];
    assert_eq!(refuse(publishing, ""), Code::FailedPrecondition);
    assert_eq!(list(&kubelet, wire::PodSandboxFilter::default()), []);
}

#[test]
fn a_port_of_the_host_leads_into_the_pod() {
    let (stack, kubelet) = ready();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = free.expect("a free port").port();
    let mut config = pod(&stack, "web");
    config.port_mappings = vec![wire::PortMapping {
        protocol: wire::Protocol::Tcp.into(),
        container_port: 8080,
        host_port: port.into(),
        host_ip: String::new(),
    }];
    let id = kubelet.run(&config);
    let script = "while :; do echo hello | nc -l -p 8080; done";
    kubelet.start(&id, &config, container("web", &["sh", "-c", script]));
    tests::command::eventually("an answer through the port", || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stream, &mut said).ok()?;
        (said == "hello\n").then_some(())
    });
    let options = own_processes();
    assert_eq!(options.network(), wire::NamespaceMode::Pod);
}
