//! What the host is like, as far as pods and containers depend on it.

use std::fs;
use std::path::Path;

use lite_core::capabilities::ALL;
use lite_core::{Because, Result};

/// The host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Controllers are on the unified hierarchy.
    pub cgroup2: bool,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Go's name of the machine: `amd64`.
    pub arch: String,
    /// The kernel counts swap.
    pub swap: bool,
    /// Number of the kernel's last capability.
    pub last_capability: usize,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// The least that the daemon may set a process's score to.
    pub least_oom_score: i64,
}

impl Host {
    /// Looks at this one.
    ///
    /// # Errors
    /// Those of `uname(2)`.
    pub(crate) fn look() -> Result<Self> {
        let uname = nix::sys::utsname::uname().op(|| "uname".to_owned())?;
        let release = uname.release().to_string_lossy().into_owned();
        let mut numbers = release
            .split(['.', '-', '+'])
            .map_while(|part| part.parse().ok());
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
        let memory = Path::new("/sys/fs/cgroup/memory");
        let own_score = number("/proc/self/oom_score_adj").unwrap_or(0);
        Ok(Self {
            cgroup2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            kernel: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
            arch: lite_core::Platform::host().architecture,
            swap: !memory.exists() || memory.join("memory.memsw.limit_in_bytes").exists(),
            last_capability: number("/proc/sys/kernel/cap_last_cap")
                .and_then(|last| usize::try_from(last).ok())
                .unwrap_or(ALL.len() - 1),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            least_oom_score: if may_lower_scores() { -1000 } else { own_score },
        })
    }
}

/// Without `CAP_SYS_RESOURCE` no process may lower its score.
fn may_lower_scores() -> bool {
    /// `CAP_SYS_RESOURCE`'s number.
    const SYS_RESOURCE: u32 = 24;
    kernel::identity::capabilities().is_ok_and(|sets| sets.effective & (1 << SYS_RESOURCE) != 0)
}
