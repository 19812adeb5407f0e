//! Making a group of the version 2 hierarchy, and handing it to another user.
//!
//! A controller works in a group only if each group above lists it in `cgroup.subtree_control`; a group that has processes of
//! its own cannot hand on most of them; and below a group with processes a new one may be in a state (`cgroup.type`) in which it
//! takes no process at all, or only controllers that know threads. [`make`] goes down from the root and meets each of these
//! where it is.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use oci_spec::runtime::LinuxResources;

use crate::group::{read, write};
use crate::{Error, Result};

/// Makes `dir` and the groups above it that are missing. Says whether it made `dir` itself.
pub(crate) fn make(dir: &Path, resources: &LinuxResources) -> Result<bool> {
    let mut above: Vec<&Path> = dir
        .ancestors()
        .skip(1)
        .take_while(|a| a.starts_with(crate::hierarchy::ROOT))
        .collect();
    above.reverse();
    let mut made = Vec::new();
    let result = descend(&above, dir, resources, &mut made);
    if result.is_err() {
        for path in made.iter().rev() {
            // The first error is the one to report.
            let _second = fs::remove_dir(path);
        }
    }
    result.map(|()| made.last() == Some(&dir))
}

fn descend<'a>(
    above: &[&'a Path],
    dir: &'a Path,
    resources: &LinuxResources,
    made: &mut Vec<&'a Path>,
) -> Result<()> {
    for (depth, group) in above.iter().copied().chain([dir]).enumerate() {
        if depth > 0 {
            match fs::create_dir(group) {
                Ok(()) => made.push(group),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::new(format!("create cgroup {}", group.display()), e)),
            }
            check_type(group, resources)?;
        }
        if group != dir {
            hand_down(group);
        }
    }
    Ok(())
}

/// A group that is not a whole domain takes only limits that count threads.
fn check_type(group: &Path, resources: &LinuxResources) -> Result<()> {
    let kind = read(&group.join("cgroup.type")).unwrap_or_default();
    let kind = kind.trim();
    let refused = || {
        let state = if kind == "domain invalid" {
            "an invalid state".to_owned()
        } else {
            format!("{kind} mode")
        };
        Err(Error::refused(format!(
            "cannot enter cgroupv2 {:?} with domain controllers -- it is in {state}",
            group.display().to_string()
        )))
    };
    match kind {
        "domain invalid" | "domain threaded" | "threaded" if needs_domain(resources) => refused(),
        // All that is asked for works on threads, and so does the group once it says so.
        "domain invalid" => {
            let _shows_at_joining = write(&group.join("cgroup.type"), "threaded");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a limit needs a controller that counts processes, not threads.
fn needs_domain(resources: &LinuxResources) -> bool {
    let some = |v: Option<i64>| v.is_some_and(|v| v != 0);
    let memory = resources
        .memory()
        .as_ref()
        .is_some_and(|m| some(m.limit()) || some(m.swap()) || some(m.reservation()));
    let io = resources.block_io().as_ref().is_some_and(|io| {
        io.weight().is_some_and(|w| w != 0)
            || [
                io.throttle_read_bps_device(),
                io.throttle_write_bps_device(),
                io.throttle_read_iops_device(),
                io.throttle_write_iops_device(),
            ]
            .iter()
            .any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
    });
    let pages = resources
        .hugepage_limits()
        .as_ref()
        .is_some_and(|pages| !pages.is_empty());
    let unified = resources.unified().iter().flatten().any(|(file, _)| {
        ["memory.", "io.", "hugetlb."]
            .iter()
            .any(|c| file.starts_with(c))
    });
    memory || io || pages || unified
}

/// Turns on in `group` what it has for the groups below it. What is refused shows when a limit needs it, with its name.
fn hand_down(group: &Path) {
    let file = group.join("cgroup.subtree_control");
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let missing: Vec<String> = available
        .split_whitespace()
        .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() || write(&file, &missing.join(" ")).is_ok() {
        return;
    }
    // One that is refused must not keep the others out.
    for controller in missing {
        let _shows_later = write(&file, &controller);
    }
}

/// Gives the group to `user`: its directory, and those of its files that the kernel says are the user's then.
pub(crate) fn delegate(dir: &Path, user: u32) -> Result<()> {
    let give = |path: &Path| {
        chown(path, Some(user), None)
            .map_err(|e| Error::new(format!("chown {} to {user}", path.display()), e))
    };
    give(dir)?;
    let files = fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads".to_owned());
    for file in files.lines() {
        match give(&dir.join(file)) {
            // The kernel lists files of controllers that are not in use here.
            Err(e) if e.kind() == Some(io::ErrorKind::NotFound) => {}
            other => other?,
        }
    }
    Ok(())
}
