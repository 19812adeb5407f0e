//! Containers: their lives, as the kubelet follows them.

use std::time::Duration;

use proto::runtime::v1 as wire;
use tests::command::eventually;
use tests::kubelet::{self, Kubelet, container, context, pod};
use tests::stack::Stack;
use tonic::Code;

struct Lab {
    kubelet: Kubelet,
    config: wire::PodSandboxConfig,
    pod: String,
    // Last: it finds what the rest left behind.
    stack: Stack,
}

fn lab() -> Lab {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let pod = kubelet.run(&config);
    Lab {
        kubelet,
        config,
        pod,
        stack,
    }
}

impl Lab {
    #[track_caller]
    fn start(&self, config: wire::ContainerConfig) -> String {
        self.kubelet.start(&self.pod, &self.config, config)
    }

    fn create(&self, config: wire::ContainerConfig) -> Result<String, tonic::Status> {
        self.kubelet.try_create(&self.pod, &self.config, config)
    }

    fn stop(&self, id: &str, timeout: i64) {
        let request = wire::StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.kubelet
            .ok(self.kubelet.runtime().stop_container(request));
    }

    fn remove(&self, id: &str) {
        let request = wire::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.kubelet
            .ok(self.kubelet.runtime().remove_container(request));
    }

    fn list(&self, filter: wire::ContainerFilter) -> Vec<String> {
        let request = wire::ListContainersRequest {
            filter: Some(filter),
        };
        let listed = self
            .kubelet
            .ok(self.kubelet.runtime().list_containers(request));
        listed.containers.into_iter().map(|one| one.id).collect()
    }
}

fn in_state(state: wire::ContainerState) -> wire::ContainerFilter {
    wire::ContainerFilter {
        state: Some(wire::ContainerStateValue {
            state: state.into(),
        }),
        ..Default::default()
    }
}

#[test]
fn a_container_is_made_started_stopped_and_removed() {
    let lab = lab();
    let mut config = container("one", &["sleep", "1000"]);
    config.labels.insert("tier".to_owned(), "front".to_owned());
    let id = lab.create(config.clone()).expect("a container");
    let made = lab.kubelet.status(&id);
    assert_eq!(made.state(), wire::ContainerState::ContainerCreated);
    assert_eq!((made.started_at, made.finished_at), (0, 0));
    assert!(made.created_at > 0);
    let again = lab.create(config);
    assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);

    let start = || {
        let container_id = id.clone();
        let request = wire::StartContainerRequest { container_id };
        lab.kubelet
            .ask(lab.kubelet.runtime().start_container(request))
    };
    start().expect("it starts");
    assert_eq!(start().unwrap_err().code(), Code::FailedPrecondition);
    let running = lab.kubelet.status(&id);
    assert_eq!(running.state(), wire::ContainerState::ContainerRunning);
    assert!(running.started_at >= made.created_at);
    assert!(
        running.image_ref.contains("sha256:"),
        "{}",
        running.image_ref
    );
    assert!(running.image_id.starts_with("sha256:"));
    assert_eq!(running.reason, "");
    assert_eq!(
        running
            .user
            .and_then(|user| user.linux)
            .expect("a user")
            .uid,
        0
    );

    let other = lab.start(container("two", &["true"]));
    lab.kubelet.ended(&other);
    use wire::ContainerState as State;
    assert_eq!(lab.list(in_state(State::ContainerRunning)), [id.as_str()]);
    assert_eq!(lab.list(in_state(State::ContainerExited)), [other.as_str()]);
    let of_pod = wire::ContainerFilter {
        pod_sandbox_id: lab.pod.clone(),
        ..Default::default()
    };
    assert_eq!(lab.list(of_pod), [id.clone(), other.clone()]);
    let labelled = wire::ContainerFilter {
        label_selector: [("tier".to_owned(), "front".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(lab.list(labelled), [id.as_str()]);

    // init has no handler for SIGTERM: it is killed after a second.
    lab.stop(&id, 1);
    let stopped = lab.kubelet.status(&id);
    assert_eq!(stopped.state(), State::ContainerExited);
    assert_eq!((stopped.exit_code, stopped.reason.as_str()), (137, "Error"));
    assert!(stopped.finished_at >= running.started_at);
    lab.stop(&id, 1);
    lab.remove(&id);
    lab.remove(&id);
    lab.stop(&id, 1);
    let request = wire::ContainerStatusRequest {
        container_id: id,
        verbose: false,
    };
    let gone = lab
        .kubelet
        .ask(lab.kubelet.runtime().container_status(request));
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        lab.stack.ctr(&["-n", "k8s.io", "tasks", "ls", "-q"]).ok(),
        ""
    );
}

#[test]
fn an_end_has_code_and_reason() {
    let lab = lab();
    let good = lab.start(container("good", &["true"]));
    let status = lab.kubelet.ended(&good);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    let bad = lab.start(container("bad", &["sh", "-c", "exit 3"]));
    let status = lab.kubelet.ended(&bad);
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));

    let absent = lab
        .create(container("absent", &["/no/such/program"]))
        .expect("it is made");
    let container_id = absent.clone();
    let request = wire::StartContainerRequest { container_id };
    let refused = lab
        .kubelet
        .ask(lab.kubelet.runtime().start_container(request));
    assert!(refused.unwrap_err().message().contains("/no/such/program"));
    let status = lab.kubelet.status(&absent);
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (128, "StartError")
    );
    assert!(
        status.message.contains("/no/such/program"),
        "{}",
        status.message
    );

    let mut greedy = container("greedy", &["sh", "-c", "x=a; while :; do x=$x$x; done"]);
    let linux = greedy.linux.as_mut().expect("linux");
    linux.resources = Some(wire::LinuxContainerResources {
        memory_limit_in_bytes: 24 << 20,
        ..Default::default()
    });
    let greedy = lab.start(greedy);
    let status = lab.kubelet.ended(&greedy);
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled")
    );
}

