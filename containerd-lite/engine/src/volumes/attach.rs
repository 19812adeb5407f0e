//! Brings the sources of a new container's mounts into being: volumes are made
//! where they are missing and filled from the image at their first use, host
//! directories are made where `-v` names one that is not there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel::path::Within;
use lite_core::{Because, Kind, Result};
use serde_json::{Value, json};

use super::{CreateVolume, data_dir, make};
use crate::engine::Engine;
use crate::mounts::{MountKind, MountPoint};
use crate::rootfs;

/// Completes `mounts`, those of the new container `id`. What was made in vain
/// when this fails is listed in `made`, for the caller to take back.
///
/// # Errors
/// InvalidArgument for a source that is not there; those of storage.
pub(crate) fn attach(
    engine: &Engine,
    id: &str,
    mounts: &mut [MountPoint],
    made: &mut Vec<String>,
) -> Result<()> {
    let mut root: Option<OwnedFd> = None;
    for mount in mounts {
        match mount.kind {
            MountKind::Tmpfs => {}
            MountKind::Bind => bind_source(mount)?,
            MountKind::Volume => {
                let inherited = !mount.source.is_empty();
                let (volume, is_new) = make(
                    engine,
                    &CreateVolume {
                        name: mount.name.clone(),
                        labels: mount.labels.clone(),
                        ..CreateVolume::default()
                    },
                )?;
                mount.name = volume.name;
                if is_new {
                    made.push(mount.name.clone());
                }
                let data = data_dir(engine, &mount.name);
                mount.source = data.display().to_string();
                if !inherited && !mount.no_copy && is_empty(&data)? {
                    if root.is_none() {
                        root = Some(rootfs::open(engine, id, 0)?);
                    }
                    if let Some(root) = &root {
                        fill(root, &mount.destination, &data)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn bind_source(mount: &MountPoint) -> Result<()> {
    let source = Path::new(&mount.source);
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound && mount.create_source => {
            fs::create_dir_all(source)
                .op(|| format!("make the source of a mount, {}", mount.source))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            Err(Kind::InvalidArgument.error(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                mount.source
            )))
        }
        Err(err) => Err(err).op(|| format!("look at the source of a mount, {}", mount.source)),
    }
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(dir).op(|| format!("read {}", dir.display()))?;
    Ok(entries.next().is_none())
}

/// Copies what the image has at `path` into the empty volume at `data`.
fn fill(root: &OwnedFd, path: &str, data: &Path) -> Result<()> {
    let what = || format!("copy {path} of the image into the volume");
    let Some(from) = rootfs::directory(root, path).op(what)? else {
        return Ok(());
    };
    rootfs::copy_tree(&rootfs::path_of(&from), data).op(what)
}

/// Where the source of each mount is when the container starts: a `subpath` is
/// looked up then, inside its volume. Shared by starts and inspections.
///
/// # Errors
/// InvalidArgument for a subpath that is not there.
pub(crate) fn mount_sources(mounts: &[MountPoint]) -> Result<Vec<MountPoint>> {
    let mut resolved = mounts.to_vec();
    for mount in resolved
        .iter_mut()
        .filter(|mount| !mount.subpath.is_empty())
    {
        let what = || format!("open {:?} in volume {}", mount.subpath, mount.name);
        let volume = kernel::path::open_dir(Path::new(&mount.source)).op(what)?;
        let flags = nix::fcntl::OFlag::O_PATH.bits();
        let opened = kernel::path::open_in(
            volume.as_fd(),
            Path::new(&mount.subpath),
            flags,
            0,
            Within::Root,
        );
        let opened = opened.map_err(|err| Kind::InvalidArgument.error(what()).because(err))?;
        // The place it really is: links inside the volume have been followed.
        let place = fs::read_link(rootfs::path_of(&opened)).op(what)?;
        mount.source = place.display().to_string();
    }
    Ok(resolved)
}

/// A container's mounts, as its inspection lists them.
#[must_use]
pub(crate) fn inspect(mounts: &[MountPoint]) -> Vec<Value> {
    let shown = mounts.iter().map(|mount| match mount.kind {
        MountKind::Volume => json!({
            "Type": "volume",
            "Name": mount.name,
            "Source": mount.source,
            "Destination": mount.destination,
            "Driver": "local",
            "Mode": if mount.mode.is_empty() && !mount.anonymous { "z" } else { &mount.mode },
            "RW": mount.writable,
            "Propagation": "",
        }),
        MountKind::Bind => json!({
            "Type": "bind",
            "Source": mount.source,
            "Destination": mount.destination,
            "Mode": mount.mode,
            "RW": mount.writable,
            "Propagation": if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation },
        }),
        MountKind::Tmpfs => json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": mount.destination,
            "Mode": mount.mode,
            "RW": mount.writable,
            "Propagation": "",
        }),
    });
    shown.collect()
}
