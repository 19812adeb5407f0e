//! What is left on disk of a container, and what its state is now.
//!
//! `<root>/<id>/state.json` holds a [`Record`], in runc's shape where others read it (cAdvisor, Docker: process, cgroup and
//! namespace paths), and the config it was created from. It is written once by `create` and replaced by `update`; the state
//! itself is never stored but read off the process. While `<root>/<id>/exec.fifo` exists the container waits for `start`.
//! The directory lies on a tmpfs and need not survive a power cut, so nothing is synced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cgroup::Cgroup;
use cgroup::systemd::Scope;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure, Result};
use crate::phrases;

/// A container name that is safe as a path component: `[A-Za-z0-9_+.-]`, at most 1024 bytes, not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Failure::new(phrases::EMPTY_ID));
        }
        let allowed = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b));
        if !allowed || text == "." || text == ".." || text.len() > 1024 {
            return Err(Failure::new(phrases::INVALID_ID));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What `create` writes down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) init_process_pid: i32,
    /// Field 22 of `/proc/PID/stat`: tells the process from a later one of the same number.
    pub(crate) init_process_start: u64,
    pub(crate) created: String,
    pub(crate) config: RecordedConfig,
    pub(crate) rootless: bool,
    pub(crate) cgroup_paths: BTreeMap<String, PathBuf>,
    /// The unit that systemd made the cgroup for. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) systemd_unit: Option<Unit>,
    pub(crate) namespace_paths: BTreeMap<String, String>,
    pub(crate) external_descriptors: Vec<String>,
    pub(crate) intel_rdt_path: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intel_rdt_mon_path: Option<PathBuf>,
    /// Whether that group goes with the container. Ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) intel_rdt_own: bool,
    /// What `mounts add` has mounted, in this order. Ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added_mounts: Vec<AddedMount>,
    /// The config the container was created from. Ours.
    pub(crate) spec: Spec,
}

/// A mount that a running container was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedMount {
    /// The kernel's, by which it is told from one that took its place.
    pub(crate) number: u64,
    /// As asked for.
    pub(crate) mount: Mount,
}

/// A unit of systemd's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unit {
    pub(crate) name: String,
    /// Of the user's own systemd.
    pub(crate) user: bool,
}

/// The part of runc's own config that others read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordedConfig {
    pub(crate) rootfs: PathBuf,
    pub(crate) hostname: String,
    /// `bundle=…` and the annotations.
    pub(crate) labels: Vec<String>,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's directory below the root.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn new(root: &Path, id: &ContainerId) -> Self {
        Self {
            dir: root.join(id.as_str()),
        }
    }

    /// Claims the id: from here `delete` must work.
    pub(crate) fn reserve(&self) -> Result<()> {
        let root = self.dir.parent().unwrap_or(Path::new("/"));
        if !root.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)
                .context(|| format!("create {}", root.display()))?;
        }
        match fs::DirBuilder::new().mode(0o711).create(&self.dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new(phrases::ALREADY_EXISTS))
            }
            other => other.context(|| format!("create {}", self.dir.display())),
        }
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.dir.join("exec.fifo")
    }

    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        self.stage(record)?;
        self.publish()
    }

    /// Writes the record beside where it belongs; nobody sees it before [`Place::publish`].
    pub(crate) fn stage(&self, record: &Record) -> Result<()> {
        let file = self.staged();
        let write = || -> std::io::Result<()> {
            let mut out = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file)?;
            out.write_all(&serde_json::to_vec(record)?)
        };
        write().context(|| format!("write {}", file.display()))
    }

    /// From here others find the container.
    pub(crate) fn publish(&self) -> Result<()> {
        let file = self.dir.join("state.json");
        fs::rename(self.staged(), &file).context(|| format!("write {}", file.display()))
    }

    /// Held by whoever replaces the record by what it read and changed, so that no change of another's is lost.
    pub(crate) fn lock(&self) -> Result<Flock<fs::File>> {
        let dir = match fs::File::open(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(phrases::DOES_NOT_EXIST));
            }
            other => other.context(|| format!("open {}", self.dir.display()))?,
        };
        Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Failure::because(format!("lock {}", self.dir.display()), errno))
    }

    fn staged(&self) -> PathBuf {
        self.dir.join(format!("state.json.{}", std::process::id()))
    }

    pub(crate) fn load(&self) -> Result<Record> {
        let file = self.dir.join("state.json");
        match fs::read(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Failure::new(phrases::DOES_NOT_EXIST)),
            Err(e) => Err(Failure::because(format!("read {}", file.display()), e)),
            Ok(text) => {
                serde_json::from_slice(&text).context(|| format!("read {}", file.display()))
            }
        }
    }

    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.context(|| format!("remove {}", self.dir.display())),
        }
    }

    /// The state now.
    pub(crate) fn status(&self, record: &Record) -> Result<Status> {
        if process_start(record.init_process_pid) != Some(record.init_process_start) {
            return Ok(Status::Stopped);
        }
        if self.fifo().exists() {
            return Ok(Status::Created);
        }
        let frozen = record
            .cgroup()
            .is_frozen()
            .context(|| "read freezer".to_owned())?;
        Ok(if frozen {
            Status::Paused
        } else {
            Status::Running
        })
    }
}

