//! The runtime's program, and how it is executed.
//!
//! Our own runtime starts itself again from a read-only clone of its mount,
//! so that no container can write to it (CVE-2019-5736), unless it runs from one.
//! The shim keeps such a clone open and executes that: each call saves the
//! second start. A runtime that was replaced on disk is cloned anew.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Our own runtime's file name.
const OWN_RUNTIME: &str = "runc-rs";

/// A program that can be executed again and again.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    /// Whether it is ours, and would else protect itself.
    own: bool,
    clone: RefCell<Option<Cloned>>,
}

#[derive(Debug)]
struct Cloned {
    file: OwnedFd,
    stamp: Stamp,
}

/// What changes when a file is replaced or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Program {
    /// The runtime called `name`; ours, beside the shim or on the PATH, if
    /// that is empty.
    pub(crate) fn named(name: &str) -> Self {
        let path = if name.is_empty() { own() } else { name.into() };
        Self {
            own: path.is_absolute() && path.ends_with(OWN_RUNTIME) && is_elf(&path),
            path,
            clone: RefCell::default(),
        }
    }

    /// For a person.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A command that executes it.
    pub(crate) fn command(&self) -> Command {
        if self.own
            && let Ok(stamp) = Stamp::of(&self.path)
            && let Some(number) = self.cloned(stamp)
        {
            let mut command = Command::new(format!("/proc/self/fd/{number}"));
            command.arg0(&self.path);
            return command;
        }
        Command::new(&self.path)
    }

    /// The descriptor of the clone, made if need be. None where the kernel
    /// does not let us: then the runtime protects itself.
    fn cloned(&self, stamp: Stamp) -> Option<i32> {
        let mut clone = self.clone.borrow_mut();
        if clone.as_ref().is_none_or(|known| known.stamp != stamp) {
            *clone = kernel::protect::read_only_clone(&self.path)
                .ok()
                .map(|file| Cloned { file, stamp });
        }
        clone.as_ref().map(|known| known.file.as_raw_fd())
    }
}

fn own() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(OWN_RUNTIME)))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| OWN_RUNTIME.into())
}

/// A script's interpreter would not find it by the number of a descriptor
/// that is closed by then.
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && &magic == b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn copy(from: &str, to: &Path) {
        fs::copy(from, to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs it. A file that was just written cannot be executed while a child that another test has forked still holds it.
    fn status(command: &mut Command) -> std::process::ExitStatus {
        for _ in 0..3000 {
            match command.status() {
                Err(err) if err.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                ended => return ended.unwrap(),
            }
        }
        panic!("{command:?} stays busy");
    }

    #[test]
    fn our_own_runtime_runs_from_a_read_only_clone_until_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OWN_RUNTIME);
        copy("/bin/true", &path);
        let program = Program::named(path.to_str().unwrap());
        for _ in 0..2 {
            let mut command = program.command();
            assert!(Path::new(command.get_program()).starts_with("/proc/self/fd"));
            assert!(status(&mut command).success());
        }
        let new = dir.path().join("new");
        copy("/bin/false", &new);
        fs::rename(&new, &path).unwrap();
        assert_eq!(status(&mut program.command()).code(), Some(1));
    }

    #[test]
    fn others_and_scripts_are_executed_by_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OWN_RUNTIME);
        fs::write(&path, "#!/bin/sh\nexit 3\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let script = Program::named(path.to_str().unwrap());
        assert_eq!(script.command().get_program(), path);
        assert_eq!(status(&mut script.command()).code(), Some(3));
        assert_eq!(
            Program::named("/bin/true").command().get_program(),
            "/bin/true"
        );
        assert_eq!(Program::named("crun").command().get_program(), "crun");
    }
}
