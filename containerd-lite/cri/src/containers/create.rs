//! Makes a container: its name, its root file system, its spec, its record.
//! Nothing runs yet.

use std::path::{Component, Path};
use std::time::SystemTime;

use lite_core::devices::Device;
use lite_core::ids::Id;
use lite_core::image::ResolvedImage;
use lite_core::user::{self, User};
use lite_core::{AnyValue, Because, Kind, Labels, Mount, OVERLAYFS, Result, devices, stacked};
use nix::sys::signal::Signal;

use super::{image_volumes, sources};
use crate::config::{ContainerConfig, Mode, Profile, Security};
use crate::events::{Event, What};
use crate::handlers;
use crate::hub::{Cri, absent_is_fine, container_name, extension_of};
use crate::images::{self, CriImage};
use crate::namespaces::Place;
use crate::record::{ContainerRecord, ContainerState, EXTENSION, PodRecord, PodState};
use crate::spec::{self, Inputs};

/// The type of a spec in a container's record.
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Makes the container that `config` describes in the pod `pod`; returns its
/// id.
///
/// # Errors
/// NotFound for pod and image; FailedPrecondition for a pod that is not ready;
/// InvalidArgument for what cannot be; AlreadyExists for a container of the
/// same name and attempt. Then nothing is left.
pub async fn create(cri: &Cri, pod: &str, config: ContainerConfig) -> Result<String> {
    let pod = cri.pod(pod)?;
    if pod.state != PodState::Ready {
        return Err(Kind::FailedPrecondition.error(format!("pod sandbox {} is not ready", pod.id)));
    }
    if config.name.is_empty() {
        return Err(Kind::InvalidArgument.error("container: its metadata needs a name"));
    }
    if !config.cdi_devices.is_empty() {
        return Err(Kind::Unimplemented.error(format!(
            "container {}: devices by CDI are not offered",
            config.name
        )));
    }
    let target = target(cri, &pod, &config.security)?;
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let id = id.as_str().to_owned();
    let name = cri.take_name(container_name(&pod.id, &config.name, config.attempt), &id)?;
    let of_pod = pod.id.clone();
    let cri = cri.clone();
    // On a thread of its own: a caller that leaves half way must not leave
    // half a container.
    let (made, cri) = lite_core::blocking(move || {
        let mounts = config.mounts.clone();
        let made = make(&cri, &pod, &id, config, target);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = image_volumes::remove(&cri, &id, &mounts);
            let _ = absent_is_fine(cri.core().snapshots.remove(cri.ns(), OVERLAYFS, &id));
        }
        Ok((made?, cri))
    })
    .await?;
    let id = made.id.clone();
    cri.show_container(made.into());
    name.keep();
    cri.emit(Event::now(What::Created, &id, &of_pod));
    Ok(id)
}

/// The process whose namespace is joined, where that of another container is.
fn target(cri: &Cri, pod: &PodRecord, security: &Security) -> Result<Option<u32>> {
    if security.namespaces.pid != Mode::Target {
        return Ok(None);
    }
    let other = cri.container(&security.namespaces.target)?;
    if other.pod != pod.id {
        return Err(Kind::InvalidArgument.error(format!(
            "container {} is not in pod sandbox {}",
            other.id, pod.id
        )));
    }
    if other.state != ContainerState::Running {
        return Err(Kind::FailedPrecondition.error(format!(
            "container {} is not running: there are no processes to share",
            other.id
        )));
    }
    Ok(Some(other.pid))
}

