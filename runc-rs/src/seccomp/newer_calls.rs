//! System calls that are newer than a profile get `ENOSYS`, whatever its default.
//!
//! A C library that knows a new call tries it and falls back to an old one on `ENOSYS`; `EPERM` it takes for the answer. So in
//! front of a program that denies by default stands a test for each architecture: a number above the highest that the profile
//! speaks of is a call its author did not know.

use libseccomp::{ScmpArch, ScmpSyscall};
use nix::libc;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER: u16 = 0x25;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has the call's number and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// On x86-64 numbers from here up are calls of x32, which are left to the profile.
const X32: u32 = 0x4000_0000;

/// The architectures this is done for, as the kernel numbers them.
const ARCHITECTURES: [(ScmpArch, u32); 4] = [
    (ScmpArch::X8664, 0xc000_003e),
    (ScmpArch::X86, 0x4000_0003),
    (ScmpArch::Aarch64, 0xc000_00b7),
    (ScmpArch::Arm, 0x4000_0028),
];

/// What to put in front of the program of `profile`, whose architectures besides this machine's own are `archs`.
pub(super) fn refusal(profile: &LinuxSeccomp, archs: &[ScmpArch]) -> Vec<u8> {
    let denies = match profile.default_action() {
        LinuxSeccompAction::ScmpActErrno => {
            profile.default_errno_ret() != Some(libc::ENOSYS.unsigned_abs())
        }
        LinuxSeccompAction::ScmpActKill
        | LinuxSeccompAction::ScmpActKillThread
        | LinuxSeccompAction::ScmpActKillProcess
        | LinuxSeccompAction::ScmpActTrap => true,
        _ => false,
    };
    let mut out = Vec::new();
    for (arch, number) in ARCHITECTURES {
        if denies
            && (archs.contains(&arch) || arch == ScmpArch::native())
            && let Some(last) = last_call(profile, arch)
        {
            test(&mut out, number, last);
        }
    }
    out
}

/// The highest number that the profile speaks of.
fn last_call(profile: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.names())
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok())
        // The library numbers calls that an architecture has only by another way below zero.
        .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
        .max()
}

fn test(out: &mut Vec<u8>, arch: u32, last: u32) {
    let mut add = |code: u16, yes: u8, no: u8, k: u32| {
        out.extend(code.to_ne_bytes());
        out.extend([yes, no]);
        out.extend(k.to_ne_bytes());
    };
    add(LOAD, 0, 0, ARCHITECTURE);
    add(JUMP_IF_EQUAL, 0, 4, arch);
    add(LOAD, 0, 0, NUMBER);
    add(JUMP_IF_NOT_LESS, 2, 0, X32);
    add(JUMP_IF_GREATER, 0, 1, last);
    add(
        RETURN,
        0,
        0,
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
    );
}
