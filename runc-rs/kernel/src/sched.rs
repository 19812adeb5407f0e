//! Scheduling policy, I/O priority, affinity, memory policy and personality of the calling process.

use std::io;

use crate::raw::check;

/// The arguments of `sched_setattr(2)`, in its layout.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedAttr {
    /// Size of this structure; [`set_scheduler`] fills it in.
    pub size: u32,
    /// `SCHED_OTHER` and so on, as a number.
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Niceness, for the fair policies.
    pub nice: i32,
    /// Priority, for the real-time policies.
    pub priority: u32,
    /// For the deadline policy, in nanoseconds.
    pub runtime: u64,
    /// For the deadline policy, in nanoseconds.
    pub deadline: u64,
    /// For the deadline policy, in nanoseconds.
    pub period: u64,
}

/// Sets the caller's scheduling policy. See `sched_setattr(2)`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` or real-time bandwidth.
pub fn set_scheduler(mut attr: SchedAttr) -> io::Result<()> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: the structure has the kernel's layout and says its size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// Sets the caller's I/O priority: class 1 real-time, 2 best effort, 3 idle. See `ioprio_set(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    let priority = i32::from(class) << 13 | i32::from(level);
    // SAFETY: takes integers and no pointers; 1 is IOPRIO_WHO_PROCESS.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, priority) })?;
    Ok(())
}

/// Sets the execution domain. See `personality(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes one integer.
    check(libc::c_long::from(unsafe { libc::personality(persona) }))?;
    Ok(())
}

/// Gives the caller's process group a core scheduling cookie of its own: hyperthreads of one core then run either processes
/// with that cookie, which children inherit, or none. See `PR_SCHED_CORE` in `prctl(2)`.
///
/// # Errors
/// `EINVAL` where the kernel has no core scheduling, `ENODEV` where the processor has no hyperthreads.
pub fn new_core_cookie() -> io::Result<()> {
    const PROCESS_GROUP: libc::c_ulong = 2;
    // SAFETY: takes integers and no pointers; 0 means the caller.
    check(libc::c_long::from(unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::PR_SCHED_CORE_CREATE as libc::c_ulong,
            0 as libc::c_ulong,
            PROCESS_GROUP,
            0 as libc::c_ulong,
        )
    }))?;
    Ok(())
}

/// Lets the caller run on every processor its cpuset allows, whatever its parent was bound to.
///
/// # Errors
/// What the kernel says.
pub fn reset_affinity() -> io::Result<()> {
    let all = [u8::MAX; 1024];
    // SAFETY: pointer and length describe one live array; the kernel cuts the mask down to what exists.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) })?;
    Ok(())
}

/// Lets the caller run only on the processors whose bits are set in `mask`, least first. See `sched_setaffinity(2)`.
///
/// # Errors
/// `EINVAL` if its cpuset allows none of them.
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: pointer and length describe one live array.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })?;
    Ok(())
}

/// From which memory nodes the caller gets its memory. `mode` is one of `MPOL_*`, with `MPOL_F_*` added; `nodes` has a bit for
/// each node, least first. See `set_mempolicy(2)`.
///
/// # Errors
/// `EINVAL` if mode and nodes do not fit together, or a node is not there.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel reads one bit less than it is told.
    let bits = if nodes.is_empty() {
        0
    } else {
        nodes.len() * 64 + 1
    };
    let nodes = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    // SAFETY: pointer and length describe one live array, or none.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })?;
    Ok(())
}
