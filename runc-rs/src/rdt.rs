//! Intel RDT: shares of cache and memory bandwidth, by a group of the resctrl filesystem (`Documentation/filesystems/resctrl.rst`).
//!
//! A group is a directory that the kernel fills. Processes join it by `tasks`, as they join a cgroup, and what they start is in
//! it as well; `schemata` says what they get. Whoever runs the machine mounts the filesystem. A group that the config names
//! (`closID`) may be anybody's and is never removed; one named by the container goes with it.

mod stats;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;

use crate::failure::{Context, Failure, Result};

/// Where it is mounted nearly everywhere.
const USUAL: &str = "/sys/fs/resctrl";

/// A mounted resctrl filesystem.
#[derive(Debug, Clone)]
pub(crate) struct Resctrl {
    root: PathBuf,
}

impl Resctrl {
    /// The one of this machine; `None` where the processor has no such thing, or nobody has mounted it.
    pub(crate) fn find() -> Option<Self> {
        let usual = Path::new(USUAL);
        if usual.join(SCHEMATA).is_file() {
            return Some(Self::at(usual));
        }
        if !usual.exists() {
            return None;
        }
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let found = kernel::mount::mount_points_of(&mounts, &["resctrl"]);
        found.first().map(|root| Self::at(root))
    }

    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Whether shares of the cache can be given.
    pub(crate) fn has_cache(&self) -> bool {
        self.root.join("info/L3").is_dir()
    }

    /// Whether shares of the bandwidth can be given.
    pub(crate) fn has_bandwidth(&self) -> bool {
        self.root.join("info/MB").is_dir()
    }

    /// The kernel's own word for what it last refused.
    fn explain<T>(&self, result: io::Result<T>, op: impl FnOnce() -> String) -> Result<T> {
        result.map_err(|error| {
            let words = fs::read_to_string(self.root.join("info/last_cmd_status"));
            let words = words.unwrap_or_default();
            let op = op();
            match words.trim() {
                "" | "ok" => Failure::because(op, error),
                words => Failure::because(format!("{op} ({words})"), error),
            }
        })
    }
}

const SCHEMATA: &str = "schemata";
const TASKS: &str = "tasks";

/// What a config says, with empty texts left out.
fn text(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

/// The part of the check that needs no machine, in runc's words.
pub(crate) fn check_names(config: &LinuxIntelRdt) -> std::result::Result<(), String> {
    match text(config.clos_id()) {
        Some(name) if name == "." || name == ".." || name.len() > 1 && name.contains('/') => {
            Err(format!("invalid intelRdt.ClosID {name:?}"))
        }
        _ => Ok(()),
    }
}

/// Whether `machine` can do what `config` asks for, in runc's words.
pub(crate) fn check(config: &LinuxIntelRdt, machine: Option<&Resctrl>) -> Result<()> {
    let Some(machine) = machine else {
        return Err(Failure::new(
            "intelRdt is specified in config, but Intel RDT is not enabled",
        ));
    };
    if text(config.l3_cache_schema()).is_some() && !machine.has_cache() {
        return Err(Failure::new(
            "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled",
        ));
    }
    if text(config.mem_bw_schema()).is_some() && !machine.has_bandwidth() {
        return Err(Failure::new(
            "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled",
        ));
    }
    Ok(())
}

/// What goes into `schemata`: a line for each share.
fn schemata(config: &LinuxIntelRdt) -> String {
    let listed = config.schemata().iter().flatten().map(String::as_str);
    [text(config.l3_cache_schema()), text(config.mem_bw_schema())]
        .into_iter()
        .flatten()
        .chain(listed.filter(|line| !line.is_empty()))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A container's group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    machine: Resctrl,
    pub(crate) path: PathBuf,
    /// The group inside it that counts for the container alone.
    pub(crate) monitor: Option<PathBuf>,
    /// Whether it came and goes with the container.
    pub(crate) own: bool,
    /// What was made now, in this order.
    made: Vec<PathBuf>,
}

impl Group {
    /// The group of container `id`, made where it is missing, with its shares set. On failure nothing is left.
    pub(crate) fn make(machine: &Resctrl, config: &LinuxIntelRdt, id: &str) -> Result<Self> {
        let named = text(config.clos_id());
        let path = machine
            .root
            .join(named.unwrap_or(id).trim_start_matches('/'));
        let monitor = config.enable_monitoring().unwrap_or(false);
        let mut group = Self {
            machine: machine.clone(),
            monitor: monitor.then(|| path.join("mon_groups").join(id)),
            path,
            own: false,
            made: Vec::new(),
        };
        let lines = schemata(config);
        let mut fill = || -> Result<()> {
            if named.is_some() && lines.is_empty() {
                fs::metadata(&group.path).context(|| {
                    "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)".to_owned()
                })?;
            }
            group.own = group.directory(group.path.clone())? && named.is_none();
            set(machine, &group.path, &lines)?;
            match group.monitor.clone() {
                Some(monitor) => group.directory(monitor).map(drop),
                None => Ok(()),
            }
        };
        match fill() {
            Ok(()) => Ok(group),
            Err(failure) => {
                group.undo();
                Err(failure)
            }
        }
    }

    /// Whether it had to be made.
    fn directory(&mut self, path: PathBuf) -> Result<bool> {
        match fs::create_dir(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            other => {
                let op = || format!("make Intel RDT group {}", path.display());
                self.machine.explain(other, op)?;
                self.made.push(path);
                Ok(true)
            }
        }
    }

    /// Files that take a process which writes 0 into the group, as those of cgroup v1 do.
    pub(crate) fn join_files(&self) -> Result<Vec<File>> {
        join_files(&self.path, self.monitor.as_deref())
    }

    /// Removes what was made.
    pub(crate) fn undo(&self) {
        for path in self.made.iter().rev() {
            // The first error is the one to report.
            let _second = fs::remove_dir(path);
        }
    }
}

/// The same for a group that is recorded.
pub(crate) fn join_files(path: &Path, monitor: Option<&Path>) -> Result<Vec<File>> {
    let open = |dir: &Path| {
        let file = dir.join(TASKS);
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options
            .open(&file)
            .context(|| format!("join Intel RDT group {}", dir.display()))
    };
    std::iter::once(path).chain(monitor).map(open).collect()
}

/// Removes what a container leaves behind: its own group with all that is in it, or its counting group in another's.
pub(crate) fn remove(path: &Path, monitor: Option<&Path>, own: bool) -> Result<()> {
    let Some(gone) = (if own { Some(path) } else { monitor }) else {
        return Ok(());
    };
    match fs::remove_dir(gone) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.context(|| format!("remove Intel RDT group {}", gone.display())),
    }
}

