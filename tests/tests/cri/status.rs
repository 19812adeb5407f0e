//! What the runtime says of itself.

use proto::runtime::v1 as wire;
use tests::kubelet::{self, Kubelet};
use tonic::Code;

#[test]
fn it_tells_its_version_its_state_and_how_it_names_cgroups() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let version = kubelet.ok(kubelet.runtime().version(wire::VersionRequest::default()));
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("containerd-lite", "v1")
    );
    assert!(!version.runtime_version.is_empty());

    let asked = wire::StatusRequest { verbose: true };
    let told = kubelet.ok(kubelet.runtime().status(asked));
    let conditions = told.status.expect("a status").conditions;
    for name in ["RuntimeReady", "NetworkReady"] {
        let is_ready = conditions
            .iter()
            .any(|one| one.r#type == name && one.status);
        assert!(is_ready, "{name} in {conditions:?}");
    }
    let root = stack.root().display().to_string();
    assert!(told.info["config"].contains(&root), "{:?}", told.info);

    let asked = wire::RuntimeConfigRequest {};
    let config = kubelet.ok(kubelet.runtime().runtime_config(asked));
    let driver = config.linux.expect("linux").cgroup_driver();
    assert_eq!(driver, wire::CgroupDriver::Cgroupfs);
}

#[test]
fn what_is_not_there_says_so() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let request = wire::CheckpointContainerRequest::default();
    let refused = kubelet.ask(kubelet.runtime().checkpoint_container(request));
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}
