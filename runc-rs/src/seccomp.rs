//! A seccomp profile turned into the program that the kernel loads.
//!
//! libseccomp takes 7 to 12 milliseconds to compile Docker's profile, loading the result takes 0.2. So the program is kept
//! below `<root>/.seccomp`, in a file named by the SHA-256 of everything it depends on: the profile, this machine's
//! architecture, and the versions of the library and of this module. A cached file is used only if its owner and mode are ours
//! alone; it is written to a temporary name and renamed, so that a half-written one is never read.
//!
//! The program looks a system call up in a binary tree: at loading the kernel runs it once for each call there is, and in a
//! chain of comparisons that is most of what loading costs.

pub(crate) mod agent;
mod newer_calls;

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};
use sha2::{Digest, Sha256};

use crate::failure::{Context, Failure, Result};

/// Changes whenever the same profile would be compiled differently.
const GENERATION: u32 = 3;

/// What a profile has to do with the order of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// There is none.
    Absent,
    /// The kernel decides alone.
    Silent,
    /// An agent is asked about some calls: it must have the descriptor for that before the parent is gone.
    Asking,
}

impl Filter {
    pub(crate) fn of(profile: Option<&LinuxSeccomp>) -> Self {
        match profile {
            None => Filter::Absent,
            Some(profile) if asks(profile) => Filter::Asking,
            Some(_) => Filter::Silent,
        }
    }
}

/// Whether some calls are put to an agent.
fn asks(profile: &LinuxSeccomp) -> bool {
    let notify = LinuxSeccompAction::ScmpActNotify;
    profile
        .syscalls()
        .iter()
        .flatten()
        .any(|rule| rule.action() == notify)
}

/// What a profile with an agent must fulfil. The filter is loaded before init has told its parent of the descriptor, and it
/// tells it by `write(2)`: that call cannot wait for an agent that is yet to come.
fn check_agent(profile: &LinuxSeccomp) -> Result<()> {
    let notify = LinuxSeccompAction::ScmpActNotify;
    let place = |what: &str| Failure::new(format!("config.json: /linux/seccomp: {what}"));
    if profile.default_action() == notify {
        return Err(place("SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let rules = profile.syscalls().iter().flatten();
    if rules
        .filter(|rule| rule.action() == notify)
        .any(|rule| rule.names().iter().any(|name| name == "write"))
    {
        return Err(place(
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ));
    }
    let path = profile.listener_path().as_deref();
    if asks(profile) && path.is_none_or(|path| path.as_os_str().is_empty()) {
        return Err(place(
            "listenerPath: seccomp listenerPath is not set, and SCMP_ACT_NOTIFY needs one",
        ));
    }
    Ok(())
}

/// A program ready to load, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u64,
}

/// The program of `profile`, out of the cache below `root` where possible. `None` if the profile allows everything.
pub(crate) fn program(profile: &LinuxSeccomp, root: &Path) -> Result<Option<Program>> {
    if profile.default_action() == LinuxSeccompAction::ScmpActAllow
        && profile.syscalls().as_ref().is_none_or(Vec::is_empty)
    {
        return Ok(None);
    }
    check_agent(profile)?;
    let flags = flags(profile);
    let file = cache_file(profile, root)?;
    if let Some(bytes) = read_cached(&file) {
        return Ok(Some(Program { bytes, flags }));
    }
    let bytes = compiled(profile)?;
    // A cache that cannot be written costs the next start ten milliseconds, not this one its success.
    let _next_time = write_cached(&file, &bytes);
    Ok(Some(Program { bytes, flags }))
}

/// The program's bytes, made anew.
pub(crate) fn compiled(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    let filter = compile(profile, BINARY_TREE).context(|| "compile seccomp profile".to_owned())?;
    let own = export(&filter).context(|| "export seccomp program".to_owned())?;
    Ok([newer_calls::refusal(profile, &architectures(profile)), own].concat())
}

fn flags(profile: &LinuxSeccomp) -> u64 {
    let listener = if asks(profile) {
        kernel::filter::NEW_LISTENER
    } else {
        0
    };
    match profile.flags() {
        // runc's default: a filter alone must not make every program slower.
        None => listener | kernel::filter::SPEC_ALLOW,
        Some(flags) => flags.iter().fold(listener, |bits, flag| {
            bits | match flag {
                // One thread: there is nothing to synchronise.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => kernel::filter::LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => kernel::filter::SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    kernel::filter::WAIT_KILLABLE
                }
            }
        }),
    }
}

fn cache_file(profile: &LinuxSeccomp, root: &Path) -> Result<PathBuf> {
    let version = ScmpVersion::current().context(|| "ask libseccomp for its version".to_owned())?;
    let mut hash = Sha256::new();
    hash.update(format!(
        "{GENERATION} {version} {}\n",
        std::env::consts::ARCH
    ));
    hash.update(serde_json::to_vec(profile).context(|| "print seccomp profile".to_owned())?);
    let name: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(root.join(".seccomp").join(name))
}

fn read_cached(file: &Path) -> Option<Vec<u8>> {
    let nofollow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let mut open = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nofollow)
        .open(file)
        .ok()?;
    let metadata = open.metadata().ok()?;
    let trusted = metadata.is_file()
        && metadata.uid() == kernel::identity::effective_user()
        && metadata.mode() & 0o077 == 0;
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).ok()?;
    (trusted && !bytes.is_empty() && bytes.len().is_multiple_of(8)).then_some(bytes)
}