#[test]
fn a_stop_waits_for_a_polite_end_with_the_signal_asked_for() {
    let lab = lab();
    let script = "trap 'exit 7' USR1; echo ready > /ready; while :; do sleep 0.05; done";
    let mut polite = container("polite", &["sh", "-c", script]);
    polite.stop_signal = wire::Signal::Sigusr1.into();
    let id = lab.start(polite);
    eventually("the trap", || {
        let looked = lab.kubelet.exec(&id, &["test", "-e", "/ready"]);
        (looked.exit_code == 0).then_some(())
    });
    lab.stop(&id, 60);
    let status = lab.kubelet.status(&id);
    assert_eq!(status.exit_code, 7);
    assert_eq!(status.stop_signal(), wire::Signal::Sigusr1);
}

#[test]
fn a_command_runs_beside_it_and_is_killed_when_it_takes_too_long() {
    let lab = lab();
    let id = lab.start(container("one", &["sleep", "1000"]));
    let script = ["sh", "-c", "echo out; echo err >&2; exit 5"];
    let output = lab.kubelet.exec(&id, &script);
    assert_eq!(
        (&output.stdout[..], &output.stderr[..], output.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 5)
    );
    let big = lab
        .kubelet
        .exec(&id, &["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]);
    assert_eq!(big.stdout.len(), 300_000);

    let exec = |container_id: &str, cmd: &[&str], timeout| {
        let request = wire::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
            timeout,
        };
        lab.kubelet.ask(lab.kubelet.runtime().exec_sync(request))
    };
    let late = exec(&id, &["sleep", "4444"], 1).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{}", late.message());
    eventually("its end", || {
        let seen = lab.kubelet.says(&id, "ps");
        (!seen.contains("4444")).then_some(())
    });
    assert!(exec(&id, &["/no/such"], 0).is_err());
    assert_eq!(exec(&id, &[], 0).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        exec("nobody", &["true"], 0).unwrap_err().code(),
        Code::NotFound
    );
    lab.stop(&id, 0);
    assert_eq!(
        exec(&id, &["true"], 0).unwrap_err().code(),
        Code::FailedPrecondition
    );
}

#[test]
fn command_environment_directory_and_mounts_are_as_asked_for() {
    let lab = lab();
    let source = lab.stack.scratch().path("source");
    std::fs::create_dir(&source).expect("a directory");
    std::fs::write(source.join("file"), "from the host").expect("a file");
    let missing = lab.stack.scratch().path("missing");
    let mount = |at: &str, of: &std::path::Path, readonly| wire::Mount {
        container_path: at.to_owned(),
        host_path: of.display().to_string(),
        readonly,
        ..Default::default()
    };
    let mut config = container("one", &["sleep"]);
    config.args = vec!["1000".to_owned()];
    config.working_dir = "/tmp".to_owned();
    config.envs = vec![wire::KeyValue {
        key: "WORD".to_owned(),
        value: b"some text".to_vec(),
    }];
    config.mounts = vec![
        mount("/data", &source, false),
        mount("/fixed", &source, true),
        mount("/made", &missing, false),
    ];
    config.tty = true;
    let id = lab.start(config);
    assert_eq!(
        lab.kubelet.says(&id, "echo $WORD $HOSTNAME; pwd"),
        "some text host-of-p\n/tmp"
    );
    assert_eq!(
        lab.kubelet.says(&id, "cat /proc/1/cmdline | tr '\\0' ' '"),
        "sleep 1000"
    );
    lab.kubelet
        .says(&id, "echo inside > /data/new; echo inside > /made/new");
    assert_eq!(
        std::fs::read_to_string(source.join("new")).expect("a file"),
        "inside\n"
    );
    assert!(missing.join("new").exists());
    let refused = lab.kubelet.exec(&id, &["touch", "/fixed/new"]);
    assert_ne!(refused.exit_code, 0);
    assert_eq!(lab.kubelet.status(&id).mounts.len(), 3);
    assert!(
        lab.kubelet
            .says(&id, "readlink /proc/1/fd/0")
            .contains("pts")
    );
}

#[test]
fn limits_are_set_and_changed() {
    let lab = lab();
    let mut config = container("one", &["sleep", "1000"]);
    let linux = config.linux.as_mut().expect("linux");
    linux.resources = Some(wire::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_shares: 512,
        oom_score_adj: 500,
        ..Default::default()
    });
    let id = lab.start(config);
    let limit = || {
        let v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let v2 = "/sys/fs/cgroup/memory.max";
        let read = format!("cat {v1} 2>/dev/null || cat {v2}");
        lab.kubelet.says(&id, &read)
    };
    assert_eq!(limit(), (64 << 20).to_string());
    assert_eq!(lab.kubelet.says(&id, "cat /proc/1/oom_score_adj"), "500");
    let request = wire::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(wire::LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            memory_swap_limit_in_bytes: 128 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    lab.kubelet
        .ok(lab.kubelet.runtime().update_container_resources(request));
    assert_eq!(limit(), (128 << 20).to_string());
    let told = lab.kubelet.status(&id).resources.and_then(|all| all.linux);
    let told = told.expect("limits");
    assert_eq!(
        (told.memory_limit_in_bytes, told.cpu_shares),
        (128 << 20, 512)
    );
}

#[test]
fn a_container_needs_a_ready_pod_and_an_image() {
    let lab = lab();
    let mut config = container("one", &["true"]);
    config.image = Some(tests::kubelet::spec("nothing:1"));
    assert_eq!(lab.create(config).unwrap_err().code(), Code::NotFound);
    let made = lab
        .create(container("made", &["true"]))
        .expect("a container");
    let request = wire::StopPodSandboxRequest {
        pod_sandbox_id: lab.pod.clone(),
    };
    lab.kubelet
        .ok(lab.kubelet.runtime().stop_pod_sandbox(request));
    let refused = lab.create(container("two", &["true"]));
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let request = wire::StartContainerRequest { container_id: made };
    let refused = lab
        .kubelet
        .ask(lab.kubelet.runtime().start_container(request));
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let mut strange = container("x", &["true"]);
    context(&mut strange).namespace_options = None;
    assert!(lab.create(strange).is_err());
}

#[test]
fn everything_that_happens_is_told() {
    let lab = lab();
    let mut events = lab.kubelet.ok(lab
        .kubelet
        .runtime()
        .get_container_events(wire::GetEventsRequest::default()));
    let id = lab.start(container("one", &["true"]));
    lab.kubelet.ended(&id);
    lab.remove(&id);
    use wire::ContainerEventType as Type;
    for wanted in [
        Type::ContainerCreatedEvent,
        Type::ContainerStartedEvent,
        Type::ContainerStoppedEvent,
        Type::ContainerDeletedEvent,
    ] {
        let next = lab
            .kubelet
            .wait(async { tokio::time::timeout(Duration::from_secs(60), events.message()).await });
        let told = next.expect("in time").expect("no error").expect("an event");
        assert_eq!(
            (told.container_id.as_str(), told.container_event_type()),
            (id.as_str(), wanted)
        );
        let status = told.pod_sandbox_status.expect("the pod's status");
        assert_eq!(status.id, lab.pod);
    }
}

#[test]
fn an_image_is_a_volume_that_cannot_be_written() {
    let lab = lab();
    let archive = lab.stack.scratch().text("volume.tar");
    let top = tests::tar::Tar::new().file("data/word", 0o644, b"of the image");
    let image = tests::image::Image::busybox().layer(top);
    std::fs::write(&archive, image.docker_archive(&["volume:1"])).expect("an archive");
    lab.stack
        .ctr(&["-n", "k8s.io", "images", "import", &archive])
        .ok();
    let volume = |at: &str, below: &str| wire::Mount {
        container_path: at.to_owned(),
        image: Some(tests::kubelet::spec("volume:1")),
        image_sub_path: below.to_owned(),
        readonly: true,
        ..Default::default()
    };
    let mut config = container("one", &["sleep", "1000"]);
    config.mounts = vec![volume("/all", ""), volume("/part", "data")];
    let id = lab.start(config);
    assert_eq!(
        lab.kubelet.says(&id, "cat /all/data/word /part/word"),
        "of the imageof the image"
    );
    assert_ne!(lab.kubelet.exec(&id, &["touch", "/all/new"]).exit_code, 0);
    let mut out = container("out", &["true"]);
    out.mounts = vec![volume("/x", "../..")];
    assert_eq!(lab.create(out).unwrap_err().code(), Code::InvalidArgument);
    let mut absent = container("absent", &["true"]);
    absent.mounts = vec![volume("/x", "no/such")];
    assert_eq!(lab.create(absent).unwrap_err().code(), Code::NotFound);
    lab.remove(&id);
    let left = std::fs::read_dir(lab.stack.state().join("volumes"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}
