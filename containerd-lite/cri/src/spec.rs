//! The runtime-spec configuration of a container: one pure function of what
//! was asked for, the image, the pod and the facts of the host.
//!
//! [`process`] says what runs and as whom, [`mounts`] what it sees, [`limits`]
//! what it may use, [`namespaces`] what it shares.

pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod process;

use lite_core::devices::{Device, default_rules};
use lite_core::seccomp;
use lite_core::user::User;
use lite_core::{Kind, Result};
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use crate::config::{ContainerConfig, PodConfig, Profile, Propagation};
use crate::host::Host;
use crate::hub::CriConfig;
use crate::namespaces::Place;
use crate::record::PodRecord;

/// Everything that a spec is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// As it was asked for.
    pub(crate) config: &'a ContainerConfig,
    /// Its image.
    pub(crate) image: &'a ImageConfiguration,
    /// Its pod.
    pub(crate) pod: &'a PodRecord,
    /// Where what the pod shares is.
    pub(crate) place: &'a Place,
    /// Mounts with sources that exist.
    pub(crate) mounts: &'a [Value],
    /// Devices beside those that every container has.
    pub(crate) devices: &'a [Device],
    /// Who it runs as.
    pub(crate) user: &'a User,
    /// The text of a seccomp profile of the host.
    pub(crate) seccomp: Option<&'a str>,
    /// The pid whose process namespace is joined, where it is a target's.
    pub(crate) target: Option<u32>,
    /// The host.
    pub(crate) host: &'a Host,
    /// The settings.
    pub(crate) settings: &'a CriConfig,
}

/// The whole `config.json`.
///
/// # Errors
/// InvalidArgument for what cannot be: a capability, a profile, no command.
pub(crate) fn build(inputs: &Inputs<'_>) -> Result<Value> {
    let security = &inputs.config.security;
    let mut process = process::main(inputs)?;
    if let Some(label) = label(inputs) {
        process["selinuxLabel"] = json!(label);
    }
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": "rootfs", "readonly": security.readonly_rootfs },
        "mounts": mounts::all(inputs),
        "annotations": annotations(inputs),
        "linux": linux(inputs)?,
    }))
}

/// The process's label; the pod's where the container has none.
fn label(inputs: &Inputs<'_>) -> Option<String> {
    if !inputs.host.selinux || inputs.config.security.privileged {
        return None;
    }
    let own = inputs.config.security.selinux.as_ref();
    let of_pod = inputs.pod.config.security.selinux.as_ref();
    own.or(of_pod)?.label()
}

fn linux(inputs: &Inputs<'_>) -> Result<Value> {
    let security = &inputs.config.security;
    let mut linux = json!({
        "resources": resources(inputs),
        "cgroupsPath": cgroups_path(inputs.settings, &inputs.pod.config, inputs.id),
        "namespaces": namespaces::of_container(inputs),
        "maskedPaths": security.masked_paths,
        "readonlyPaths": security.readonly_paths,
    });
    if security.privileged {
        linux["maskedPaths"] = json!([]);
        linux["readonlyPaths"] = json!([]);
    }
    if let Some(profile) = seccomp(inputs)? {
        linux["seccomp"] = profile;
    }
    if !inputs.devices.is_empty() {
        linux["devices"] = inputs.devices.iter().map(Device::oci).collect();
    }
    let widest = inputs.config.mounts.iter().map(|mount| mount.propagation);
    let has = |wanted| widest.clone().any(|one| one == wanted);
    if has(Propagation::Bidirectional) {
        linux["rootfsPropagation"] = json!("rshared");
    } else if has(Propagation::HostToContainer) {
        linux["rootfsPropagation"] = json!("rslave");
    }
    Ok(linux)
}

fn resources(inputs: &Inputs<'_>) -> Value {
    let mut resources = limits::resources(&inputs.config.resources, inputs.host);
    let rules = if inputs.config.security.privileged {
        vec![json!({ "allow": true, "access": "rwm" })]
    } else {
        let own = inputs.devices.iter().map(Device::rule);
        default_rules().into_iter().chain(own).collect()
    };
    resources["devices"] = json!(rules);
    resources
}

/// The filter of system calls. Nothing said means none, as in containerd.
fn seccomp(inputs: &Inputs<'_>) -> Result<Option<Value>> {
    let security = &inputs.config.security;
    if security.privileged {
        return Ok(None);
    }
    let caps = process::capabilities(security, inputs.host.last_capability)?.bounding;
    let facts = seccomp::Facts {
        arch: &inputs.host.arch,
        kernel: inputs.host.kernel,
        caps: &caps,
    };
    Ok(match (&security.seccomp, inputs.seccomp) {
        (None | Some(Profile::Unconfined), _) => None,
        (Some(Profile::RuntimeDefault), _) => Some(seccomp::resolve(&facts)),
        (Some(Profile::Localhost(_)), Some(text)) => Some(seccomp::custom(text, &facts)?),
        (Some(Profile::Localhost(path)), None) => {
            return Err(Kind::InvalidArgument.error(format!("seccomp profile {path:?}: not read")));
        }
    })
}

/// Where the cgroup is: below the pod's, as a path or as systemd has it.
pub(crate) fn cgroups_path(settings: &CriConfig, pod: &PodConfig, id: &str) -> String {
    let parent = if pod.cgroup_parent.is_empty() {
        &settings.cgroup_parent
    } else {
        &pod.cgroup_parent
    };
    if settings.systemd_cgroup {
        let slice = parent.rsplit('/').next().unwrap_or_default();
        return format!("{slice}:cri-containerd:{id}");
    }
    format!("/{}/{id}", parent.trim_matches('/'))
}

/// What tells the shim, and other programs, whose container it is.
fn annotations(inputs: &Inputs<'_>) -> Value {
    let metadata = &inputs.pod.config.metadata;
    json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": inputs.pod.id,
        "io.kubernetes.cri.sandbox-name": metadata.name,
        "io.kubernetes.cri.sandbox-namespace": metadata.namespace,
        "io.kubernetes.cri.sandbox-uid": metadata.uid,
        "io.kubernetes.cri.container-name": inputs.config.name,
        "io.kubernetes.cri.image-name": inputs.config.image,
    })
}
