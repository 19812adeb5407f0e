//! Finds the program of a process, and says what is at fault when it cannot run: the file, its interpreter, or its architecture.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::{Applied, Init, Progress, StepError};
use crate::phrases::ProgramFault;

/// Longer user databases are not read for a home directory.
const PASSWD_LIMIT: u64 = 1 << 20;

impl Init<'_> {
    pub(super) fn find_program(&mut self, progress: &mut Progress) -> Applied {
        let has = |key: &str| self.env.iter().any(|e| e.split('=').next() == Some(key));
        if !has("HOME") {
            let uid = kernel::identity::effective_user();
            self.env.push(format!(
                "HOME={}",
                home_of(uid).unwrap_or_else(|| "/".to_owned())
            ));
        }
        let name = &self.args[0];
        let path = self.env.iter().find_map(|e| e.strip_prefix("PATH="));
        progress.program = look_up(name, path).map_err(|fault| StepError::program(fault, name))?;
        diagnose(&progress.program).map_err(|fault| StepError::program(fault, name))
    }
}

/// The home of `uid` in the container's /etc/passwd. The file is the image's: it may be a fifo, endless, or not text.
fn home_of(uid: u32) -> Option<String> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open("/etc/passwd")
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(PASSWD_LIMIT).read_to_end(&mut bytes).ok()?;
    home_in(&String::from_utf8_lossy(&bytes), uid)
}

pub(crate) fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find_map(|fields| match fields.as_slice() {
            [_, _, id, _, _, home, ..] if id.parse() == Ok(uid) && !home.is_empty() => {
                Some((*home).to_owned())
            }
            _ => None,
        })
}

/// A name with a slash is a path; any other is looked for in each directory of PATH.
fn look_up(name: &str, path: Option<&str>) -> Result<PathBuf, ProgramFault> {
    if name.contains('/') {
        return runnable(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let mut forbidden = false;
    for dir in path.unwrap_or_default().split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(ProgramFault::Forbidden) => forbidden = true,
            Err(_) => {}
        }
    }
    Err(if forbidden {
        ProgramFault::Forbidden
    } else {
        ProgramFault::NotInPath
    })
}

/// Whether the caller, as it is now, may execute the file.
fn runnable(path: &Path) -> Result<(), ProgramFault> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(ProgramFault::Forbidden);
        }
        Err(_) => return Err(ProgramFault::Missing),
    };
    if metadata.is_dir() {
        return Err(ProgramFault::Directory);
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(ProgramFault::Forbidden);
    }
    match faccessat(
        nix::fcntl::AT_FDCWD,
        path,
        AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    ) {
        Ok(()) => Ok(()),
        // A filter that does not know the system call must not keep a program from starting; exec itself decides.
        Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(_) => Err(ProgramFault::Forbidden),
    }
}

/// Looks into the file for what would make exec fail. What cannot be read is left to exec.
pub(crate) fn diagnose(path: &Path) -> Result<(), ProgramFault> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let Ok(mut file) = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
    else {
        return Ok(());
    };
    let ordinary = file
        .metadata()
        .is_ok_and(|m| m.is_file() && !m.file_type().is_fifo());
    let mut head = vec![0_u8; 4096];
    let Ok(len) = (if ordinary {
        file.read(&mut head)
    } else {
        return Ok(());
    }) else {
        return Ok(());
    };
    head.truncate(len);
    if head.starts_with(b"#!") {
        return match script_interpreter(&head) {
            Some(interpreter) if !Path::new(&interpreter).exists() => {
                Err(ProgramFault::Interpreter(interpreter))
            }
            Some(_) => Ok(()),
            None => Err(ProgramFault::Format),
        };
    }
    // A handler of binfmt_misc may run what the kernel alone cannot.
    let handlers = Path::new("/proc/sys/fs/binfmt_misc/status").exists();
    if !head.starts_with(b"\x7fELF") {
        return if handlers {
            Ok(())
        } else {
            Err(ProgramFault::Format)
        };
    }
    if let Some(machine) = foreign_machine(&head)
        && !handlers
    {
        return Err(ProgramFault::Architecture(machine));
    }
    match elf_interpreter(&head, &mut file) {
        Some(interpreter) if !Path::new(&interpreter).exists() => {
            Err(ProgramFault::Interpreter(interpreter))
        }
        _ => Ok(()),
    }
}

fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head[2..].split(|b| *b == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    text.split_whitespace().next().map(str::to_owned)
}

/// The name of the machine of an ELF file, if this one cannot run it.
fn foreign_machine(head: &[u8]) -> Option<String> {
    let machine = u16::from_le_bytes([*head.get(18)?, *head.get(19)?]);
    let big_endian = head.get(5) == Some(&2);
    let machine = if big_endian {
        machine.swap_bytes()
    } else {
        machine
    };
    let name = match machine {
        3 | 62 if cfg!(target_arch = "x86_64") => return None,
        40 | 183 if cfg!(target_arch = "aarch64") => return None,
        3 => "x86",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        other => return Some(format!("machine {other}")),
    };
    Some(name.to_owned())
}

/// The path in the PT_INTERP segment of a 64- or 32-bit little-endian ELF file.
fn elf_interpreter(head: &[u8], file: &mut File) -> Option<String> {
    let wide = head.get(4) == Some(&2);
    let number = |at: usize, len: usize| -> Option<u64> {
        head.get(at..at.checked_add(len)?)?
            .iter()
            .rev()
            .try_fold(0_u64, |n, byte| Some(n << 8 | u64::from(*byte)))
    };
    let (table, entry, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for index in 0..count.min(64) {
        let at = usize::try_from(table.checked_add(index * entry)?).ok()?;
        let field = |offset: usize, len| number(at.checked_add(offset)?, len);
        if field(0, 4)? == 3 {
            let (offset, size) = if wide {
                (field(8, 8)?, field(32, 8)?)
            } else {
                (field(4, 4)?, field(16, 4)?)
            };
            let mut bytes = vec![0; usize::try_from(size.min(4096)).ok()?];
            std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset).ok()?;
            let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

/// Words for exec's own refusal, which comes after all checks: the file changed, or could not be read by us.
pub(super) fn after_exec(path: &Path, errno: Errno, name: &str) -> StepError {
    match (diagnose(path), errno) {
        (Err(fault), _) => StepError::program(fault, name),
        (Ok(()), Errno::ENOENT) => StepError::program(ProgramFault::Missing, name),
        (Ok(()), Errno::EACCES) => StepError::program(ProgramFault::Forbidden, name),
        (Ok(()), Errno::ENOEXEC) => StepError::program(ProgramFault::Format, name),
        (Ok(()), other) => StepError::from(other).about(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn homes_are_read_from_the_user_database() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nme:x:7:7::/home/me:/bin/sh\n";
        assert_eq!(home_in(passwd, 7).as_deref(), Some("/home/me"));
        assert_eq!(home_in(passwd, 8), None);
    }

    #[test]
    fn what_keeps_a_program_from_running_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let script = write("script", b"#!/no/such/interpreter -x\n", 0o755);
        assert_eq!(
            diagnose(&script),
            Err(ProgramFault::Interpreter("/no/such/interpreter".into()))
        );
        let mut elf = std::fs::read("/proc/self/exe").unwrap();
        elf.truncate(4096);
        elf[18] = 183;
        let foreign = write("foreign", &elf, 0o755);
        assert_eq!(
            diagnose(&foreign),
            Err(ProgramFault::Architecture("aarch64".into()))
        );
        let text = write("text", b"hello\n", 0o644);
        assert_eq!(diagnose(&text), Err(ProgramFault::Format));
        assert_eq!(runnable(&text), Err(ProgramFault::Forbidden));
        assert_eq!(runnable(dir.path()), Err(ProgramFault::Directory));
        assert_eq!(
            look_up("no-such-program", Some("/bin:/usr/bin")),
            Err(ProgramFault::NotInPath)
        );
        assert!(look_up("sh", Some("/nowhere:/bin")).is_ok());
        assert_eq!(diagnose(Path::new("/bin/bash")), Ok(()));
        let mut bash = File::open("/bin/bash").unwrap();
        let mut head = vec![0; 4096];
        bash.read_exact(&mut head).unwrap();
        assert_eq!(
            elf_interpreter(&head, &mut bash).as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
    }
}
