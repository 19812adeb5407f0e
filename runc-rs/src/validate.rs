//! Checks a config against the rules of runtime-spec's config.md. Pure: no file is looked at.

mod settings;

pub(crate) use settings::{MemoryPolicy, memory_policy};

use std::path::{Path, PathBuf};

use kernel::clone::ns;
use kernel::mount::Propagation;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use crate::bundle::Bundle;
use crate::failure::{Failure, Result};
use crate::mount_options::{Mounting, What};
use crate::process::{self, ValidProcess};
use crate::rdt;
use settings::sysctls;

/// Namespaces of a container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// To be made, as flags of [`ns`].
    pub(crate) new: u64,
    /// To be joined: flag and path, in the order they must be joined in.
    pub(crate) join: Vec<(u64, PathBuf)>,
}

impl Namespaces {
    /// Whether the container has one of this kind apart from the caller's.
    pub(crate) fn has(&self, kind: u64) -> bool {
        self.new & kind != 0 || self.joined(kind).is_some()
    }

    pub(crate) fn joined(&self, kind: u64) -> Option<&Path> {
        self.join
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, path)| path.as_path())
    }

    /// All kinds it has.
    pub(crate) fn all(&self) -> u64 {
        self.join.iter().fold(self.new, |all, (kind, _)| all | kind)
    }
}

/// The names that `/proc/PID/ns` and state files use. The user namespace comes first: it decides what may be done with the others.
pub(crate) const NAMESPACES: &[(u64, &str, &str)] = &[
    (ns::USER, "user", "NEWUSER"),
    (ns::IPC, "ipc", "NEWIPC"),
    (ns::UTS, "uts", "NEWUTS"),
    (ns::NET, "net", "NEWNET"),
    (ns::PID, "pid", "NEWPID"),
    (ns::MOUNT, "mnt", "NEWNS"),
    (ns::CGROUP, "cgroup", "NEWCGROUP"),
    (ns::TIME, "time", "NEWTIME"),
];

/// A config whose rules have been checked. Only [`validate`] makes one.
#[derive(Debug)]
pub(crate) struct ValidSpec {
    pub(crate) spec: Spec,
    pub(crate) bundle: PathBuf,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
    pub(crate) readonly_rootfs: bool,
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<Mounting>,
    pub(crate) process: ValidProcess,
    pub(crate) rootfs_propagation: (Propagation, bool),
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// In order of their names.
    pub(crate) net_devices: Vec<NetDevice>,
}

/// A device of the host that becomes the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// On the host.
    pub(crate) name: String,
    pub(crate) name_inside: String,
}

impl ValidSpec {
    pub(crate) fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }
}

/// Checks the config of `bundle`.
pub(crate) fn validate(bundle: Bundle) -> Result<ValidSpec> {
    let Bundle { dir, spec } = bundle;
    check_version(spec.version())?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| mistake("/root", "root must be given"))?;
    let config_process = spec
        .process()
        .as_ref()
        .ok_or_else(|| mistake("/process", "process must be given"))?;
    let process = process::validate(config_process)?;
    let linux = spec.linux().as_ref();
    let namespaces = namespaces(linux)?;
    check_user_namespace(linux, &namespaces)?;
    check_names(&spec, &namespaces)?;
    check_supported(linux)?;
    let rootfs = dir.join(root.path());
    let mounts: Vec<Mounting> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| Mounting::parse(mount, &dir, &rootfs))
        .collect();
    check_owners(&spec, &mounts, &namespaces)?;
    Ok(ValidSpec {
        rootfs,
        readonly_rootfs: root.readonly().unwrap_or(false),
        rootfs_propagation: rootfs_propagation(linux)?,
        sysctls: sysctls(linux, &namespaces)?,
        memory_policy: memory_policy(linux)?,
        net_devices: net_devices(linux, &namespaces)?,
        namespaces,
        mounts,
        process,
        bundle: dir,
        spec,
    })
}