impl Record {
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::recorded(self.cgroup_paths.clone())
    }

    /// Its group for shares of cache and bandwidth.
    pub(crate) fn rdt(&self) -> Option<(&Path, Option<&Path>)> {
        let path = Some(self.intel_rdt_path.as_path()).filter(|p| !p.as_os_str().is_empty());
        path.map(|path| (path, self.intel_rdt_mon_path.as_deref()))
    }

    pub(crate) fn scope(&self) -> Option<Scope> {
        let unit = self.systemd_unit.as_ref()?;
        Some(Scope::recorded(&unit.name, unit.user))
    }

    pub(crate) fn bundle(&self) -> &str {
        self.config
            .labels
            .iter()
            .find_map(|l| l.strip_prefix("bundle="))
            .unwrap_or_default()
    }
}

/// When process `pid` started, in clock ticks since boot; `None` if there is none or it is dead and only waits to be reaped.
pub(crate) fn process_start(pid: i32) -> Option<u64> {
    start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The same by the text of `/proc/PID/stat` (`proc_pid_stat(5)`).
pub(crate) fn start_in(stat: &str) -> Option<u64> {
    // The name, field 2, is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The name of the user who owns `dir`, for `list`.
pub(crate) fn owner(dir: &Path) -> String {
    let Ok(metadata) = fs::metadata(dir) else {
        return String::new();
    };
    // Read here: the C library, linked statically, would load its modules for users that this file does not have, and crash.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = metadata.uid();
    user_name(&passwd, uid).unwrap_or_else(|| format!("#{uid}"))
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The document that `state` prints and that hooks get on standard input.
#[derive(Debug, Serialize)]
pub(crate) struct StateDocument<'a> {
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) pid: i32,
    pub(crate) status: &'a str,
    pub(crate) bundle: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
}

/// The annotations of a config, sorted.
pub(crate) fn annotations(spec: &Spec) -> BTreeMap<&str, &str> {
    spec.annotations()
        .iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids() {
        let check =
            |text: &str, ok: bool| assert_eq!(ContainerId::parse(text).is_ok(), ok, "{text:?}");
        check("web-1_a+b.c", true);
        check("", false);
        check("..", false);
        check("a/b", false);
        check("a b", false);
        check(&"a".repeat(1025), false);
    }

    #[test]
    fn users_have_names_where_the_file_says_so() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nme:x:7:7::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 7).as_deref(), Some("me"));
        assert_eq!(user_name(passwd, 12345), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(process_start(pid).is_some_and(|start| start > 0));
        assert_eq!(process_start(i32::MAX), None);
    }
}
