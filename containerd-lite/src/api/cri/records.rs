//! Pods and containers as the wire has them.

use std::collections::HashMap;

use cri::record::{ContainerRecord, ContainerState, PodRecord, PodState};
use proto::runtime::v1 as wire;

use super::config::{to_mount, to_namespaces, to_resources, to_signal};
use super::nanos;

fn metadata(pod: &PodRecord) -> Option<wire::PodSandboxMetadata> {
    let metadata = &pod.config.metadata;
    Some(wire::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    })
}

fn pod_state(pod: &PodRecord) -> i32 {
    match pod.state {
        PodState::Ready => wire::PodSandboxState::SandboxReady,
        PodState::Creating | PodState::NotReady => wire::PodSandboxState::SandboxNotready,
    }
    .into()
}

/// A pod in a list.
pub(super) fn pod(pod: &PodRecord) -> wire::PodSandbox {
    wire::PodSandbox {
        id: pod.id.clone(),
        metadata: metadata(pod),
        state: pod_state(pod),
        created_at: nanos(pod.created_at),
        labels: pod.config.labels.clone().into_iter().collect(),
        annotations: pod.config.annotations.clone().into_iter().collect(),
        runtime_handler: pod.handler.clone(),
    }
}

/// A pod by itself.
pub(super) fn pod_status(pod: &PodRecord) -> wire::PodSandboxStatus {
    let mut ips = pod.ips.iter().map(ToString::to_string);
    wire::PodSandboxStatus {
        id: pod.id.clone(),
        metadata: metadata(pod),
        state: pod_state(pod),
        created_at: nanos(pod.created_at),
        network: Some(wire::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| wire::PodIp { ip }).collect(),
        }),
        linux: Some(wire::LinuxPodSandboxStatus {
            namespaces: Some(wire::Namespace {
                options: Some(to_namespaces(&pod.config.security.namespaces)),
            }),
        }),
        labels: pod.config.labels.clone().into_iter().collect(),
        annotations: pod.config.annotations.clone().into_iter().collect(),
        runtime_handler: pod.handler.clone(),
    }
}

/// What people see of a pod beside its status.
pub(super) fn about_pod(pod: &PodRecord) -> HashMap<String, String> {
    let info = serde_json::json!({
        "pid": pod.pause,
        "runtimeHandler": pod.handler,
        "attached": pod.attached,
        "config": pod.config,
    });
    [("info".to_owned(), info.to_string())].into()
}

/// A state on the wire.
pub(super) fn container_state(state: ContainerState) -> i32 {
    match state {
        ContainerState::Created => wire::ContainerState::ContainerCreated,
        ContainerState::Running => wire::ContainerState::ContainerRunning,
        ContainerState::Exited => wire::ContainerState::ContainerExited,
    }
    .into()
}

fn container_metadata(container: &ContainerRecord) -> Option<wire::ContainerMetadata> {
    Some(wire::ContainerMetadata {
        name: container.config.name.clone(),
        attempt: container.config.attempt,
    })
}

fn image(container: &ContainerRecord) -> Option<wire::ImageSpec> {
    Some(wire::ImageSpec {
        image: container.config.image.clone(),
        user_specified_image: container.config.user_specified_image.clone(),
        ..Default::default()
    })
}

/// A container in a list.
pub(super) fn container(container: &ContainerRecord) -> wire::Container {
    wire::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.pod.clone(),
        metadata: container_metadata(container),
        image: image(container),
        image_ref: container.image_ref.clone(),
        state: container_state(container.state),
        created_at: nanos(container.created_at),
        labels: container.config.labels.clone().into_iter().collect(),
        annotations: container.config.annotations.clone().into_iter().collect(),
        image_id: container.image_id.clone(),
    }
}

/// A container by itself.
pub(super) fn container_status(container: &ContainerRecord) -> wire::ContainerStatus {
    let (uid, gid, groups) = &container.user;
    wire::ContainerStatus {
        id: container.id.clone(),
        metadata: container_metadata(container),
        state: container_state(container.state),
        created_at: nanos(container.created_at),
        started_at: container.started_at.map_or(0, nanos),
        finished_at: container.finished_at.map_or(0, nanos),
        exit_code: container.exit_code,
        image: image(container),
        image_ref: container.image_ref.clone(),
        reason: container.reason().to_owned(),
        message: container.message.clone(),
        labels: container.config.labels.clone().into_iter().collect(),
        annotations: container.config.annotations.clone().into_iter().collect(),
        mounts: container.config.mounts.iter().map(to_mount).collect(),
        log_path: container.log.clone(),
        resources: Some(wire::ContainerResources {
            linux: Some(to_resources(&container.resources)),
        }),
        image_id: container.image_id.clone(),
        user: Some(wire::ContainerUser {
            linux: Some(wire::LinuxContainerUser {
                uid: (*uid).into(),
                gid: (*gid).into(),
                supplemental_groups: groups.iter().map(|gid| (*gid).into()).collect(),
            }),
        }),
        stop_signal: to_signal(container.stop_signal),
    }
}

/// What people see of a container beside its status.
pub(super) fn about_container(container: &ContainerRecord) -> HashMap<String, String> {
    let info = serde_json::json!({
        "sandboxID": container.pod,
        "pid": container.pid,
        "config": container.config,
    });
    [("info".to_owned(), info.to_string())].into()
}
