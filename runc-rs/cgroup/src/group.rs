//! One container's cgroup: a directory in each hierarchy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

use crate::hierarchy::{Host, Layout, parse_own};
use crate::{Error, Result, Stats, limits, stats, unified};

/// How long a group that should be empty may still hold dying processes before its removal is given up.
const DELETE_PATIENCE: Duration = Duration::from_secs(5);

/// Where a container's processes are accounted and limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    layout: Layout,
    /// Hierarchy name (empty for version 2, alone or beside the others) to directory.
    dirs: BTreeMap<String, PathBuf>,
}

/// What [`Cgroup::create`] has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The directories that were not there before: what a caller that fails afterwards deletes.
    pub new: Cgroup,
    /// Whether those are all.
    pub all: bool,
}

impl Cgroup {
    /// The group of a container by its `cgroupsPath`: absolute from the root of every hierarchy, relative below the caller's own
    /// group (on v2 beside it, as a group that has processes may not have limited children).
    ///
    /// # Errors
    /// If `path` leads upwards.
    pub fn named(host: &Host, path: &Path) -> Result<Self> {
        if path.components().any(|c| c == Component::ParentDir) {
            return Err(Error::refused(format!(
                "cgroup path {}: must not contain ..",
                path.display()
            )));
        }
        let dirs = host
            .mounts
            .iter()
            .map(|(name, mount)| {
                let inner = match path.strip_prefix("/") {
                    Ok(absolute) => absolute.to_path_buf(),
                    Err(_) => {
                        let own = host.own.get(name).map_or(Path::new("/"), PathBuf::as_path);
                        let base = if host.layout == Layout::V2 {
                            own.parent().unwrap_or(own)
                        } else {
                            own
                        };
                        base.strip_prefix("/").unwrap_or(base).join(path)
                    }
                };
                (name.clone(), mount.join(inner))
            })
            .collect();
        Ok(Self {
            layout: host.layout,
            dirs,
        })
    }

    /// The group by the directories that a state file recorded: hierarchy name (empty for version 2) to directory.
    #[must_use]
    pub fn recorded(dirs: BTreeMap<String, PathBuf>) -> Self {
        let hybrid = dirs.contains_key("");
        let layout = if hybrid && dirs.len() == 1 {
            Layout::V2
        } else {
            Layout::V1 { hybrid }
        };
        Self { layout, dirs }
    }

    /// No group at all: what a container has whose caller may make none. Nothing can be limited, counted or frozen in it.
    #[must_use]
    pub fn none() -> Self {
        Self::recorded(BTreeMap::new())
    }

