//! Loading programs into the kernel: seccomp filters (classic BPF) and device rules of cgroup v2 (eBPF).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

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

/// Makes `program` the one device program of a version 2 cgroup, beside those of the cgroups above. One that is there already is
/// replaced in one step; of several, which only another program can have made, the new one is attached before they go, so that
/// at no moment there is none.
///
/// # Errors
/// What the kernel says: `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`.
pub fn replace_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let old = attached_device_programs(cgroup)?;
    match old.as_slice() {
        [] => attach(program, cgroup, None),
        [one] => attach(program, cgroup, Some(one.as_fd())),
        several => {
            attach(program, cgroup, None)?;
            for one in several {
                let attr = attachment(one.as_fd(), cgroup, 0, 0);
                // SAFETY: the attribute is laid out as this command reads it.
                check(unsafe {
                    libc::syscall(
                        libc::SYS_bpf,
                        BPF_PROG_DETACH,
                        attr.as_ptr(),
                        size_of_val(&attr),
                    )
                })?;
            }
            Ok(())
        }
    }
}

/// `target_fd`, `attach_bpf_fd`, `attach_type`, `attach_flags`, `replace_bpf_fd` of `union bpf_attr`.
fn attachment(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    flags: u32,
    replaced: i32,
) -> [u32; 5] {
    [
        cgroup.as_raw_fd() as u32,
        program.as_raw_fd() as u32,
        BPF_CGROUP_DEVICE,
        flags,
        replaced as u32,
    ]
}

fn attach(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let (flags, fd) = replaced.map_or((BPF_F_ALLOW_MULTI, 0), |old| {
        (BPF_F_ALLOW_MULTI | BPF_F_REPLACE, old.as_raw_fd())
    });
    let attr = attachment(program, cgroup, flags, fd);
    // SAFETY: the attribute is laid out as this command reads it; the descriptors are open for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    })
    .map(drop)
}

/// The device programs attached to a version 2 cgroup itself, not those of the cgroups above.
///
/// # Errors
/// What the kernel says.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    /// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        padding: u32,
    }
    // The kernel itself takes no more than this many in one group.
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: the attribute is laid out as this command reads it; it writes to `ids`, whose length it is told, and to `query`.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut query,
            size_of::<Query>(),
        )
    })?;
    let count = usize::try_from(query.prog_cnt).unwrap_or(ids.len());
    ids.iter()
        .take(count)
        .map(|id| {
            let attr: [u32; 3] = [*id, 0, 0];
            // SAFETY: three 32-bit words, as this command reads them.
            own_fd(unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    BPF_PROG_GET_FD_BY_ID,
                    attr.as_ptr(),
                    size_of_val(&attr),
                )
            })
        })
        .collect()
}
