//! Which controllers this host has, and in which hierarchies.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The arrangement of cgroups on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy for each controller; a version 2 hierarchy may stand beside them (hybrid).
    V1 {
        /// Whether it does.
        hybrid: bool,
    },
    /// A single version 2 hierarchy.
    V2,
}

/// The cgroup hierarchies of the host, and the groups the caller is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub(crate) layout: Layout,
    /// v1: controller (or `name=systemd`) to mount point. The empty name is version 2's: alone, or beside the others.
    pub(crate) mounts: BTreeMap<String, PathBuf>,
    /// The caller's own group in each, relative to the mount point, with a leading slash.
    pub(crate) own: BTreeMap<String, PathBuf>,
}

pub(crate) const ROOT: &str = "/sys/fs/cgroup";

impl Host {
    /// Looks at `/sys/fs/cgroup`, `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// If one cannot be read or no hierarchy is mounted.
    pub fn detect() -> Result<Self> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|e| Error::new(format!("read {path}"), e))
        };
        let root = kernel::path::open_dir(Path::new(ROOT))
            .map_err(|e| Error::new(format!("open {ROOT}"), e))?;
        let magic = kernel::path::filesystem_type(root.as_fd())
            .map_err(|e| Error::new(format!("look at {ROOT}"), e))?;
        let groups = read("/proc/self/cgroup")?;
        if magic == kernel::path::CGROUP2_MAGIC {
            let mounts = BTreeMap::from([(String::new(), PathBuf::from(ROOT))]);
            return Ok(Self {
                layout: Layout::V2,
                mounts,
                own: parse_own(&groups),
            });
        }
        Self::parse(&read("/proc/self/mountinfo")?, &groups)
    }

    /// A host of version 1 (or hybrid) by the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// If no hierarchy is mounted.
    pub fn parse(mountinfo: &str, groups: &str) -> Result<Self> {
        let own = parse_own(groups);
        let (mounts, hybrid) = parse_mounts(mountinfo);
        if mounts.is_empty() {
            return Err(Error::refused(format!(
                "find cgroups: nothing is mounted below {ROOT}"
            )));
        }
        Ok(Self {
            layout: Layout::V1 { hybrid },
            mounts,
            own,
        })
    }

    /// The arrangement.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Names of the hierarchies with their mount points: controllers (and `name=…`) on v1, the empty name for version 2.
    pub fn hierarchies(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.mounts
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// `/proc/PID/cgroup` (`cgroups(7)`): hierarchy name to group. Controllers mounted together are listed one by one.
pub(crate) fn parse_own(text: &str) -> BTreeMap<String, PathBuf> {
    let mut own = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        for controller in controllers.split(',') {
            own.insert(controller.to_owned(), PathBuf::from(path));
        }
    }
    own
}

/// v1 hierarchies out of `mountinfo`, and whether a v2 one that can be written to is there as well. The first mount of each
/// counts.
fn parse_mounts(mountinfo: &str) -> (BTreeMap<String, PathBuf>, bool) {
    let mut mounts = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut kind = after.split(' ');
        let mut before = before.split(' ').skip(4);
        let (Some(place), Some(attributes)) = (before.next(), before.next()) else {
            continue;
        };
        let writable = attributes.split(',').all(|a| a != "ro");
        match kind.next() {
            Some("cgroup2") if place.starts_with(ROOT) && writable => {
                mounts
                    .entry(String::new())
                    .or_insert_with(|| PathBuf::from(place));
            }
            Some("cgroup") => {
                let options = kind.nth(1).unwrap_or_default();
                for option in options.split(',').filter(|o| is_controller(o)) {
                    mounts
                        .entry(option.to_owned())
                        .or_insert_with(|| PathBuf::from(place));
                }
            }
            _ => {}
        }
    }
    let hybrid = mounts.contains_key("");
    (mounts, hybrid)
}

fn is_controller(option: &str) -> bool {
    const CONTROLLERS: &[&str] = &[
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ];
    CONTROLLERS.contains(&option) || option.starts_with("name=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_mounted_together_share_a_place() {
        let (mounts, hybrid) = parse_mounts(
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             33 25 0:29 / /proc rw - proc proc rw\n",
        );
        assert!(hybrid);
        let places: Vec<_> = mounts
            .iter()
            .map(|(k, v)| format!("{k} {}", v.display()))
            .collect();
        assert_eq!(
            places,
            [
                " /sys/fs/cgroup/unified",
                "cpu /sys/fs/cgroup/cpu,cpuacct",
                "cpuacct /sys/fs/cgroup/cpu,cpuacct",
                "name=systemd /sys/fs/cgroup/systemd"
            ]
        );
    }

    #[test]
    fn this_host_has_cgroups() {
        assert!(Host::detect().unwrap().hierarchies().count() > 0);
    }
}