fn write_cached(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let temporary = file.with_extension(std::process::id().to_string());
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut out| out.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _litter = fs::remove_file(&temporary);
    }
    written
}

type Seccomp<T> = std::result::Result<T, libseccomp::error::SeccompError>;

/// The program's bytes. libseccomp 2.5 writes them to a descriptor only.
fn export(
    filter: &ScmpFilterContext,
) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let memory = nix::sys::memfd::memfd_create(c"seccomp", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    filter.export_bpf(&memory)?;
    let mut file = fs::File::from(memory);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How libseccomp lays out a program.
const BINARY_TREE: u32 = 2;

fn compile(profile: &LinuxSeccomp, layout: u32) -> Seccomp<ScmpFilterContext> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default)?;
    filter.set_ctl_nnp(false)?;
    filter.set_ctl_optimize(layout)?;
    for arch in architectures(profile) {
        filter.add_arch(arch)?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret());
        if action == default {
            continue; // libseccomp refuses rules that change nothing
        }
        for name in rule.names() {
            // Names that this library does not know come with newer profiles; the default action covers them.
            let Ok(syscall) = ScmpSyscall::from_name(name) else {
                continue;
            };
            add_rule(
                &mut filter,
                action,
                syscall,
                rule.args().as_deref().unwrap_or_default(),
            )?;
        }
    }
    Ok(filter)
}

/// Conditions on different arguments must all hold. libseccomp takes one condition for an argument, so several on one mean
/// "any of them", as in runc.
fn add_rule(
    filter: &mut ScmpFilterContext,
    action: ScmpAction,
    syscall: ScmpSyscall,
    args: &[LinuxSeccompArg],
) -> Seccomp<()> {
    let compare = |arg: &LinuxSeccompArg| {
        let index = u32::try_from(arg.index()).unwrap_or(u32::MAX);
        let (op, datum) = match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
            LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
            LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
            LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
            LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
            LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
            LinuxSeccompOperator::ScmpCmpMaskedEq => (
                ScmpCompareOp::MaskedEqual(arg.value()),
                arg.value_two().unwrap_or(0),
            ),
        };
        ScmpArgCompare::new(index, op, datum)
    };
    let repeated = args
        .iter()
        .enumerate()
        .any(|(at, arg)| args[..at].iter().any(|other| other.index() == arg.index()));
    if repeated {
        for arg in args {
            filter.add_rule_conditional(action, syscall, &[compare(arg)])?;
        }
    } else if args.is_empty() {
        filter.add_rule(action, syscall)?;
    } else {
        let all: Vec<ScmpArgCompare> = args.iter().map(compare).collect();
        filter.add_rule_conditional(action, syscall, &all)?;
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(nix::errno::Errno::EPERM as u32);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(i32::try_from(errno).unwrap_or(i32::MAX))
        }
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(errno).unwrap_or(u16::MAX))
        }
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

