//! A snapshot's file system as a descriptor, mounted nowhere.
//!
//! It is mounted on a directory of ours, opened, and detached at once: what keeps it alive is the descriptor, so that a daemon
//! that is killed leaves no mount behind.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use lite_core::{Because as _, Mount, Result};

/// Mounts `mounts` and returns the root. `state` is the builder's directory for what does not outlive the machine's run.
///
/// # Errors
/// Those of mounting.
pub fn open(mounts: &[Mount], state: &Path) -> Result<OwnedFd> {
    let context = || "mount a build's snapshot".to_owned();
    fs::create_dir_all(state).op(context)?;
    let dir = tempfile::Builder::new()
        .prefix("mnt")
        .tempdir_in(state)
        .op(context)?;
    let words: Vec<kernel::mount::Mount<'_>> = mounts
        .iter()
        .map(|mount| kernel::mount::Mount {
            kind: &mount.kind,
            source: &mount.source,
            target: &mount.target,
            options: &mount.options,
        })
        .collect();
    kernel::mount::mount_all(&words, dir.path()).op(context)?;
    let opened = kernel::path::open_dir(dir.path()).op(context);
    let detached = kernel::mount::detach(dir.path()).op(context);
    let root = opened?;
    detached?;
    Ok(root)
}

/// Unmounts and removes what a daemon that was killed left in `state`.
///
/// # Errors
/// Those of the file system.
pub fn clear(state: &Path) -> std::io::Result<()> {
    if !state.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(state)? {
        kernel::mount::unmount_recursive(&entry?.path())?;
    }
    fs::remove_dir_all(state)
}
