//! What a test needs of the machine.
//!
//! A need that is missing fails the test, because green must mean "ran". Only
//! a need named in `tests/known-gaps.txt` ends the test early instead, and
//! that is written down for the count at the end of the run.

use std::io::Write as _;
use std::path::Path;

use crate::repository;

/// Something outside the repository that tests cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Debian's docker-registry and skopeo.
    Registry,
    /// Debian's containerd, with `ctr` and its own shim.
    Containerd,
    /// Debian's runc.
    Runc,
    /// Debian's dockerd, its client, and what an enclosure needs.
    Dockerd,
    /// Debian's podman with conmon, and what an enclosure needs.
    Podman,
    /// A criu that gets along with this kernel.
    Criu,
    /// Debian's strace, which can end a program at a system call or fail it.
    Strace,
}

impl Need {
    /// The programs that make it up, and the packages they come from.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Registry => &[("docker-registry", "docker-registry"), ("skopeo", "skopeo")],
            Self::Containerd => &[
                ("containerd", "containerd"),
                ("ctr", "containerd"),
                ("containerd-shim-runc-v2", "containerd"),
            ],
            Self::Runc => &[("runc", "runc")],
            Self::Strace => &[("strace", "strace")],
            Self::Dockerd => &[
                ("dockerd", "docker.io"),
                ("docker", "docker.io"),
                ("docker-init", "docker.io"),
                ("ip", "iproute2"),
                ("nsenter", "util-linux"),
            ],
            Self::Podman => &[
                ("podman", "podman"),
                ("conmon", "conmon"),
                ("ip", "iproute2"),
                ("nsenter", "util-linux"),
            ],
            Self::Criu => &[],
        }
    }

    fn missing(self) -> Option<String> {
        if self == Self::Criu {
            return criu().is_none().then(|| {
                "no criu that works on this kernel (tests/setup/packages.sh test)".to_owned()
            });
        }
        let (program, package) = self
            .programs()
            .iter()
            .find(|(program, _)| on_path(program).is_none())?;
        Some(format!(
            "{program} is not installed (Debian package {package}; tests/setup/packages.sh test)"
        ))
    }
}

/// Returns true when the test cannot run here and may be skipped. Whoever
/// gets true returns at once.
///
/// # Panics
/// When a need is missing and not listed in `tests/known-gaps.txt`.
#[must_use]
#[track_caller]
pub fn skip(needs: &[Need]) -> bool {
    let gaps = std::fs::read_to_string(repository::root().join("tests/known-gaps.txt"))
        .expect("tests/known-gaps.txt can be read");
    for need in needs {
        let Some(missing) = need.missing() else {
            continue;
        };
        let name = format!("{need:?}");
        assert!(
            listed(&gaps, &name),
            "{missing}, and {name} is not listed in tests/known-gaps.txt"
        );
        note(&name);
        return true;
    }
    false
}

/// Whether `name` is the first word of a line of `gaps`.
fn listed(gaps: &str, name: &str) -> bool {
    gaps.lines()
        .any(|line| line.split_whitespace().next() == Some(name))
}

fn note(need: &str) {
    let thread = std::thread::current();
    let line = format!("{need}: {}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os("TESTS_SKIPPED") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests can be written");
    }
}

/// The first file named `program` on PATH or among the system's programs.
#[must_use]
pub fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|dir| Path::new(dir).join(program))
        .find(|file| file.is_file())
}

/// The criu that the tests' set-up unpacked, or the system's if it works here.
#[must_use]
pub fn criu() -> Option<std::path::PathBuf> {
    let unpacked = repository::bin_dir().join("../../tools/criu/criu");
    if unpacked.exists() {
        return unpacked.canonicalize().ok();
    }
    let system = on_path("criu")?;
    let works = std::process::Command::new(&system).arg("check").output();
    works
        .is_ok_and(|out| out.status.success())
        .then_some(system)
}

/// PATH with the criu that works here before every other, for callers whose
/// runtime looks for it there.
#[must_use]
pub fn path_with_criu() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    match criu().as_deref().and_then(Path::parent) {
        Some(dir) => format!("{}:{path}", dir.display()),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_listed_by_its_whole_first_word() {
        let gaps = "# Runc in a comment\nRuncOther  # why\nContainerd # why\n";
        assert!(listed(gaps, "Containerd"));
        assert!(!listed(gaps, "Runc"));
    }
}
