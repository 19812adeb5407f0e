//! Maps the users and groups of a new user namespace, as only its parent may.
//!
//! Who has the right writes the maps directly. Without it one may map oneself alone, and for that give up setting groups; more
//! is mapped by the programs that are installed for it, `newuidmap(1)` and `newgidmap(1)`, out of `/etc/subuid` and
//! `/etc/subgid`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use nix::errno::Errno;
use oci_spec::runtime::LinuxIdMapping;

use crate::failure::{Context, Failure, Result};

/// Writes the maps of process `pid`, which waits for them.
pub(super) fn write(
    proc: &OwnedFd,
    pid: i32,
    users: &[LinuxIdMapping],
    groups: &[LinuxIdMapping],
) -> Result<()> {
    let put = |file: &str, text: &str| {
        let path = format!("{pid}/{file}");
        kernel::path::write_proc(proc.as_fd(), path.as_ref(), text)
    };
    let direct = |file: &str, maps: &[LinuxIdMapping]| put(file, &map_lines(maps));
    let refused = |result: &io::Result<()>| matches!(result, Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32));
    let written = direct("uid_map", users);
    if refused(&written) {
        mapped_by("newuidmap", pid, users)?;
    } else {
        written.context(|| said(pid, "uid_map", users))?;
    }
    let mut written = direct("gid_map", groups);
    if refused(&written) && alone(groups) && put("setgroups", "deny").is_ok() {
        written = direct("gid_map", groups);
    }
    if refused(&written) {
        return mapped_by("newgidmap", pid, groups);
    }
    written.context(|| said(pid, "gid_map", groups))
}

fn said(pid: i32, file: &str, maps: &[LinuxIdMapping]) -> String {
    format!(
        "write {:?} to /proc/{pid}/{file}",
        map_lines(maps).trim_end()
    )
}

/// Whether nothing but one id is mapped.
fn alone(maps: &[LinuxIdMapping]) -> bool {
    matches!(maps, [only] if only.size() == 1)
}

/// Has `program` write the map: it may, and looks up whether the caller has been given those ids.
fn mapped_by(program: &str, pid: i32, maps: &[LinuxIdMapping]) -> Result<()> {
    let ran = Command::new(program)
        .args(arguments(pid, maps))
        .output()
        .context(|| format!("map ids by {program} (Debian package uidmap)"))?;
    if ran.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::because(
        format!("map ids by {program}"),
        words.trim_end().to_owned(),
    ))
}

fn arguments(pid: i32, maps: &[LinuxIdMapping]) -> Vec<String> {
    let ids = maps
        .iter()
        .flat_map(|m| [m.container_id(), m.host_id(), m.size()]);
    std::iter::once(pid.to_string())
        .chain(ids.map(|id| id.to_string()))
        .collect()
}

/// `/proc/PID/uid_map`'s lines.
pub(crate) fn map_lines(maps: &[LinuxIdMapping]) -> String {
    maps.iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(json: &str) -> Vec<LinuxIdMapping> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn maps_are_lines_for_the_kernel_and_arguments_for_programs() {
        let maps = maps(
            r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":65536}]"#,
        );
        assert_eq!(map_lines(&maps), "0 1000 1\n1 100000 65536\n");
        assert_eq!(
            arguments(7, &maps),
            ["7", "0", "1000", "1", "1", "100000", "65536"]
        );
        assert!(!alone(&maps) && alone(&maps[..1]) && !alone(&maps[1..]));
    }
}
