//! Landlock rules out of a config's mounts, for a config that asks for them by the annotation [`ANNOTATION`]. Pure.
//!
//! The container's processes get for each mount the rights that the mount leaves them: a read-only one may be read, one without
//! `noexec` be executed from, and so on. What lies nowhere below a mount of the config, as a directory of the host whose
//! descriptor leaked, they cannot open at all; and a process under Landlock may not mount, unmount or move a root, whatever its
//! capabilities are. So a read-only mount stays one.
//!
//! The kernel adds up the rights of all places on the way to the root: a mount can be shut no further than what it lies in. The
//! rules are therefore exact for a read-only rootfs with writable mounts, and never stricter than the mounts. Two exceptions:
//! fifos on a read-only mount cannot be written to, and a mount that is added later has the rights of the place it is mounted on.

use std::fmt;
use std::path::{Path, PathBuf};

use kernel::landlock::{
    CHANGE_DIR, EXECUTE, IOCTL_DEVICE, MAKE_DEVICE, READ_DIR, READ_FILE, TRUNCATE, WRITE_FILE,
    known,
};
use kernel::mount::{NODEV, NOEXEC, RDONLY};

use crate::failure::{Failure, Result};
use crate::mount_options::Mounting;
use crate::state::annotations;
use oci_spec::runtime::Spec;

/// Its one value is [`BY_MOUNTS`].
pub(crate) const ANNOTATION: &str = "dev.runc-rs.landlock";

/// The rules follow from the mounts.
pub(crate) const BY_MOUNTS: &str = "mounts";

/// Before it, a process under Landlock could not move files between directories (Linux 5.19).
const OLDEST: u32 = 2;

/// Rights by place; whatever is handled and not allowed is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) handled: u64,
    /// The root first, then the config's mounts in their order.
    pub(crate) allowed: Vec<(PathBuf, u64)>,
}

/// The rules that `spec` asks for; `version` is that of the kernel's Landlock.
pub(crate) fn policy(
    spec: &Spec,
    mounts: &[Mounting],
    readonly_rootfs: bool,
    version: u32,
) -> Result<Option<Policy>> {
    let all = annotations(spec);
    let Some(value) = all.get(ANNOTATION) else {
        return Ok(None);
    };
    if *value != BY_MOUNTS {
        return Err(Failure::new(format!(
            "config.json: /annotations/{ANNOTATION}: expected {BY_MOUNTS:?}, got {value:?}"
        )));
    }
    if version < OLDEST {
        return Err(Failure::new(format!(
            "config.json: /annotations/{ANNOTATION}: this kernel has {}, version {OLDEST} (Linux 5.19) is needed; it may have to be turned on by lsm= on the kernel's command line",
            if version == 0 {
                "no Landlock".to_owned()
            } else {
                format!("version {version} of Landlock")
            }
        )));
    }
    let handled = known(version);
    let root = if readonly_rootfs { RDONLY } else { 0 };
    let mut allowed = vec![(PathBuf::from("/"), rights(root, Path::new("/")) & handled)];
    for mount in mounts {
        let attributes = (mount.set | mount.recursive_set) & !mount.recursive_clear;
        let rights = rights(attributes, &mount.destination) & handled;
        allowed.retain(|(place, _)| *place != mount.destination);
        allowed.push((mount.destination.clone(), rights));
    }
    Ok(Some(Policy { handled, allowed }))
}

/// What a mount with these attributes leaves to do. Devices on a read-only one can be written to all the same.
fn rights(attributes: u64, place: &Path) -> u64 {
    let mut rights = READ_FILE | READ_DIR;
    if attributes & NOEXEC == 0 {
        rights |= EXECUTE;
    }
    if attributes & NODEV == 0 {
        rights |= IOCTL_DEVICE;
    }
    if attributes & RDONLY == 0 {
        rights |= WRITE_FILE | TRUNCATE | CHANGE_DIR;
        if attributes & NODEV == 0 {
            rights |= MAKE_DEVICE;
        }
    } else if place == Path::new("/dev") {
        rights |= WRITE_FILE;
    }
    rights
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (place, rights)) in self.allowed.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} r", place.display())?;
            for (right, letter) in [(CHANGE_DIR, "w"), (EXECUTE, "x"), (IOCTL_DEVICE, "d")] {
                if rights & right != 0 {
                    f.write_str(letter)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotation: &str, readonly: bool, version: u32) -> Result<Option<Policy>> {
        let spec = serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.2.0","annotations":{{{annotation}}}}}"#
        ))
        .unwrap();
        let mounts = [
            r#"{"destination":"/tmp","type":"tmpfs","options":["nosuid","nodev"]}"#,
            r#"{"destination":"/data","source":"d","options":["rbind","rro","noexec"]}"#,
            r#"{"destination":"/dev","type":"tmpfs","options":["ro"]}"#,
            r#"{"destination":"/tmp","source":"t","options":["bind","ro"]}"#,
        ]
        .map(|json| {
            let mount = serde_json::from_str(json).unwrap();
            Mounting::parse(&mount, Path::new("/b"), Path::new("/b/rootfs"))
        });
        policy(&spec, &mounts, readonly, version)
    }

    const ON: &str = r#""dev.runc-rs.landlock":"mounts""#;

    #[test]
    fn rights_follow_from_the_mounts_and_the_last_one_counts() {
        let text = |readonly| of(ON, readonly, 7).unwrap().unwrap().to_string();
        assert_eq!(text(true), "/ rxd, /data rd, /dev rxd, /tmp rxd");
        assert_eq!(text(false), "/ rwxd, /data rd, /dev rxd, /tmp rxd");
        let dev = of(ON, true, 7).unwrap().unwrap().allowed[2].1;
        assert_eq!(dev & (WRITE_FILE | CHANGE_DIR), WRITE_FILE);
    }

    #[test]
    fn an_older_kernel_gets_the_rights_it_knows_or_is_told_of() {
        let policy = of(ON, false, 2).unwrap().unwrap();
        assert_eq!(policy.handled, 0x3fff);
        assert!(
            policy
                .allowed
                .iter()
                .all(|(_, rights)| rights & !0x3fff == 0)
        );
        for version in [0, 1] {
            let error = of(ON, false, version).unwrap_err().chain();
            assert!(error.contains("Linux 5.19"), "{error}");
        }
    }

    #[test]
    fn it_is_asked_for_or_not_there() {
        assert_eq!(of("", true, 0).unwrap(), None);
        let error = of(r#""dev.runc-rs.landlock":"true""#, true, 7);
        assert!(error.unwrap_err().chain().contains("expected \"mounts\""));
    }
}