fn architectures(profile: &LinuxSeccomp) -> Vec<ScmpArch> {
    let all = profile.architectures().iter().flatten();
    all.filter_map(|arch| architecture(*arch)).collect()
}

/// `None` for one that libseccomp 2.5 does not have; no program for it could run here.
fn architecture(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a classic BPF program returns for a `struct seccomp_data`, as the kernel would run it.
    fn verdict(program: &[u8], call: u32, arch: u32, argument: u64) -> u32 {
        let word = |offset: u32| match offset {
            0 => call,
            4 => arch,
            at if at % 8 == 0 => argument as u32,
            _ => (argument >> 32) as u32,
        };
        let (mut at, mut a, mut x) = (0, 0_u32, 0_u32);
        let mut memory = [0_u32; 16];
        loop {
            let code = &program[at * 8..at * 8 + 8];
            let (yes, no) = (usize::from(code[2]), usize::from(code[3]));
            let k = u32::from_ne_bytes(code[4..8].try_into().unwrap());
            at += 1;
            let jump = |condition: bool| if condition { yes } else { no };
            match u16::from_ne_bytes(code[..2].try_into().unwrap()) {
                0x20 => a = word(k),
                0x00 => a = k,
                0x60 => a = memory[k as usize],
                0x02 => memory[k as usize] = a,
                0x07 => x = a,
                0x87 => a = x,
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x45 => at += jump(a & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn calls_newer_than_the_profile_do_not_exist_and_others_stay_as_they_are() {
        let profile = include_str!("../../tests/bench/seccomp.json");
        let profile: LinuxSeccomp = serde_json::from_str(profile).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let whole = program(&profile, dir.path()).unwrap().unwrap().bytes;
        let own = export(&compile(&profile, BINARY_TREE).unwrap()).unwrap();
        let missing = nix::libc::SECCOMP_RET_ERRNO | nix::libc::ENOSYS.unsigned_abs();
        for arch in [0xc000_003e, 0x4000_0003] {
            let mut newer = 0;
            for call in (0..600).chain([1 << 30, u32::MAX]) {
                let (with, without) =
                    (verdict(&whole, call, arch, 0), verdict(&own, call, arch, 0));
                if with != without {
                    assert_eq!(with, missing, "call {call} on {arch:#x}");
                    assert!(call > 400, "call {call} is not new");
                    newer += 1;
                }
            }
            assert!(newer > 100, "{newer} on {arch:#x}");
        }
        let permissive: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#,
        )
        .unwrap();
        assert!(newer_calls::refusal(&permissive, &[]).is_empty());
    }

    #[test]
    fn the_tree_decides_as_the_chain_does() {
        let profile = include_str!("../../tests/bench/seccomp.json");
        let profile: LinuxSeccomp = serde_json::from_str(profile).unwrap();
        let [chain, tree] =
            [1, BINARY_TREE].map(|layout| export(&compile(&profile, layout).unwrap()).unwrap());
        let (x86_64, x86, other) = (0xc000_003e, 0x4000_0003, 0xc000_00b7);
        let mut allowed = 0;
        for arch in [x86_64, x86, other] {
            // The calls of x32 have bit 30 set.
            for call in (0..600).chain((1 << 30)..(1 << 30) + 600) {
                for argument in [0, 1, 8, 0x20000, 0x7e02_0000, u64::MAX] {
                    let [one, two] = [&chain, &tree].map(|p| verdict(p, call, arch, argument));
                    assert_eq!(one, two, "call {call:#x} on {arch:#x} with {argument:#x}");
                    allowed += u32::from(two == nix::libc::SECCOMP_RET_ALLOW);
                }
            }
        }
        assert!(allowed > 5000);
    }

    #[test]
    fn a_profile_is_compiled_once_and_a_file_of_others_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","no_such_call"],"action":"SCMP_ACT_ERRNO"}]}"#,
        )
        .unwrap();
        let first = program(&profile, dir.path()).unwrap().unwrap();
        let file = cache_file(&profile, dir.path()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), first.bytes);
        assert_eq!(read_cached(&file).as_ref(), Some(&first.bytes));
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(read_cached(&file), None);
    }
}