/// Changes the shares of the group at `path` to those that `config` has now.
pub(crate) fn update(machine: &Resctrl, path: &Path, config: &LinuxIntelRdt) -> Result<()> {
    set(machine, path, &schemata(config))
}

fn set(machine: &Resctrl, path: &Path, lines: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = path.join(SCHEMATA);
    let op = || format!("write {:?} to {}", lines.trim_end(), file.display());
    machine.explain(fs::write(&file, lines), op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    /// A directory that looks like a mounted resctrl.
    fn machine(has: &[&str]) -> (tempfile::TempDir, Resctrl) {
        let dir = tempfile::tempdir().unwrap();
        for what in has {
            fs::create_dir_all(dir.path().join("info").join(what)).unwrap();
        }
        let machine = Resctrl::at(dir.path());
        (dir, machine)
    }

    #[test]
    fn a_name_is_one_directory_or_the_root() {
        for (name, fine) in [
            ("a", true),
            ("/", true),
            ("a/b", false),
            ("..", false),
            ("/a", false),
        ] {
            let config = config(&format!(r#"{{"closID":"{name}"}}"#));
            assert_eq!(check_names(&config).is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn the_machine_must_have_what_is_asked_for() {
        let both = config(r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#);
        let message = |has: &[&str]| {
            let (_dir, machine) = machine(has);
            check(&both, Some(&machine)).map_err(|e| e.chain())
        };
        assert!(message(&[]).unwrap_err().contains("RDT/CAT is not enabled"));
        assert!(
            message(&["L3"])
                .unwrap_err()
                .contains("RDT/MBA is not enabled")
        );
        assert_eq!(message(&["L3", "MB"]), Ok(()));
        let none = check(&config("{}"), None).unwrap_err().chain();
        assert!(none.contains("Intel RDT is not enabled"));
    }

    #[test]
    fn a_group_gets_its_shares_line_by_line_and_goes_with_its_container() {
        let (dir, machine) = machine(&[]);
        let wanted = config(
            r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20","schemata":["L2:0=3",""]}"#,
        );
        let group = Group::make(&machine, &wanted, "c").unwrap();
        assert!(group.own && group.monitor.is_none());
        let schemata = dir.path().join("c/schemata");
        assert_eq!(
            fs::read_to_string(&schemata).unwrap(),
            "L3:0=f\nMB:0=20\nL2:0=3\n"
        );
        // The kernel's files go with their directory.
        fs::remove_file(schemata).unwrap();
        remove(&group.path, None, group.own).unwrap();
        assert!(!dir.path().join("c").exists());
    }

    #[test]
    fn a_named_group_must_be_there_or_get_shares_and_stays() {
        let (dir, machine) = machine(&[]);
        let named = config(r#"{"closID":"shared","enableMonitoring":true}"#);
        let missing = Group::make(&machine, &named, "c").unwrap_err().chain();
        assert!(missing.contains("must be pre-created"), "{missing}");
        fs::create_dir_all(dir.path().join("shared/mon_groups")).unwrap();
        let group = Group::make(&machine, &named, "c").unwrap();
        let monitor = dir.path().join("shared/mon_groups/c");
        assert_eq!(group.monitor.as_deref(), Some(monitor.as_path()));
        assert!(!group.own && monitor.is_dir());
        remove(&group.path, group.monitor.as_deref(), group.own).unwrap();
        assert!(!monitor.exists() && dir.path().join("shared").exists());
    }

    #[test]
    fn what_the_kernel_refuses_it_explains_and_nothing_is_left() {
        let (dir, machine) = machine(&["L3"]);
        fs::write(dir.path().join("info/last_cmd_status"), "no more groups\n").unwrap();
        // No mon_groups in a plain directory: the kernel has one in each.
        let wanted = config(r#"{"enableMonitoring":true}"#);
        let error = Group::make(&machine, &wanted, "c").unwrap_err().chain();
        assert!(error.contains("(no more groups): no such file"), "{error}");
        assert!(!dir.path().join("c").exists());
    }
}
