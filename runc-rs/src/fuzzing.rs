//! What reads the text of others, by name: the entry of `tests/fuzz`, and of no one else.
//!
//! Each function takes what a fuzzer made up and must come back: an error is as good an answer as a value. What the rest of the
//! program relies on in a value is asserted here. The seeds in `tests/fuzz/seeds`, and with them every input that once did
//! harm, go through these functions as a unit test.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxResources, LinuxSeccomp, Mount, Process, Spec};

use crate::bundle::{self, Bundle};
use crate::cli::LogFormat;
use crate::commands::parsers;
use crate::create;
use crate::host::HostFacts;
use crate::init;
use crate::log::Log;
use crate::mount_options::Mounting;
use crate::number_set::NumberSet;
use crate::plan::{Choices, plan};
use crate::process;
use crate::seccomp;
use crate::state::{self, ContainerId, Record, Status};
use crate::sync;
use crate::validate;

/// `config.json`: parsed, checked, planned, and the plan printed.
pub fn config(data: &[u8]) {
    let Some(spec) = parsed::<Spec>(data, "/process/capabilities") else {
        return;
    };
    let dir = PathBuf::from("/b");
    let Ok(valid) = validate::validate(Bundle { dir, spec }) else {
        return;
    };
    assert!(valid.rootfs.is_absolute());
    let choices = Choices {
        id: "c",
        ..Choices::default()
    };
    for step in plan(&valid, &facts(), choices).into_iter().flatten() {
        assert!(!step.to_string().is_empty());
    }
}

/// The process file of `exec`.
pub fn process(data: &[u8]) {
    if let Some(process) = parsed::<Process>(data, "/capabilities") {
        drop(process::validate(&process));
    }
}

/// Mappings of a user namespace, and what the kernel would be told of them.
pub fn id_maps(data: &[u8]) {
    let Ok(maps) = serde_json::from_slice::<Vec<LinuxIdMapping>>(data) else {
        return;
    };
    let text = create::map_lines(&maps);
    assert_eq!(text.lines().count(), maps.len());
}

/// One entry of `mounts`.
pub fn mount_options(data: &[u8]) {
    let Ok(mount) = serde_json::from_slice::<Mount>(data) else {
        return;
    };
    let parsed = Mounting::parse(&mount, Path::new("/b"), Path::new("/b/rootfs"));
    assert!(parsed.destination.is_absolute());
    assert_eq!(parsed.set & parsed.clear & !kernel::mount::ATIME_MASK, 0);
    drop(parsed.to_string());
}

/// A seccomp profile, compiled: whole instructions.
pub fn seccomp(data: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(data) else {
        return;
    };
    if let Ok(bytes) = seccomp::compiled(&profile) {
        assert!(bytes.len().is_multiple_of(8));
    }
}

/// `state.json`, and the document that `state` prints of it.
pub fn state(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else {
        return;
    };
    drop(record.cgroup());
    for full in [false, true] {
        drop(parsers::document(&record, Status::Stopped, full));
    }
}

/// What the kernel shows in /proc, where names and paths are the container's, and what init tells its parent.
pub fn proc(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    drop(kernel::mount::mount_points(data));
    drop(cgroup::Host::parse(&text, &text));
    let _start = state::start_in(&text);
    let _home = init::home_in(&text, 0);
    let _message = sync::decode(data);
}

/// A program of the image, looked at before it is run.
pub fn program(data: &[u8]) {
    let memory = nix::sys::memfd::memfd_create(c"program", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let Ok(mut file) = memory.map(std::fs::File::from) else {
        return;
    };
    if file.write_all(data).is_ok() {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        drop(init::diagnose(Path::new(&path)));
    }
}

/// Short words of a command line or a config: ids, paths of cgroups, sets of numbers, amounts, times, signals.
pub fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = ContainerId::parse(&text) {
        let path = Path::new("/r").join(id.as_str());
        assert_eq!(path.parent(), Some(Path::new("/r")), "{path:?}");
    }
    if let Some(set) = NumberSet::parse(&text) {
        assert!(set.words().len() <= 128);
    }
    if let Ok(host) = cgroup::Host::parse(HIERARCHIES, "1:cpu:/own\n0::/own\n")
        && let Ok(group) = cgroup::Cgroup::named(&host, Path::new(text.as_ref()))
    {
        for dir in group.dirs().values() {
            assert!(dir.starts_with("/sys/fs/cgroup/cpu"), "{dir:?}");
            let upwards = |part| part == std::path::Component::ParentDir;
            assert!(!dir.components().any(upwards), "{dir:?}");
        }
    }
    parsers::words(&text);
    drop(parsed::<LinuxResources>(data, ""));
}

const HIERARCHIES: &str = "30 20 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

fn parsed<T: serde::de::DeserializeOwned>(data: &[u8], capabilities: &str) -> Option<T> {
    let log = Log::open(Some(Path::new("/dev/null")), LogFormat::Text, false).ok()?;
    bundle::parse(data, "config.json", capabilities, &log).ok()
}

fn facts() -> HostFacts {
    HostFacts {
        cgroup_v2: true,
        cgroups: Vec::new(),
        bounding: u64::MAX >> 23,
        apparmor: true,
        selinux: true,
        landlock: 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parser, and how many seeds its folder has at least.
    type Case = (&'static str, fn(&[u8]), usize);

    #[test]
    fn no_seed_does_harm() {
        let cases: [Case; 9] = [
            ("config", config, 5),
            ("process", process, 1),
            ("id_maps", id_maps, 1),
            ("mount_options", mount_options, 2),
            ("seccomp", seccomp, 1),
            ("state", state, 1),
            ("proc", proc, 2),
            ("program", program, 2),
            ("words", words, 3),
        ];
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds");
        for (name, parse, least) in cases {
            let files: Vec<_> = std::fs::read_dir(seeds.join(name)).unwrap().collect();
            assert!(files.len() >= least, "{name}");
            for file in files {
                parse(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}
