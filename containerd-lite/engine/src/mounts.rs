//! What is mounted in a container beside the image: parsed from what was
//! typed, put together by Docker's rules, and written as runtime-spec mounts.
//! No I/O: volumes are made and sources looked at by whoever applies the plan.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use lite_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host_config::{HostConfig, MountRequest};

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// One mount of a container, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What it is.
    pub kind: MountKind,
    /// Of a volume; empty until an anonymous one has been made.
    #[serde(default)]
    pub name: String,
    /// Path on the host; of a volume known once it has been made.
    #[serde(default)]
    pub source: String,
    /// Where it is in the container: absolute, without `.` and `..`.
    pub destination: String,
    /// Options as typed.
    #[serde(default)]
    pub mode: String,
    /// It can be written.
    pub writable: bool,
    /// Of a bind; empty means `rprivate`.
    #[serde(default)]
    pub propagation: String,
    /// Goes with the container when volumes are asked for.
    #[serde(default)]
    pub anonymous: bool,
    /// Of a volume: the image's content is not copied in.
    #[serde(default)]
    pub no_copy: bool,
    /// Of a bind: without what is mounted below.
    #[serde(default)]
    pub non_recursive: bool,
    /// Of a bind: the source is made where it is missing.
    #[serde(default)]
    pub create_source: bool,
    /// Of a volume: the directory in it.
    #[serde(default)]
    pub subpath: String,
    /// Of a tmpfs: its options.
    #[serde(default)]
    pub options: Vec<String>,
    /// Of a volume that has to be made.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl MountPoint {
    fn new(kind: MountKind, destination: String) -> Self {
        Self {
            kind,
            name: String::new(),
            source: String::new(),
            destination,
            mode: String::new(),
            writable: true,
            propagation: String::new(),
            anonymous: false,
            no_copy: false,
            non_recursive: false,
            create_source: false,
            subpath: String::new(),
            options: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Kind::InvalidArgument.error(text.into())
}

/// The mounts of a new container: `inherited` ones of `--volumes-from`, over
/// them what was typed, and anonymous volumes for what the image declares and
/// nobody has covered. In the order in which they must be mounted.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn plan(
    host: &HostConfig,
    image_volumes: &[String],
    inherited: Vec<MountPoint>,
) -> Result<Vec<MountPoint>> {
    let mut own: Vec<MountPoint> = Vec::new();
    for text in &host.binds {
        own.push(parse_bind(text)?);
    }
    for request in &host.mounts {
        own.push(of_request(request)?);
    }
    for text in &host.tmpfs {
        own.push(parse_tmpfs(text)?);
    }
    for (at, mount) in own.iter().enumerate() {
        if own[..at]
            .iter()
            .any(|other| other.destination == mount.destination)
        {
            return Err(invalid(format!(
                "Duplicate mount point: {}",
                mount.destination
            )));
        }
    }
    let mut all = inherited;
    all.retain(|mount| {
        !own.iter()
            .any(|other| other.destination == mount.destination)
    });
    all.extend(own);
    for path in image_volumes {
        let destination =
            clean(path).ok_or_else(|| invalid(format!("invalid volume of the image: {path}")))?;
        if !all.iter().any(|mount| mount.destination == destination) {
            let mut mount = MountPoint::new(MountKind::Volume, destination);
            mount.anonymous = true;
            all.push(mount);
        }
    }
    // A parent is mounted before what is mounted in it.
    all.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    Ok(all)
}

/// `/a/b` of what was typed as `/a/./b/`; `None` where it is not absolute.
fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(format!("/{}", parts.join("/")))
}

fn target(text: &str, whole: &str) -> Result<String> {
    match clean(text) {
        None => Err(invalid(format!(
            "invalid volume specification: '{whole}': invalid mount config for type \"volume\": invalid mount path: '{text}' mount path must be absolute"
        ))),
        Some(path) if path == "/" => Err(invalid(format!(
            "invalid volume specification: '{whole}': invalid mount config for type \"volume\": invalid specification: destination can't be '/'"
        ))),
        Some(path) => Ok(path),
    }
}

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// `source:target[:options]`, or `target` alone for an anonymous volume.
fn parse_bind(text: &str) -> Result<MountPoint> {
    let bad = || invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(bad()),
    };
    if destination.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(bad());
    }
    let kind = if source.starts_with('/') {
        MountKind::Bind
    } else {
        MountKind::Volume
    };
    let mut mount = MountPoint::new(kind, target(destination, text)?);
    match kind {
        MountKind::Bind => {
            mount.source = clean(source).unwrap_or_default();
            mount.create_source = true;
        }
        MountKind::Volume | MountKind::Tmpfs => {
            mount.name = source.to_owned();
            mount.anonymous = source.is_empty();
        }
    }
    options.clone_into(&mut mount.mode);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => mount.writable = true,
            "ro" => mount.writable = false,
            "nocopy" if kind == MountKind::Volume => mount.no_copy = true,
            // SELinux labels, and hints for other systems' file sharing.
            "z" | "Z" | "cached" | "consistent" | "delegated" => {}
            _ if kind == MountKind::Bind && PROPAGATIONS.contains(&option) => {
                option.clone_into(&mut mount.propagation);
            }
            _ => return Err(invalid(format!("invalid mode: {options}"))),
        }
    }
    Ok(mount)
}

