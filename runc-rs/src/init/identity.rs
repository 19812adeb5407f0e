//! Who the process is and what it may do: limits, labels, filter, user, capabilities, working directory.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use kernel::identity as ids;
use kernel::path::Within;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use super::{Applied, Init, StepError};
use crate::plan::Step;
use crate::process::Identity;

impl Init<'_> {
    pub(super) fn credentials(&self, step: &Step) -> Applied {
        match step {
            Step::Umask { mask } => {
                umask(Mode::from_bits_truncate(*mask));
            }
            Step::Personality { persona } => kernel::sched::set_personality(*persona)?,
            Step::Scheduler { attr } => kernel::sched::set_scheduler(*attr)?,
            Step::IoPriority { class, level } => kernel::sched::set_io_priority(*class, *level)?,
            Step::Rlimit(limit) => {
                nix::sys::resource::setrlimit(limit.resource, limit.soft, limit.hard)?
            }
            Step::Affinity(set) => kernel::sched::set_affinity(set.words())?,
            // Without it the caller's own binding stays, which a filter around us may insist on.
            Step::ResetAffinity => drop(kernel::sched::reset_affinity()),
            Step::MemoryPolicy(policy) => {
                kernel::sched::set_memory_policy(policy.mode, policy.nodes.words())?
            }
            Step::NoNewPrivileges => kernel::process::no_new_privileges()?,
            Step::AppArmor { profile } => {
                self.label("apparmor/exec", &format!("exec {profile}"))?
            }
            Step::SeLinux { label } => self.label("exec", label)?,
            Step::Identity(who) => self.become_identity(who)?,
            _ => {}
        }
        Ok(())
    }

    /// Joins the container's session keyring; with a label, as one that its processes may use.
    pub(super) fn keyring(&self, name: &str, label: Option<&str>) -> Applied {
        if let Some(label) = label {
            self.label("keycreate", label)?;
        }
        match kernel::process::new_session_keyring(name) {
            // A kernel without key retention has nothing to keep apart.
            Err(e) if e.raw_os_error() == Some(Errno::ENOSYS as i32) => {}
            other => other?,
        }
        match label {
            Some(_) => self.label("keycreate", "\n"),
            None => Ok(()),
        }
    }

    /// Labels take effect at exec and are written through the host's procfs, which the container cannot have replaced.
    fn label(&self, file: &str, text: &str) -> Applied {
        let path = Path::new("thread-self/attr").join(file);
        let flags = nix::fcntl::OFlag::O_WRONLY.bits();
        let file = kernel::path::open_in(self.proc.as_fd(), &path, flags, 0, Within::Root)?;
        Ok(File::from(file).write_all(text.as_bytes())?)
    }

    fn become_identity(&self, who: &Identity) -> Applied {
        own_stdio(who.uid);
        if who.capabilities.is_some() {
            ids::clear_ambient().map_err(|e| StepError::from(e).about("clear ambient set"))?;
            ids_keep()?;
        }
        if let Some(sets) = who.capabilities {
            let bounding = ids::bounding_set()?;
            for number in (0..64).filter(|n| bounding & !sets.bounding & 1 << n != 0) {
                ids::drop_from_bounding(number)
                    .map_err(|e| StepError::from(e).about(format!("drop capability {number}")))?;
            }
        }
        // A user namespace whose maps were written by an unprivileged user forbids setgroups; that none are wanted is then fine.
        match ids::set_groups(&who.groups) {
            Err(e)
                if self.in_user_namespace
                    && who.groups.is_empty()
                    && e.raw_os_error() == Some(Errno::EPERM as i32) => {}
            other => other.map_err(|e| StepError::from(e).about("set groups"))?,
        }
        ids::set_group(who.gid)
            .map_err(|e| StepError::from(e).about(format!("set group {}", who.gid)))?;
        ids::set_user(who.uid)
            .map_err(|e| StepError::from(e).about(format!("set user {}", who.uid)))?;
        let Some(sets) = who.capabilities else {
            return Ok(());
        };
        let wanted = ids::Capabilities {
            effective: sets.effective & sets.permitted,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
        };
        ids::set_capabilities(wanted).map_err(|e| StepError::from(e).about("set capabilities"))?;
        kernel::process::keep_capabilities(false)?;
        // The kernel lets a capability be ambient only if it is permitted and inheritable; others are left out, as runc does.
        for number in (0..64).filter(|n| sets.raised() & 1 << n != 0) {
            ids::raise_ambient(number)
                .map_err(|e| StepError::from(e).about(format!("raise ambient {number}")))?;
        }
        Ok(())
    }
}

fn ids_keep() -> Applied {
    Ok(kernel::process::keep_capabilities(true)?)
}

/// Gives pipes and terminals on standard descriptors to the user, who may want to open them again through /proc. What cannot be
/// given (a file on a read-only mount, /dev/null) stays usable as it is.
fn own_stdio(uid: u32) {
    for fd in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        let Ok(stat) = nix::sys::stat::fstat(fd) else {
            continue;
        };
        let null =
            nix::sys::stat::major(stat.st_rdev) == 1 && nix::sys::stat::minor(stat.st_rdev) == 3;
        if stat.st_uid != uid && !null {
            let _stays_as_it_is = nix::unistd::fchown(fd, Some(uid.into()), None);
        }
    }
}

/// Changes into `path`, and says whether it could; that it may not is no error, as the user may.
pub(super) fn enter(path: &Path) -> Result<bool, StepError> {
    match nix::unistd::chdir(path) {
        Ok(()) => inside().map(|()| true),
        Err(Errno::EACCES | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Changes into `path`, unless it was `entered` before.
pub(super) fn working_directory(path: &Path, entered: bool) -> Applied {
    if entered {
        return Ok(());
    }
    nix::unistd::chdir(path)?;
    inside()
}

/// Makes sure that the working directory lies inside: a descriptor of the host that leaked in would show as a directory outside
/// of the root (CVE-2024-21626).
fn inside() -> Applied {
    match nix::unistd::getcwd() {
        Ok(now) if now.is_absolute() => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => Err(StepError::words(
            "current working directory is outside of container mount namespace root".to_owned(),
        )),
        Err(errno) => Err(errno.into()),
    }
}