fn make(
    cri: &Cri,
    pod: &PodRecord,
    id: &str,
    config: ContainerConfig,
    target: Option<u32>,
) -> Result<ContainerRecord> {
    let what = || format!("create container {}", config.name);
    let image = images::look_up(cri, &config.image)?.ok_or_else(|| {
        Kind::NotFound.error(format!(
            "image {:?}: not found: pull it first",
            config.image
        ))
    })?;
    let (core, ns) = (cri.core(), cri.ns());
    let resolved = &image.resolved;
    unpacked(cri, resolved).op(what)?;
    let chain = resolved
        .chain_id
        .as_ref()
        .map_or("", lite_core::Digest::as_str);
    let rootfs = core
        .snapshots
        .prepare(ns, OVERLAYFS, id, chain, &kept())
        .op(what)?;
    let user = who(&config.security, resolved, &rootfs).op(what)?;
    let log = log_path(pod, &config)?;
    let place = Place::at(cri.pod_dir(&pod.id));
    let profile = profile(&config.security)?;
    let inputs = Inputs {
        id,
        config: &config,
        image: &resolved.image_config,
        pod,
        place: &place,
        mounts: &sources::find(cri, id, &config).op(what)?,
        devices: &devices_of(&config).op(what)?,
        user: &user,
        seccomp: profile.as_deref(),
        target,
        host: cri.host(),
        settings: cri.config(),
    };
    let spec = spec::build(&inputs).op(what)?;
    let record = ContainerRecord {
        id: id.to_owned(),
        pod: pod.id.clone(),
        image_id: image.id.clone(),
        image_ref: image.digests.first().unwrap_or(&image.id).clone(),
        log,
        state: ContainerState::Created,
        created_at: SystemTime::now(),
        started_at: None,
        finished_at: None,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        oom: false,
        pid: 0,
        resources: config.resources.clone(),
        user: (user.uid, user.gid, user.groups.clone()),
        stop_signal: config.stop_signal.unwrap_or_else(|| stop_signal(resolved)),
        config,
    };
    core.containers
        .create(ns, stored(cri, pod, &record, &image, &spec)?)?;
    Ok(record)
}

/// The label of snapshots that collection leaves alone: they are there before
/// the record that uses them, and go with it.
pub(super) fn kept() -> Labels {
    [(lite_core::gc::ROOT.to_owned(), "cri".to_owned())].into()
}

/// The record as the core has it.
fn stored(
    cri: &Cri,
    pod: &PodRecord,
    record: &ContainerRecord,
    image: &CriImage,
    spec: &serde_json::Value,
) -> Result<lite_core::Container> {
    let spec =
        serde_json::to_vec(spec).map_err(|err| Kind::Internal.error("encode spec").because(err))?;
    Ok(lite_core::Container {
        id: record.id.clone(),
        labels: [("io.cri-containerd.kind".to_owned(), "container".to_owned())].into(),
        image: image
            .tags
            .first()
            .or(image.digests.first())
            .unwrap_or(&image.id)
            .clone(),
        runtime: handlers::find(cri, &pod.handler)?.runtime,
        spec: Some(AnyValue {
            type_url: SPEC_TYPE.to_owned(),
            value: spec,
        }),
        snapshotter: OVERLAYFS.to_owned(),
        snapshot_key: record.id.clone(),
        extensions: [(EXTENSION.to_owned(), extension_of(record)?)].into(),
        sandbox: record.pod.clone(),
        ..lite_core::Container::default()
    })
}

/// Makes sure that the layers are there as snapshots.
pub(super) fn unpacked(cri: &Cri, resolved: &ResolvedImage) -> Result<()> {
    let (core, ns) = (cri.core(), cri.ns());
    let Some(top) = &resolved.chain_id else {
        return Ok(());
    };
    match core.snapshots.stat(ns, OVERLAYFS, top.as_str()) {
        Err(err) if err.kind() == Kind::NotFound => {
            lite_core::unpack(core, ns, OVERLAYFS, resolved, &mut |_| {}).map(drop)
        }
        found => found.map(drop),
    }
}

