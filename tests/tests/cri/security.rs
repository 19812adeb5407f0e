//! What a container may do: users, capabilities, filters, paths, devices.

use proto::runtime::v1 as wire;
use tests::kubelet::{self, Kubelet, container, context, pod};
use tests::stack::Stack;
use tonic::Code;

/// Runs a container with a changed context, and returns what `script` says.
struct Lab {
    kubelet: Kubelet,
    config: wire::PodSandboxConfig,
    pod: String,
    // Last: it finds what the rest left behind.
    _stack: Stack,
}

impl Lab {
    fn new() -> Self {
        let stack = kubelet::stack();
        let kubelet = Kubelet::of(&stack);
        kubelet.load_busybox(&stack);
        let config = pod(&stack, "p");
        let pod = kubelet.run(&config);
        Self {
            kubelet,
            config,
            pod,
            _stack: stack,
        }
    }

    #[track_caller]
    fn start(
        &self,
        name: &str,
        change: impl FnOnce(&mut wire::LinuxContainerSecurityContext),
    ) -> String {
        let mut config = container(name, &["sleep", "1000"]);
        change(context(&mut config));
        self.kubelet.start(&self.pod, &self.config, config)
    }

    #[track_caller]
    fn says(&self, id: &str, script: &str) -> String {
        self.kubelet.says(id, script)
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every message has numbers as optional fields"
)]
fn number(value: i64) -> Option<wire::Int64Value> {
    Some(wire::Int64Value { value })
}

#[test]
fn it_runs_as_whom_it_was_asked_to() {
    let lab = Lab::new();
    let id = lab.start("numbers", |context| {
        context.run_as_user = number(1234);
        context.run_as_group = number(2345);
        context.supplemental_groups = vec![3456];
    });
    assert_eq!(lab.says(&id, "id -u; id -g"), "1234\n2345");
    let groups = lab.says(&id, "id -G");
    assert!(groups.contains("3456"), "{groups}");
    let user = lab.kubelet.status(&id).user.and_then(|user| user.linux);
    let user = user.expect("a user");
    assert_eq!((user.uid, user.gid), (1234, 2345));
    assert!(user.supplemental_groups.contains(&3456));

    let mut lonely = container("lonely", &["true"]);
    context(&mut lonely).run_as_group = number(1);
    let refused = lab.kubelet.try_create(&lab.pod, &lab.config, lonely);
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn capabilities_are_added_and_dropped() {
    let lab = Lab::new();
    let effective = "grep CapEff /proc/1/status | cut -f 2";
    let usual = lab.start("usual", |_| ());
    assert_eq!(lab.says(&usual, effective), "00000000a80425fb");
    let none = lab.start("none", |context| {
        context.capabilities = Some(wire::Capability {
            drop_capabilities: vec!["ALL".to_owned()],
            add_capabilities: vec!["NET_ADMIN".to_owned()],
            ..Default::default()
        });
    });
    assert_eq!(lab.says(&none, effective), "0000000000001000");
    let privileged = lab.start("privileged", |context| context.privileged = true);
    let all = lab.says(&privileged, effective);
    // As many as this machine gives.
    let many = u64::from_str_radix(&all, 16).expect("a set").count_ones();
    assert!(many > 30, "{all}");
    let ambient = lab.start("ambient", |context| {
        context.run_as_user = number(1000);
        context.capabilities = Some(wire::Capability {
            add_ambient_capabilities: vec!["NET_RAW".to_owned()],
            ..Default::default()
        });
    });
    assert_eq!(lab.says(&ambient, effective), "0000000000002000");
    let mut odd = container("odd", &["true"]);
    context(&mut odd).capabilities = Some(wire::Capability {
        add_capabilities: vec!["FLY".to_owned()],
        ..Default::default()
    });
    let refused = lab.kubelet.try_create(&lab.pod, &lab.config, odd);
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn system_calls_are_filtered_as_the_profile_says() {
    let lab = Lab::new();
    let filter = "grep Seccomp: /proc/1/status | cut -f 2";
    let unsaid = lab.start("unsaid", |_| ());
    assert_eq!(lab.says(&unsaid, filter), "0");
    use wire::security_profile::ProfileType;
    let profile = |kind: ProfileType, path: &str| {
        Some(wire::SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: path.to_owned(),
        })
    };
    let usual = lab.start("usual", |context| {
        context.seccomp = profile(ProfileType::RuntimeDefault, "");
    });
    assert_eq!(lab.says(&usual, filter), "2");
    let file = lab._stack.scratch().text("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&file, text).expect("a profile");
    let own = lab.start("own", |context| {
        context.seccomp = profile(ProfileType::Localhost, &file);
    });
    assert_ne!(lab.kubelet.exec(&own, &["mkdir", "/tmp/new"]).exit_code, 0);
    assert_eq!(
        lab.kubelet.exec(&usual, &["mkdir", "/tmp/new"]).exit_code,
        0
    );
    let mut absent = container("absent", &["true"]);
    context(&mut absent).seccomp = profile(ProfileType::Localhost, "/no/such/profile");
    let refused = lab.kubelet.try_create(&lab.pod, &lab.config, absent);
    assert!(refused.unwrap_err().message().contains("/no/such/profile"));
}

#[test]
fn paths_are_masked_and_the_root_is_read_only_where_asked_for() {
    let lab = Lab::new();
    let id = lab.start("one", |context| {
        context.readonly_rootfs = true;
        context.no_new_privs = true;
        context.masked_paths = vec!["/proc/version".to_owned()];
        context.readonly_paths = vec!["/proc/sys".to_owned()];
    });
    assert_eq!(lab.says(&id, "cat /proc/version"), "");
    assert_ne!(lab.kubelet.exec(&id, &["touch", "/new"]).exit_code, 0);
    let write = ["sh", "-c", "echo 1 > /proc/sys/kernel/shm_rmid_forced"];
    assert_ne!(lab.kubelet.exec(&id, &write).exit_code, 0);
    assert_eq!(
        lab.says(&id, "grep NoNewPrivs /proc/1/status | cut -f 2"),
        "1"
    );
    let open = lab.start("open", |_| ());
    assert!(lab.says(&open, "cat /proc/version").contains("Linux"));
    lab.says(&open, "touch /new");
    assert_eq!(
        lab.says(&open, "grep NoNewPrivs /proc/1/status | cut -f 2"),
        "0"
    );
}

#[test]
fn devices_are_those_asked_for() {
    let lab = Lab::new();
    let mut config = container("one", &["sleep", "1000"]);
    config.devices = vec![wire::Device {
        container_path: "/dev/nothing".to_owned(),
        host_path: "/dev/null".to_owned(),
        permissions: "rw".to_owned(),
    }];
    let id = lab.kubelet.start(&lab.pod, &lab.config, config);
    lab.says(&id, "echo x > /dev/nothing");
    assert_eq!(lab.says(&id, "cat /dev/nothing"), "");
    let privileged = lab.start("privileged", |context| context.privileged = true);
    let seen: usize = lab
        .says(&privileged, "ls /dev | wc -l")
        .parse()
        .expect("a number");
    let usual: usize = lab.says(&id, "ls /dev | wc -l").parse().expect("a number");
    assert!(seen > usual, "{seen} {usual}");
}
