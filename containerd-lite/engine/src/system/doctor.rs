//! What of the host would keep containers from running well, and what to type
//! against it. Each check is a question to the kernel or to files; none changes
//! anything.

use std::fs;
use std::path::Path;

use lite_core::{Result, accounts, chain};

use super::info::lsm;
use crate::engine::Engine;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// Something is missing that not everybody needs.
    Warning,
    /// Containers cannot run, or not as they should.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to type; empty where nothing is to be done.
    pub fix: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            fix: String::new(),
        }
    }

    fn not(
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict,
            found: found.into(),
            fix: fix.into(),
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// None in practice: what cannot be read is a finding.
pub async fn doctor(engine: &Engine) -> Result<Vec<Check>> {
    let engine = engine.clone();
    lite_core::blocking(move || {
        let (major, minor) = engine.host().kernel;
        let mut checks = vec![
            kernel(major, minor),
            overlay(),
            cgroups(engine.host().cgroup2),
            swap(engine.host().capacity.swap),
            namespaces(),
            seccomp(),
            security_modules(),
            forwarding(),
            firewall(),
            subordinate_ids("/etc/subuid"),
            subordinate_ids("/etc/subgid"),
            room(&engine.config().root),
        ];
        checks.extend(registries(&engine));
        Ok(checks)
    })
    .await
}

fn kernel(major: u32, minor: u32) -> Check {
    let found = format!("{major}.{minor}");
    match (major, minor) >= (5, 11) {
        true => Check::good("kernel", found),
        false => Check::not(
            "kernel",
            Verdict::Bad,
            format!("{found} is older than 5.11"),
            "apt-get install linux-image-amd64, and boot it",
        ),
    }
}

fn overlay() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    match known.lines().any(|line| line.ends_with("overlay")) {
        true => Check::good("overlayfs", "the kernel has it"),
        false => Check::not(
            "overlayfs",
            Verdict::Bad,
            "the kernel has not loaded it",
            "modprobe overlay",
        ),
    }
}

fn cgroups(unified: bool) -> Check {
    const NAME: &str = "cgroups";
    if unified {
        let file = "/sys/fs/cgroup/cgroup.controllers";
        let controllers = fs::read_to_string(file).unwrap_or_default();
        let missing: Vec<&str> = ["cpu", "memory", "pids", "io", "cpuset"]
            .into_iter()
            .filter(|wanted| !controllers.split_whitespace().any(|known| known == *wanted))
            .collect();
        return match missing.is_empty() {
            true => Check::good(NAME, "v2, with all controllers"),
            false => Check::not(
                NAME,
                Verdict::Warning,
                format!(
                    "v2, without {}: those limits cannot be set",
                    missing.join(", ")
                ),
                "add cgroup_enable=memory to the kernel's command line, and boot",
            ),
        };
    }
    let missing: Vec<&str> = [
        "cpu", "memory", "pids", "blkio", "cpuset", "devices", "freezer",
    ]
    .into_iter()
    .filter(|wanted| !Path::new("/sys/fs/cgroup").join(wanted).exists())
    .collect();
    match missing.as_slice() {
        [] => Check::good(NAME, "v1, with all controllers"),
        missing => Check::not(
            NAME,
            Verdict::Bad,
            format!("v1, without {}", missing.join(", ")),
            "mount -t cgroup -o NAME cgroup /sys/fs/cgroup/NAME, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn swap(counted: bool) -> Check {
    match counted {
        true => Check::good("swap limits", "the kernel counts swap"),
        false => Check::not(
            "swap limits",
            Verdict::Warning,
            "the kernel does not count swap: --memory-swap has no effect",
            "add swapaccount=1 to the kernel's command line, and boot",
        ),
    }
}

fn namespaces() -> Check {
    let missing: Vec<&str> = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    match missing.is_empty() {
        true => Check::good("namespaces", "the kernel has all of them"),
        false => Check::not(
            "namespaces",
            Verdict::Bad,
            format!("the kernel has no {}", missing.join(", ")),
            "use a kernel that is built with them",
        ),
    }
}

fn seccomp() -> Check {
    match Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        true => Check::good("seccomp", "the kernel filters system calls"),
        false => Check::not(
            "seccomp",
            Verdict::Bad,
            "the kernel cannot filter system calls",
            "use a kernel with CONFIG_SECCOMP_FILTER, or run with --security-opt seccomp=unconfined",
        ),
    }
}

fn security_modules() -> Check {
    let active: Vec<&str> = ["apparmor", "selinux", "landlock"]
        .into_iter()
        .filter(|name| lsm(name))
        .collect();
    match active.as_slice() {
        [] => Check::not(
            "security modules",
            Verdict::Warning,
            "neither AppArmor nor SELinux is active: containers are held by namespaces, capabilities and seccomp alone",
            "add lsm=apparmor to the kernel's command line, and boot",
        ),
        active => Check::good("security modules", active.join(", ")),
    }
}

fn forwarding() -> Check {
    let on = |path: &str| fs::read_to_string(path).is_ok_and(|on| on.trim() == "1");
    match on("/proc/sys/net/ipv4/ip_forward") {
        true => Check::good("forwarding", "packets of containers may pass"),
        false => Check::not(
            "forwarding",
            Verdict::Warning,
            "off until the first container with a network runs",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
    }
}

fn firewall() -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|dir: std::path::PathBuf| dir.join("nft"))
        .find(|file| file.is_file());
    match found {
        Some(file) => Check::good("firewall", file.display().to_string()),
        None => Check::not(
            "firewall",
            Verdict::Bad,
            "nft is not installed: no port can be published",
            "apt-get install nftables",
        ),
    }
}

fn subordinate_ids(file: &'static str) -> Check {
    let text = fs::read_to_string(file).unwrap_or_default();
    let count = text
        .lines()
        .filter(|line| line.split(':').count() == 3)
        .count();
    match count {
        0 => Check::not(
            file,
            Verdict::Warning,
            "no user has ids of its own to give: runc-rs without root maps one user only",
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ),
        count => Check::good(file, format!("{count} ranges")),
    }
}

fn room(root: &Path) -> Check {
    let free = nix::sys::statvfs::statvfs(root)
        .map(|found| found.blocks_available() * found.fragment_size())
        .unwrap_or(0);
    let found = format!("{} MB free below {}", free >> 20, root.display());
    match free >> 30 {
        0 => Check::not("disk", Verdict::Warning, found, "ctl system prune"),
        _ => Check::good("disk", found),
    }
}

/// Registries that are reached in another way than by their names: whether what
/// is configured for them can be read.
fn registries(engine: &Engine) -> Vec<Check> {
    let mut checks = Vec::new();
    for (domain, read) in accounts::configured(&engine.core().registry) {
        checks.push(match read {
            Ok(()) => Check::good("registry", domain),
            Err(err) => Check::not(
                "registry",
                Verdict::Bad,
                format!("{domain}: {}", chain(&err)),
                "mend or remove that file",
            ),
        });
    }
    if checks.is_empty() {
        let found = "none is configured: all are reached by their names";
        checks.push(Check::good("registries", found));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_with_what_to_do() {
        assert_eq!(kernel(6, 1).verdict, Verdict::Good);
        let old = kernel(5, 4);
        assert_eq!(old.verdict, Verdict::Bad);
        assert!(old.found.contains("5.4") && old.fix.contains("linux-image"));
    }
}