/// Who the container runs as: by what was asked for, else by its image.
fn who(security: &Security, image: &ResolvedImage, rootfs: &[Mount]) -> Result<User> {
    let of_image = image.image_config.config().as_ref();
    let of_image = of_image
        .and_then(|config| config.user().clone())
        .unwrap_or_default();
    let typed = match (security.user, security.username.as_str(), security.group) {
        (None, "", None) => of_image,
        (None, "", Some(_)) => {
            return Err(Kind::InvalidArgument.error("a group needs a user beside it"));
        }
        (Some(user), _, None) => user.to_string(),
        (Some(user), _, Some(group)) => format!("{user}:{group}"),
        (None, name, None) => name.to_owned(),
        (None, name, Some(group)) => format!("{name}:{group}"),
    };
    let layers = stacked::of_mounts(rootfs);
    let read =
        |path: &str| stacked::read_text(&layers, path).op(|| format!("read {path} of the image"));
    let group = read("/etc/group")?;
    let bad = |err: user::BadUser| Kind::InvalidArgument.error(err.to_string());
    let mut user = user::resolve(&typed, &read("/etc/passwd")?, &group).map_err(bad)?;
    if security.strict_groups {
        user.groups = vec![user.gid];
    } else {
        // Also those that the image's own files give the user by its name,
        // whatever group was asked for.
        let own = typed.split(':').next().unwrap_or_default();
        let by_name = user::resolve(own, &read("/etc/passwd")?, &group).map_err(bad)?;
        let further = by_name.groups.into_iter().filter(|gid| *gid != by_name.gid);
        add(&mut user.groups, further);
    }
    for gid in &security.groups {
        let gid = u32::try_from(*gid)
            .map_err(|_| Kind::InvalidArgument.error(format!("group {gid} is no id")))?;
        add(&mut user.groups, [gid]);
    }
    Ok(user)
}

fn add(groups: &mut Vec<u32>, more: impl IntoIterator<Item = u32>) {
    for gid in more {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
}

/// Where output is logged; empty: nowhere.
fn log_path(pod: &PodRecord, config: &ContainerConfig) -> Result<String> {
    if config.log_path.is_empty() || pod.config.log_directory.is_empty() {
        return Ok(String::new());
    }
    let below = Path::new(&config.log_path);
    let stays = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !stays {
        return Err(Kind::InvalidArgument.error(format!(
            "log path {:?}: expected one below the pod's log directory",
            config.log_path
        )));
    }
    let path = Path::new(&pod.config.log_directory).join(below);
    Ok(path.display().to_string())
}

/// The text of a profile of the host, where one is named.
fn profile(security: &Security) -> Result<Option<String>> {
    let Some(Profile::Localhost(path)) = &security.seccomp else {
        return Ok(None);
    };
    let path = path.strip_prefix("localhost/").unwrap_or(path);
    let text = std::fs::read_to_string(path).op(|| format!("read seccomp profile {path}"))?;
    Ok(Some(text))
}

/// Devices beside those that every container has.
fn devices_of(config: &ContainerConfig) -> Result<Vec<Device>> {
    let mut found = Vec::new();
    if config.security.privileged {
        devices::collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut found)
            .op(|| "read /dev".to_owned())?;
    }
    for device in &config.devices {
        let (from, to) = (
            Path::new(&device.host_path),
            Path::new(&device.container_path),
        );
        found.retain(|other| Path::new(&other.path) != to);
        devices::collect(from, to, &device.permissions, &mut found)
            .op(|| format!("device {}", device.host_path))?;
    }
    Ok(found)
}

/// The signal that the image wants at the end.
fn stop_signal(image: &ResolvedImage) -> u32 {
    let typed = image.image_config.config().as_ref();
    let typed = typed.and_then(|config| config.stop_signal().clone());
    let typed = typed.unwrap_or_default();
    let number = typed.parse().ok().or_else(|| {
        let upper = typed.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        // Names that are none are passed over: an image cannot be mended here.
        name.parse::<Signal>()
            .ok()
            .and_then(|signal| u32::try_from(signal as i32).ok())
    });
    number.unwrap_or(15)
}
