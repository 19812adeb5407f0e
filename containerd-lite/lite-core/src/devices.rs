//! Devices of the host in containers: nodes, and the rules that let them be
//! used.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is in the container.
    pub path: String,
    /// A block device, else a character device.
    pub block: bool,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Out of `rwm`.
    pub access: String,
}

impl Device {
    fn kind(&self) -> &'static str {
        if self.block { "b" } else { "c" }
    }

    /// Runtime-spec `linux.devices`.
    #[must_use]
    pub fn oci(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }

    /// Runtime-spec `linux.resources.devices`.
    #[must_use]
    pub fn rule(&self) -> Value {
        json!({
            "allow": true,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "access": self.access,
        })
    }
}

/// Names in /dev that a container has of its own.
const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", ".udev", "ptmx"];

/// Adds the device at `from`, or all below it, as `to` with `access` (out of
/// `rwm`). What is no device is passed over.
///
/// # Errors
/// Those of looking at `from`.
pub fn collect(
    from: &Path,
    to: &Path,
    access: &str,
    devices: &mut Vec<Device>,
) -> std::io::Result<()> {
    let about = fs::metadata(from)?;
    if about.is_dir() {
        for entry in fs::read_dir(from)?.flatten() {
            let name = entry.file_name();
            let own = name.to_str().is_some_and(|name| OWN.contains(&name));
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if !own && !is_link {
                // What goes away meanwhile is not missed.
                let _ = collect(&entry.path(), &to.join(&name), access, devices);
            }
        }
        return Ok(());
    }
    let kind = about.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        devices.push(Device {
            path: to.display().to_string(),
            block: kind.is_block_device(),
            major: nix::sys::stat::major(about.rdev()),
            minor: nix::sys::stat::minor(about.rdev()),
            mode: about.mode() & 0o7777,
            uid: about.uid(),
            gid: about.gid(),
            access: access.to_owned(),
        });
    }
    Ok(())
}

/// Nothing, then null, zero, full, random, urandom, tty and console; the
/// runtime adds terminals and the right to make nodes by itself.
#[must_use]
pub fn default_rules() -> Vec<Value> {
    let allow = |major: u32, minor: u32| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules
        .extend([(1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1)].map(|(a, b)| allow(a, b)));
    rules
}
