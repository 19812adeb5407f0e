//! What a container's cgroup tells: its processes.

use std::fs;
use std::path::{Path, PathBuf};

const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// Hierarchies in the order of how surely a runtime makes a cgroup in them.
const HIERARCHIES: [&str; 5] = ["devices", "memory", "pids", "freezer", "cpu"];

/// All processes in the cgroup of `pid` and below; empty if it is in the root,
/// where it shares with the whole machine.
pub(crate) fn pids(pid: u32) -> Vec<u32> {
    let Ok(membership) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        return Vec::new();
    };
    let Some(dir) = directory(&membership, Path::new(MOUNT_POINT)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    collect(&dir, &mut found);
    found
}

/// The directory that the lines of `/proc/<pid>/cgroup` lead to.
fn directory(membership: &str, mount_point: &Path) -> Option<PathBuf> {
    let lines: Vec<(&str, &str)> = membership
        .lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers, path.trim_start_matches('/')))
        })
        .filter(|(_, path)| !path.is_empty() && !path.contains(".."))
        .collect();
    let named = HIERARCHIES.iter().find_map(|name| {
        let (controllers, path) = lines
            .iter()
            .find(|(controllers, _)| controllers.split(',').any(|c| c == *name))?;
        let dir = [*name, *controllers]
            .into_iter()
            .map(|dir| mount_point.join(dir))
            .find(|dir| dir.is_dir())?;
        Some(dir.join(path))
    });
    named.or_else(|| {
        let (_, path) = lines
            .iter()
            .find(|(controllers, _)| controllers.is_empty())?;
        Some(mount_point.join(path))
    })
}

fn collect(dir: &Path, found: &mut Vec<u32>) {
    // A cgroup that goes meanwhile has no processes.
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hierarchy_with_a_cgroup_of_its_own_counts() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["memory", "cpu,cpuacct"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let find = |text: &str| {
            directory(text, dir.path())
                .map(|found| found.strip_prefix(dir.path()).unwrap().to_owned())
        };
        assert_eq!(
            find("5:devices:/\n4:memory:/a/b\n0::/\n"),
            Some("memory/a/b".into())
        );
        assert_eq!(find("2:cpu,cpuacct:/c\n"), Some("cpu,cpuacct/c".into()));
        assert_eq!(find("0::/system.slice/x\n"), Some("system.slice/x".into()));
        assert_eq!(find("5:devices:/\n0::/\n"), None);
        assert_eq!(find("0::/../x\n"), None);
    }
}
