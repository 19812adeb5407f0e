//! A directory and a name of one test's own, and what it left behind.
//!
//! The name is short (socket paths end at 107 bytes), random, and part of
//! everything the test makes: it is the directory's name, the cgroup parent's
//! name, and in the environment of the daemon. So whatever still carries it
//! at the end is litter, and belongs to nobody else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// One test's own place. Dropped, it ends what carries its name, and fails
/// the test if there was anything.
pub struct Scratch {
    dir: PathBuf,
    name: String,
}

impl Scratch {
    /// Makes a new one.
    ///
    /// # Panics
    /// Without root, as the tests make namespaces, mounts and cgroups.
    #[must_use]
    pub fn new() -> Self {
        assert!(
            Uid::effective().is_root(),
            "black-box tests make mounts and cgroups: run them as root"
        );
        network_of_its_own();
        let dir = tempfile::Builder::new()
            .prefix("lt")
            .rand_bytes(6)
            .tempdir_in("/tmp");
        let dir = dir.expect("a directory can be made in /tmp").keep();
        let name = dir
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        Self { dir, name }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below its directory.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// The same as text, for a command line.
    #[must_use]
    pub fn text(&self, below: &str) -> String {
        self.path(below).display().to_string()
    }

    /// Its name, for everything that needs one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Processes, mounts and cgroups that carry the name, one line each. The
    /// parent cgroup is not litter: whoever named it (the test) owns it, and
    /// runtimes leave the parent that they had to make.
    #[must_use]
    pub fn litter(&self) -> Vec<String> {
        let processes = self.processes().into_iter().map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            format!("process {pid}: {line}")
        });
        let mounts = self
            .mounts()
            .into_iter()
            .map(|at| format!("mount {}", at.display()));
        let cgroups = self
            .cgroups()
            .into_iter()
            .filter(|at| !at.ends_with(&self.name))
            .map(|at| format!("cgroup {}", at.display()));
        processes.chain(mounts).chain(cgroups).collect()
    }

    /// Processes whose command line, environment or cgroup carries the name.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let own = std::process::id().cast_signed();
        let all = fs::read_dir("/proc").expect("/proc can be read").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| *pid != own && self.is_ours(*pid))
            .collect()
    }

    fn is_ours(&self, pid: i32) -> bool {
        // A zombie is dead; only its parent has not asked yet.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("State:\tZ")) {
            return false;
        }
        ["cmdline", "environ", "cgroup"].iter().any(|file| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&self.name)
        })
    }

    /// Mount points whose path or source carries the name, innermost first.
    #[must_use]
    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo can be read");
        let mut found: Vec<PathBuf> = text
            .lines()
            .filter(|line| line.contains(&self.name))
            .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
            .collect();
        found.reverse();
        found
    }

    /// Cgroups whose path carries the name, innermost first.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in cgroup_roots() {
            collect_cgroups(&root, &self.name, 0, &mut found);
        }
        found
    }

    /// Waits a moment for what is on its way out, and returns what stays.
    #[must_use]
    pub fn litter_that_stays(&self) -> Vec<String> {
        for _ in 0..100 {
            if self.litter().is_empty() {
                return Vec::new();
            }
            thread::sleep(Duration::from_millis(30));
        }
        self.litter()
    }

    /// Ends, unmounts and removes whatever carries the name.
    fn sweep(&self) {
        for _ in 0..50 {
            let processes = self.processes();
            for pid in &processes {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            for at in self.mounts() {
                let _ = umount2(&at, MntFlags::MNT_DETACH);
            }
            for at in self.cgroups() {
                thaw(&at);
                drop(fs::remove_dir(&at));
            }
            if self.litter().is_empty() && self.cgroups().is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        // A mount that would not go must not be emptied through its path.
        if self.mounts().is_empty() {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

thread_local! {
    static HAS_NETWORK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Puts the calling thread, and whatever it starts from here on, into a network
/// namespace of its own: links, addresses and firewall rules that a test makes
/// are nobody else's, and end with it. Done once a thread, and so once a test.
fn network_of_its_own() {
    if HAS_NETWORK.replace(true) {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    let up = up.expect("ip can be run (tests/setup/packages.sh run)");
    assert!(up.success(), "ip link set lo up: {up}");
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let failing = thread::panicking();
        let litter = if failing {
            Vec::new()
        } else {
            self.litter_that_stays()
        };
        self.sweep();
        assert!(
            failing || litter.is_empty(),
            "left behind:\n{}",
            litter.join("\n")
        );
        assert!(
            failing || !self.dir.exists(),
            "{} could not be removed",
            self.dir.display()
        );
    }
}

/// Frozen processes do not die; v1 and v2 spell it differently.
fn thaw(cgroup: &Path) {
    drop(fs::write(cgroup.join("freezer.state"), "THAWED"));
    drop(fs::write(cgroup.join("cgroup.freeze"), "0"));
}

/// Where cgroup hierarchies are mounted.
#[must_use]
pub fn cgroup_roots() -> BTreeSet<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo can be read");
    text.lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect()
}

/// Cgroups live at most this deep: parent, container, its children.
const CGROUP_DEPTH: usize = 5;

fn collect_cgroups(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    if depth == CGROUP_DEPTH {
        return;
    }
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            collect_cgroups(&path, name, depth + 1, found);
            if path.to_string_lossy().contains(name) {
                found.push(path);
            }
        }
    }
}