    /// The group that process `pid` is in now.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of_process(host: &Host, pid: i32) -> Result<Self> {
        let file = format!("/proc/{pid}/cgroup");
        let groups = parse_own(
            &fs::read_to_string(&file).map_err(|e| Error::new(format!("read {file}"), e))?,
        );
        let dirs = host
            .mounts
            .iter()
            .filter_map(|(name, mount)| {
                let group = groups.get(name)?;
                Some((
                    name.clone(),
                    mount.join(group.strip_prefix("/").unwrap_or(group)),
                ))
            })
            .collect();
        Ok(Self {
            layout: host.layout,
            dirs,
        })
    }

    /// Hierarchy name (empty for version 2) to directory: what a state file records.
    #[must_use]
    pub fn dirs(&self) -> &BTreeMap<String, PathBuf> {
        &self.dirs
    }

    /// The arrangement this group lives in.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether any of its directories exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.places().iter().any(|dir| dir.is_dir())
    }

    /// The directory of a v1 controller.
    pub(crate) fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.get(controller).map(PathBuf::as_path)
    }

    /// The directory in the version 2 hierarchy, to clone the first process into. Where the host is hybrid, that hierarchy has
    /// what no version 1 hierarchy took, and the other directories are joined by [`Cgroup::join_files`].
    #[must_use]
    pub fn unified_dir(&self) -> Option<&Path> {
        self.dir("")
    }

    /// Each directory once: controllers mounted together share one.
    fn places(&self) -> BTreeSet<&Path> {
        self.dirs.values().map(PathBuf::as_path).collect()
    }

    /// Makes the group's directories; on v2 hands the controllers down to it, those that `resources` needs among them. Returns
    /// how much of them it made, so that the caller looks into what was there, and removes on failure only what it made.
    ///
    /// # Errors
    /// What the kernel says, with the directory; on v2 also if a group on the way cannot have what `resources` limits.
    pub fn create(&self, resources: &LinuxResources) -> Result<Made> {
        if let (Layout::V2, Some(dir)) = (self.layout, self.dir("")) {
            let all = unified::make(dir, resources)?;
            let new = if all { self.clone() } else { Self::none() };
            return Ok(Made { new, all });
        }
        let mut found = BTreeSet::new();
        for dir in self.places() {
            let result = match fs::create_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(dir).map(|()| true)
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                other => other.map(|()| true),
            };
            let new =
                result.map_err(|e| Error::new(format!("create cgroup {}", dir.display()), e))?;
            if !new {
                found.insert(dir);
            }
        }
        if let Some(cpuset) = self.dir("cpuset") {
            inherit_cpuset(cpuset)?;
        }
        let all = found.is_empty();
        let mut new = self.clone();
        new.dirs.retain(|_, dir| !found.contains(dir.as_path()));
        Ok(Made { new, all })
    }

    /// Hands the group to `user`, who may then make groups below it and move processes about in it. On v2 only; on v1 nothing may
    /// be handed on.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn delegate(&self, user: u32) -> Result<()> {
        match (self.layout, self.dir("")) {
            (Layout::V2, Some(dir)) => unified::delegate(dir, user),
            _ => Ok(()),
        }
    }

    /// Sets the limits of `resources`, device rules included.
    ///
    /// # Errors
    /// If the kernel refuses a value, or a controller that a limit needs is not there; with the file and the value.
    pub fn limit(&self, resources: &LinuxResources) -> Result<()> {
        limits::apply(self, resources)
    }

    /// Changes the limits of a running container: as [`Cgroup::limit`], but the device rules stay as they are.
    ///
    /// # Errors
    /// The same.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        limits::apply_limits(self, resources)
    }

    /// Opens the v1 files that a single-threaded process joins by writing `0` to each. Empty on v2.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn join_files(&self) -> Result<Vec<File>> {
        if self.layout == Layout::V2 {
            return Ok(Vec::new());
        }
        let v1: BTreeSet<&Path> = self
            .dirs
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(_, dir)| dir.as_path())
            .collect();
        v1.into_iter()
            .map(|dir| {
                let file = dir.join("tasks");
                OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .map_err(|e| Error::new(format!("open {}", file.display()), e))
            })
            .collect()
    }

    /// Every process in the group and the groups below it.
    ///
    /// # Errors
    /// If the group is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let dir = match self.layout {
            Layout::V2 => self.dir(""),
            // Any v1 hierarchy answers; this one is never shared with a supervisor's own bookkeeping.
            Layout::V1 { .. } => self
                .dir("devices")
                .or_else(|| self.dirs.values().next().map(PathBuf::as_path)),
        };
        let mut pids = BTreeSet::new();
        if let Some(dir) = dir {
            collect_pids(dir, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Kills every process of the group at once where the kernel can (`cgroup.kill`, v2, 5.14). Says whether it could.
    #[must_use]
    pub fn kill_all(&self) -> bool {
        self.layout == Layout::V2
            && self
                .unified_dir()
                .is_some_and(|dir| write(&dir.join("cgroup.kill"), "1").is_ok())
    }

    /// What the controllers have counted.
    ///
    /// # Errors
    /// If the group is gone. A controller that is not there leaves its part empty.
    pub fn stats(&self) -> Result<Stats> {
        if !self.exists() {
            let dir = self
                .dirs
                .values()
                .next()
                .map(|d| d.display().to_string())
                .unwrap_or_default();
            return Err(Error::new(
                format!("read cgroup {dir}"),
                io::ErrorKind::NotFound.into(),
            ));
        }
        Ok(stats::read(self))
    }

    /// Removes the group if it has neither processes nor groups below; says whether it had none. A group that is not there is
    /// success.
    ///
    /// # Errors
    /// What the kernel says otherwise.
    pub fn delete_empty(&self) -> Result<bool> {
        for dir in self.places() {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new(format!("remove cgroup {}", dir.display()), e));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Removes the group and the groups below it. A group that is not there is success.
    ///
    /// # Errors
    /// `EBUSY` if processes are left in it after five seconds.
    pub fn delete(&self) -> Result<()> {
        let deadline = Instant::now() + DELETE_PATIENCE;
        for dir in self.places() {
            remove_tree(dir, deadline)
                .map_err(|e| Error::new(format!("remove cgroup {}", dir.display()), e))?;
        }
        Ok(())
    }
}

/// rmdir, and where there are groups below, those first. Processes that are still ending get until `deadline`.
fn remove_tree(dir: &Path, deadline: Instant) -> io::Result<()> {
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                for below in directories(dir)? {
                    remove_tree(&below, deadline)?;
                }
                if Instant::now() > deadline {
                    return Err(e);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
        }
    }
}

fn directories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    let text = read(&dir.join("cgroup.procs"))?;
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for below in directories(dir).map_err(|e| Error::new(format!("list {}", dir.display()), e))? {
        match collect_pids(&below, pids) {
            // A group below may be removed while we look.
            Err(e)
                if e.source
                    .as_ref()
                    .is_some_and(|s| s.kind() == io::ErrorKind::NotFound) => {}
            other => other?,
        }
    }
    Ok(())
}

/// v1: a new cpuset is empty and lets no process in; it gets what the one above has, which may be empty as well.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        if !read(&own)?.trim().is_empty() {
            continue;
        }
        let Some(above) = dir.parent() else { continue };
        let mut value = read(&above.join(file))?;
        if value.trim().is_empty() {
            inherit_cpuset(above)?;
            value = read(&above.join(file))?;
        }
        write(&own, value.trim())?;
    }
    Ok(())
}

/// An open control file. Each write is one value, as the kernel wants it.
pub(crate) struct ControlFile {
    path: PathBuf,
    file: File,
}

impl ControlFile {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(e) => Err(Error::new(format!("open {}", path.display()), e)),
        }
    }

    pub(crate) fn write(&self, value: &str) -> Result<()> {
        io::Write::write_all(&mut &self.file, value.as_bytes())
            .map_err(|e| Error::new(format!("write {value:?} to {}", self.path.display()), e))
    }
}

/// Writes a value to a control file in one write, as the kernel wants it.
pub(crate) fn write(file: &Path, value: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()));
    written.map_err(|e| Error::new(format!("write {value:?} to {}", file.display()), e))
}

pub(crate) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|e| Error::new(format!("read {}", file.display()), e))
}
