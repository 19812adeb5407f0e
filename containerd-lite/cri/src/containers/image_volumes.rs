//! Images as volumes: the content of an image, mounted read-only into a
//! container.
//!
//! Each is a view of the image's layers, named by container and number, and
//! mounted below `<state>/volumes/<container>/`, from where the container
//! gets it as any other directory. Both go with the container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kernel::path::Within;
use lite_core::{Because, Kind, OVERLAYFS, Result};

use super::create::{kept, unpacked};
use crate::config::Mount;
use crate::hub::{Cri, absent_is_fine};
use crate::images;

/// The content of `image`, or its part `below`, for the container `id`;
/// `number` tells its volumes apart.
///
/// # Errors
/// NotFound for the image or the part; what the kernel says.
pub(super) fn mount(
    cri: &Cri,
    id: &str,
    number: usize,
    image: &str,
    below: &str,
) -> Result<PathBuf> {
    let found = images::look_up(cri, image)?.ok_or_else(|| {
        Kind::NotFound.error(format!("image {image:?}: not found: pull it first"))
    })?;
    unpacked(cri, &found.resolved)?;
    let place = dir(cri, id).join(number.to_string());
    let what = || format!("mount image {image} on {}", place.display());
    fs::create_dir_all(&place).op(what)?;
    let chain = found.resolved.chain_id.as_ref();
    let chain = chain.map_or("", lite_core::Digest::as_str);
    let (snapshots, key) = (&cri.core().snapshots, key(id, number));
    let mounts = snapshots.view(cri.ns(), OVERLAYFS, &key, chain, &kept())?;
    let words: Vec<kernel::mount::Mount<'_>> = mounts
        .iter()
        .map(|mount| kernel::mount::Mount {
            kind: &mount.kind,
            source: &mount.source,
            target: &mount.target,
            options: &mount.options,
        })
        .collect();
    kernel::mount::mount_all(&words, &place).op(what)?;
    if below.is_empty() {
        return Ok(place);
    }
    inside(&place, below)
}

/// The directory `below` of the mount at `place`; links of the image do not
/// lead out of it.
fn inside(place: &Path, below: &str) -> Result<PathBuf> {
    use std::os::fd::{AsFd, AsRawFd};
    let what = || format!("part {below:?} of the image");
    if Path::new(below).is_absolute() || below.split('/').any(|part| part == "..") {
        return Err(Kind::InvalidArgument.error(format!("{}: expected a relative path", what())));
    }
    let root = kernel::path::open_dir(place).op(what)?;
    let flags = nix::fcntl::OFlag::O_PATH;
    let opened = kernel::path::open_in(
        root.as_fd(),
        Path::new(below),
        flags.bits(),
        0,
        Within::Root,
    )
    .op(what)?;
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).op(what)
}

/// Unmounts and removes the volumes of the container `id`, which was made with
/// so many mounts; those that are not there are fine.
///
/// # Errors
/// Those of removing files and views.
pub(super) fn remove(cri: &Cri, id: &str, mounts: &[Mount]) -> Result<()> {
    let dir = dir(cri, id);
    for (number, mount) in mounts.iter().enumerate() {
        if mount.image.is_empty() {
            continue;
        }
        let place = dir.join(number.to_string());
        // Nothing is mounted there after a boot, or where the making was cut
        // short.
        let _ = kernel::mount::detach(&place);
        gone(fs::remove_dir(&place)).op(|| format!("remove {}", place.display()))?;
        let removed = cri
            .core()
            .snapshots
            .remove(cri.ns(), OVERLAYFS, &key(id, number));
        absent_is_fine(removed)?;
    }
    gone(fs::remove_dir(&dir)).op(|| format!("remove {}", dir.display()))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn key(id: &str, number: usize) -> String {
    format!("{id}-volume-{number}")
}

fn dir(cri: &Cri, id: &str) -> PathBuf {
    cri.core().config.state.join("volumes").join(id)
}
