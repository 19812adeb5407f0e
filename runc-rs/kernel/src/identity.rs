//! Users, groups and capabilities of the calling thread, by raw system calls: glibc's wrappers would signal other threads,
//! and its `initgroups` would read the host's user database.

use std::io;

use crate::raw::check;

/// Sets real, effective, saved and filesystem user. See `setresuid(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Sets real, effective, saved and filesystem group. See `setresgid(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// Replaces the supplementary groups. See `setgroups(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_groups(gids: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe one live slice of 32-bit group ids.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) })?;
    Ok(())
}

/// Effective user of the caller.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether the caller is root of the first user namespace, not merely of one of its own.
#[must_use]
pub fn is_host_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all: Vec<&str> = map.split_whitespace().collect();
    effective_user() == 0 && all == ["0", "0", "4294967295"]
}

/// Three of the five capability sets, one bit for each capability number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What permission checks look at.
    pub effective: u64,
    /// What effective may be raised to.
    pub permitted: u64,
    /// What is kept over exec of a file with inheritable capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Reads the caller's sets. See `capget(2)`.
///
/// # Errors
/// What the kernel says.
pub fn capabilities() -> io::Result<Capabilities> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut words = [Words::default(); 2];
    // SAFETY: version 3 reads one header and writes two words, which is what these are.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Capabilities {
        effective: join(words[0].effective, words[1].effective),
        permitted: join(words[0].permitted, words[1].permitted),
        inheritable: join(words[0].inheritable, words[1].inheritable),
    })
}

/// Sets the caller's sets. See `capset(2)`.
///
/// # Errors
/// `EPERM` if permitted would grow.
pub fn set_capabilities(sets: Capabilities) -> io::Result<()> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let word = |shift: u32| Words {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let words = [word(0), word(32)];
    // SAFETY: version 3 reads one header and two words, which is what these are.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) })?;
    Ok(())
}

/// The capabilities that exist in this kernel and are in the caller's bounding set.
///
/// # Errors
/// What the kernel says.
pub fn bounding_set() -> io::Result<u64> {
    let mut set = 0;
    for number in 0..64_u64 {
        // SAFETY: takes integers and no pointers.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } {
            1 => set |= 1 << number,
            0 => {}
            _ => break, // EINVAL: past the last capability
        }
    }
    Ok(set)
}

/// Removes capability `number` from the bounding set for good (`PR_CAPBSET_DROP`).
///
/// # Errors
/// `EINVAL` for an unknown one, `EPERM` without `CAP_SETPCAP`.
pub fn drop_from_bounding(number: u32) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0, 0, 0)
    }))?;
    Ok(())
}

/// Empties the ambient set (`PR_CAP_AMBIENT_CLEAR_ALL`).
///
/// # Errors
/// What the kernel says.
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    }))?;
    Ok(())
}

/// Adds capability `number` to the ambient set (`PR_CAP_AMBIENT_RAISE`).
///
/// # Errors
/// `EPERM` unless it is both permitted and inheritable.
pub fn raise_ambient(number: u32) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE,
            u64::from(number),
            0,
            0,
        )
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permitted_set_lies_within_the_bounding_set_of_root() {
        let sets = capabilities().unwrap();
        assert_eq!(sets.effective & !sets.permitted, 0);
        assert_ne!(bounding_set().unwrap(), 0);
    }
}
