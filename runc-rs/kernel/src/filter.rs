//! Loading programs into the kernel: seccomp filters (classic BPF) and device rules of cgroup v2 (eBPF).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::raw::{check, own_fd};

/// `SECCOMP_FILTER_FLAG_TSYNC`
pub const TSYNC: u64 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`
pub const LOG: u64 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`
pub const SPEC_ALLOW: u64 = 4;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
pub const NEW_LISTENER: u64 = 8;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`
pub const WAIT_KILLABLE: u64 = 32;

/// Loads a seccomp filter for the calling thread. `program` is an array of 8-byte `struct sock_filter` in native byte order, as
/// `seccomp_export_bpf_mem` writes it. With [`NEW_LISTENER`] in `flags` the notification descriptor is returned.
/// See `seccomp(2)`.
///
/// # Errors
/// `EINVAL` for a program that is empty, no multiple of 8 long, or refused; `EACCES` without `CAP_SYS_ADMIN` or
/// no-new-privileges.
pub fn load_seccomp(program: &[u8], flags: u64) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u64,
    }
    if program.is_empty() || !program.len().is_multiple_of(8) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let instructions: Vec<u64> = program
        .chunks_exact(8)
        .map(|c| u64::from_ne_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]))
        .collect();
    let len = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program {
        len,
        filter: instructions.as_ptr(),
    };
    // SAFETY: the structure is `struct sock_fprog` and points to `len` instructions of eight bytes; both outlive the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if flags & NEW_LISTENER != 0 {
        own_fd(ret).map(Some)
    } else {
        check(ret).map(|_| None)
    }
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Loads an eBPF program of 8-byte instructions that decides on device access. See `bpf(2)`.
///
/// # Errors
/// `EINVAL` or `EACCES` if the kernel's verifier refuses it.
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        rest: [u64; 12],
    }
    let attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the attribute is laid out as the kernel reads it, padded with zeros; what it points to outlives the call.
    own_fd(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of::<Load>(),
        )
    })
}

/// Attaches a device program to a version 2 cgroup, beside those of the cgroups above.
///
/// # Errors
/// What the kernel says.
pub fn attach_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let attr: [u32; 4] = [
        cgroup.as_raw_fd() as u32,
        program.as_raw_fd() as u32,
        BPF_CGROUP_DEVICE,
        BPF_F_ALLOW_MULTI,
    ];
    // SAFETY: four 32-bit words, as this command reads them.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    })?;
    Ok(())
}