/// Mounts with other owners.
fn check_owners(spec: &Spec, mounts: &[Mounting], namespaces: &Namespaces) -> Result<()> {
    for (at, (mount, parsed)) in spec.mounts().iter().flatten().zip(mounts).enumerate() {
        let wrong = |what: &str| Err(mistake(&format!("/mounts/{at}"), what));
        let half = [mount.uid_mappings(), mount.gid_mappings()]
            .iter()
            .any(|maps| maps.as_ref().is_some_and(|m| !m.is_empty()));
        match &parsed.owners {
            None if half => return wrong("mappings of a mount need both users and groups"),
            None => {}
            Some(_) if !matches!(parsed.what, What::Bind { .. }) => {
                return wrong("mappings are for bind mounts only");
            }
            Some(owners) if owners.maps.is_none() && (half || !namespaces.has(ns::USER)) => {
                return wrong("idmap needs mappings of users and groups, or a user namespace");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn mistake(place: &str, what: impl AsRef<str>) -> Failure {
    Failure::new(format!("config.json: {place}: {}", what.as_ref()))
}

fn check_version(version: &str) -> Result<()> {
    if version.split('.').next() == Some("1") {
        Ok(())
    } else {
        Err(mistake(
            "/ociVersion",
            format!("expected a version 1, got {version:?}"),
        ))
    }
}

fn namespaces(linux: Option<&Linux>) -> Result<Namespaces> {
    let mut out = Namespaces::default();
    for (at, namespace) in linux
        .and_then(|l| l.namespaces().as_ref())
        .into_iter()
        .flatten()
        .enumerate()
    {
        let place = || format!("/linux/namespaces/{at}");
        let kind = match namespace.typ() {
            LinuxNamespaceType::Mount => ns::MOUNT,
            LinuxNamespaceType::Cgroup => ns::CGROUP,
            LinuxNamespaceType::Uts => ns::UTS,
            LinuxNamespaceType::Ipc => ns::IPC,
            LinuxNamespaceType::User => ns::USER,
            LinuxNamespaceType::Pid => ns::PID,
            LinuxNamespaceType::Network => ns::NET,
            LinuxNamespaceType::Time => ns::TIME,
        };
        if out.has(kind) {
            return Err(mistake(
                &place(),
                format!("malformed spec file: duplicated ns {:?}", namespace.typ()),
            ));
        }
        match namespace
            .path()
            .as_deref()
            .filter(|p| !p.as_os_str().is_empty())
        {
            None => out.new |= kind,
            Some(path) if path.is_absolute() => out.join.push((kind, path.to_owned())),
            Some(path) => {
                let got = path.display().to_string();
                return Err(mistake(
                    &place(),
                    format!("path must be absolute, got {got:?}"),
                ));
            }
        }
    }
    out.join
        .sort_by_key(|(kind, _)| NAMESPACES.iter().position(|(k, ..)| k == kind));
    Ok(out)
}

fn check_user_namespace(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<()> {
    let mapped = |maps: Option<&Vec<_>>| {
        maps.is_some_and(|m: &Vec<oci_spec::runtime::LinuxIdMapping>| !m.is_empty())
    };
    let (uids, gids) = (
        mapped(linux.and_then(|l| l.uid_mappings().as_ref())),
        mapped(linux.and_then(|l| l.gid_mappings().as_ref())),
    );
    if namespaces.new & ns::USER != 0 {
        if !uids {
            return Err(mistake(
                "/linux/uidMappings",
                "a new user namespace needs uid mappings",
            ));
        }
        if !gids {
            return Err(mistake(
                "/linux/gidMappings",
                "a new user namespace needs gid mappings",
            ));
        }
    } else if (uids || gids) && !namespaces.has(ns::USER) {
        return Err(mistake(
            "/linux/uidMappings",
            "user namespace mappings specified, but user namespace isn't enabled",
        ));
    }
    if linux.is_some_and(|l| l.time_offsets().as_ref().is_some_and(|o| !o.is_empty()))
        && namespaces.new & ns::TIME == 0
    {
        return Err(mistake(
            "/linux/timeOffsets",
            "time offsets need a new time namespace",
        ));
    }
    Ok(())
}

fn check_names(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    let set = |name: &Option<String>| name.as_ref().is_some_and(|n| !n.is_empty());
    if set(spec.hostname()) && !namespaces.has(ns::UTS) {
        return Err(mistake(
            "/hostname",
            "unable to set hostname without a private UTS namespace",
        ));
    }
    if set(spec.domainname()) && !namespaces.has(ns::UTS) {
        return Err(mistake(
            "/domainname",
            "unable to set domainname without a private UTS namespace",
        ));
    }
    Ok(())
}

/// What would be ignored is refused: a container without it is not the one that was asked for.
fn check_supported(linux: Option<&Linux>) -> Result<()> {
    if let Some(config) = linux.and_then(|l| l.intel_rdt().as_ref()) {
        rdt::check_names(config).map_err(|what| mistake("/linux/intelRdt/closID", what))?;
    }
    let resources = linux.and_then(|l| l.resources().as_ref());
    let huge = resources.and_then(|r| r.hugepage_limits().as_ref());
    for (at, limit) in huge.into_iter().flatten().enumerate() {
        if !is_page_size(limit.page_size()) {
            return Err(mistake(
                &format!("/linux/resources/hugepageLimits/{at}/pageSize"),
                format!("expected a size as in 2MB, got {:?}", limit.page_size()),
            ));
        }
    }
    Ok(())
}

/// A number of kilo-, mega- or gigabytes as the kernel writes it: it becomes part of a file's name.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|u| text.strip_suffix(u));
    number.is_some_and(|n| {
        !n.is_empty() && !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit())
    })
}

fn net_devices(linux: Option<&Linux>, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let mut found = Vec::new();
    for (name, device) in linux
        .and_then(|l| l.net_devices().as_ref())
        .into_iter()
        .flatten()
    {
        let inside = device.name().clone().filter(|n| !n.is_empty());
        let name_inside = inside.unwrap_or_else(|| name.clone());
        if let Some(wrong) = [name, &name_inside].into_iter().find(|n| !is_device(n)) {
            return Err(mistake(
                "/linux/netDevices",
                format!("invalid network device name {wrong:?}"),
            ));
        }
        found.push(NetDevice {
            name: name.clone(),
            name_inside,
        });
    }
    if !found.is_empty() && !namespaces.has(ns::NET) {
        return Err(mistake(
            "/linux/netDevices",
            "unable to move network devices without a NET namespace",
        ));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What the kernel takes for a device's name: 15 bytes that cannot be taken for a path or an alias.
fn is_device(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..16).contains(&name.len()) && name != "." && name != ".." && !name.contains(forbidden)
}

fn rootfs_propagation(linux: Option<&Linux>) -> Result<(Propagation, bool)> {
    let word = linux
        .and_then(|l| l.rootfs_propagation().as_deref())
        .unwrap_or_default();
    Ok(match word {
        "" | "rslave" => (Propagation::Slave, true),
        "slave" => (Propagation::Slave, false),
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        other => {
            return Err(mistake(
                "/linux/rootfsPropagation",
                format!(
                    "expected shared, slave, private or unbindable, with or without r, got {other:?}"
                ),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn check(linux: &str) -> Result<ValidSpec> {
        let config = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},
                "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["x"]}},"linux":{linux}}}"#
        );
        validate(Bundle {
            dir: "/b".into(),
            spec: serde_json::from_str(&config).unwrap(),
        })
    }

    pub(super) fn message(linux: &str) -> String {
        check(linux).unwrap_err().chain()
    }

    #[test]
    fn namespaces_are_made_or_joined_but_not_twice() {
        let spec =
            check(r#"{"namespaces":[{"type":"network","path":"/run/n"},{"type":"pid"}]}"#).unwrap();
        assert_eq!(spec.namespaces.new, ns::PID);
        assert_eq!(spec.namespaces.joined(ns::NET), Some(Path::new("/run/n")));
        assert!(
            message(r#"{"namespaces":[{"type":"pid"},{"type":"pid"}]}"#).contains("duplicated ns")
        );
        assert!(
            message(r#"{"namespaces":[{"type":"pid","path":"x"}]}"#).contains("must be absolute")
        );
    }

    #[test]
    fn a_user_namespace_and_its_maps_need_each_other() {
        assert!(message(r#"{"namespaces":[{"type":"user"}]}"#).contains("/linux/uidMappings"));
        assert!(
            message(r#"{"uidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#)
                .contains("isn't enabled")
        );
    }

    #[test]
    fn a_page_size_is_the_kernels_and_no_path() {
        let limits = |size: &str| {
            check(&format!(
                r#"{{"resources":{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}}}"#
            ))
        };
        assert!(limits("2MB").is_ok());
        for wrong in ["64kB", "MB", "02MB", "../2MB", "2"] {
            let message = limits(wrong).unwrap_err().chain();
            assert!(
                message.contains("/hugepageLimits/0/pageSize"),
                "{wrong}: {message}"
            );
        }
    }

    #[test]
    fn network_devices_have_names_and_a_namespace_to_go_to() {
        let spec = check(
            r#"{"netDevices":{"veth1":{},"eth0":{"name":"inside"}},"namespaces":[{"type":"network"}]}"#,
        )
        .unwrap();
        let names: Vec<_> = spec
            .net_devices
            .iter()
            .map(|d| (d.name.as_str(), d.name_inside.as_str()))
            .collect();
        assert_eq!(names, [("eth0", "inside"), ("veth1", "veth1")]);
        assert!(message(r#"{"netDevices":{"eth0":{}}}"#).contains("without a NET namespace"));
        for wrong in ["", "a/b", "a b", "..", "eth0:1", "sixteen_is_a_lot"] {
            let config = format!(
                r#"{{"netDevices":{{"{wrong}":{{}}}},"namespaces":[{{"type":"network"}}]}}"#
            );
            assert!(
                message(&config).contains("invalid network device name"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn owners_of_a_mount_are_whole_and_of_a_bind() {
        let check = |mount: &str| {
            let config = format!(
                r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"mounts":[{{"destination":"/d",{mount}}}],
                    "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["x"]}}}}"#
            );
            let bundle = Bundle {
                dir: "/b".into(),
                spec: serde_json::from_str(&config).unwrap(),
            };
            validate(bundle).map(drop).map_err(|e| e.chain())
        };
        let users = r#""uidMappings":[{"containerID":0,"hostID":1,"size":1}]"#;
        let groups = r#""gidMappings":[{"containerID":0,"hostID":1,"size":1}]"#;
        let bind = r#""source":"/s","options":["bind"]"#;
        assert_eq!(check(&format!("{bind},{users},{groups}")), Ok(()));
        assert_eq!(
            check(&format!(r#"{bind},"uidMappings":[],"gidMappings":[]"#)),
            Ok(())
        );
        for (mount, word) in [
            (format!("{bind},{users}"), "both"),
            (
                format!(r#""type":"tmpfs",{users},{groups}"#),
                "bind mounts only",
            ),
            (
                r#""source":"/s","options":["bind","idmap"]"#.to_owned(),
                "or a user namespace",
            ),
        ] {
            let error = check(&mount).unwrap_err();
            assert!(
                error.contains("/mounts/0") && error.contains(word),
                "{error}"
            );
        }
    }
}