fn of_request(request: &MountRequest) -> Result<MountPoint> {
    let kind = match request.kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" | "" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        other => {
            return Err(invalid(format!(
                "invalid mount config for type {other:?}: mount type unknown"
            )));
        }
    };
    let name = if request.kind.is_empty() {
        "volume"
    } else {
        &request.kind
    };
    let bad = |why: &str| invalid(format!("invalid mount config for type {name:?}: {why}"));
    if request.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    let destination = match clean(&request.target) {
        None => {
            return Err(bad(&format!(
                "invalid mount path: '{}' mount path must be absolute",
                request.target
            )));
        }
        Some(path) if path == "/" => {
            return Err(bad("invalid specification: destination can't be '/'"));
        }
        Some(path) => path,
    };
    let mut mount = MountPoint::new(kind, destination);
    mount.writable = !request.read_only;
    mount.non_recursive = request.non_recursive;
    mount.no_copy = request.no_copy;
    mount.labels.clone_from(&request.labels);
    match kind {
        MountKind::Bind => {
            if request.source.is_empty() {
                return Err(bad("field Source must not be empty"));
            }
            mount.source = clean(&request.source).ok_or_else(|| {
                bad(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    request.source
                ))
            })?;
            if !request.propagation.is_empty()
                && !PROPAGATIONS.contains(&request.propagation.as_str())
            {
                return Err(bad(&format!(
                    "invalid propagation mode: {}",
                    request.propagation
                )));
            }
            mount.propagation.clone_from(&request.propagation);
            mount.create_source = request.create_source;
        }
        MountKind::Volume => {
            mount.name.clone_from(&request.source);
            mount.anonymous = request.source.is_empty();
            mount.subpath = subpath(&request.subpath).ok_or_else(|| {
                bad(&format!(
                    "subpath {:?} must be a relative path within the volume",
                    request.subpath
                ))
            })?;
        }
        MountKind::Tmpfs => {
            if !request.source.is_empty() {
                return Err(bad("field Source must not be specified"));
            }
            if let Some(bytes) = request.tmpfs_bytes {
                mount.options.push(format!("size={bytes}"));
            }
            if let Some(mode) = request.tmpfs_mode {
                mount.options.push(format!("mode={mode:o}"));
            }
        }
    }
    Ok(mount)
}

/// A path that stays below; `None` for one that does not.
fn subpath(text: &str) -> Option<String> {
    let stays = Path::new(text)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    stays.then(|| text.to_owned())
}

/// `target[:options]` of `--tmpfs`.
fn parse_tmpfs(text: &str) -> Result<MountPoint> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let destination = match clean(destination) {
        Some(path) if path != "/" => path,
        _ => {
            return Err(invalid(format!(
                "invalid mount config for type \"tmpfs\": invalid mount path: '{destination}' mount path must be absolute"
            )));
        }
    };
    let mut mount = MountPoint::new(MountKind::Tmpfs, destination);
    options.clone_into(&mut mount.mode);
    mount.options = options
        .split(',')
        .filter(|option| !option.is_empty())
        .map(str::to_owned)
        .collect();
    mount.writable = !mount.options.iter().any(|option| option == "ro");
    Ok(mount)
}

/// The mounts of another container, for `--volumes-from CONTAINER[:MODE]`.
///
/// # Errors
/// InvalidArgument for the mode.
pub fn inherit(mounts: &[MountPoint], mode: &str) -> Result<Vec<MountPoint>> {
    let read_only = match mode {
        "" | "rw" | "z" | "Z" => false,
        "ro" => true,
        _ => return Err(invalid(format!("invalid mode for volumes-from: {mode}"))),
    };
    let taken = mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs);
    Ok(taken
        .cloned()
        .map(|mut mount| {
            mount.writable &= !read_only;
            mount
        })
        .collect())
}

/// One mount as the runtime-spec has it.
#[must_use]
pub fn oci(mount: &MountPoint) -> Value {
    let mut options: Vec<String> = Vec::new();
    if mount.kind == MountKind::Tmpfs {
        // Docker's defaults, which a mode that was typed may take back.
        options.extend(["noexec", "nosuid", "nodev"].map(str::to_owned));
        options.extend(mount.options.iter().cloned());
        if !mount.writable && !mount.options.iter().any(|option| option == "ro") {
            options.push("ro".to_owned());
        }
        return json!({
            "destination": mount.destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": options,
        });
    }
    options.push(if mount.non_recursive { "bind" } else { "rbind" }.to_owned());
    let propagation = if mount.propagation.is_empty() {
        "rprivate"
    } else {
        &mount.propagation
    };
    options.push(propagation.to_owned());
    if !mount.writable {
        options.push("ro".to_owned());
        if !mount.non_recursive {
            options.push("rro".to_owned());
        }
    }
    json!({
        "destination": mount.destination,
        "type": "bind",
        "source": mount.source,
        "options": options,
    })
}

/// How the root must be mounted for the propagations asked for.
#[must_use]
pub fn rootfs_propagation(mounts: &[MountPoint]) -> Option<&'static str> {
    let any = |word: &str| mounts.iter().any(|mount| mount.propagation.ends_with(word));
    match (any("shared"), any("slave")) {
        (true, _) => Some("shared"),
        (false, true) => Some("rslave"),
        (false, false) => None,
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
