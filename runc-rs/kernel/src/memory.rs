//! Memory that a process will need at once, and memory that it does not need while it waits.

use std::ffi::c_void;
use std::fs;
use std::io;

use crate::raw::check;

const PAGE_BYTES: u64 = 4096;

/// What the functions below may need of the stack themselves.
const STACK_RESERVE_BYTES: u64 = PAGE_BYTES;

/// Room on the heap for about `bytes`, faulted in by one system call: as many single faults take ten times as long, in a virtual
/// machine more. Never needed, so nothing is said if it does not work (`MADV_POPULATE_WRITE` is of kernel 5.14).
pub fn expect_heap(bytes: usize) {
    /// The allocator maps anything larger by itself.
    const PIECE: usize = 100 << 10;
    let padding = i32::try_from(bytes.saturating_sub(PIECE)).unwrap_or(0);
    // SAFETY: sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_TOP_PAD, padding) };
    // SAFETY: returns memory or a null pointer.
    let first = unsafe { libc::malloc(PIECE) };
    // The heap has room for one piece from the start, so the second makes it grow by the padding.
    // SAFETY: as above.
    let second = unsafe { libc::malloc(PIECE) };
    // SAFETY: it came from there, and is not used again.
    unsafe { libc::free(second) };
    // SAFETY: as above.
    unsafe { libc::free(first) };
    let from = first as usize & !(PAGE_BYTES as usize - 1);
    // SAFETY: asks where the heap ends.
    let to = unsafe { libc::sbrk(0) } as usize;
    if from != 0 && from < to {
        // SAFETY: what lies between is the allocator's; faulting in keeps what is there.
        unsafe { libc::madvise(from as *mut c_void, to - from, libc::MADV_POPULATE_WRITE) };
    }
}

/// Gives back the free memory of the heap and the stack below the caller, and unmaps the running program's code and constants.
/// What is used again comes back by itself: heap and stack as zeros, code from the page cache, which all processes of the
/// program share, at less than a microsecond for sixteen pages. A process that sleeps for hours then holds little more
/// than what it knows.
///
/// For programs of one thread: another's stack is not looked for.
///
/// # Errors
/// What the kernel says.
pub fn release_unused() -> io::Result<()> {
    release_stack()?;
    // SAFETY: takes an integer; what is allocated stays as it is.
    unsafe { libc::malloc_trim(0) };
    let mut released = Ok(());
    // SAFETY: the callback has the type that is called for, and `released` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(release_program), (&raw mut released).cast()) };
    released
}

/// Releases the segments of the program that nobody can have written to. It is the first object of the list, and the only one
/// of a static program but for the kernel's own.
unsafe extern "C" fn release_program(
    program: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    released: *mut c_void,
) -> libc::c_int {
    const STOP: libc::c_int = 1;
    // SAFETY: the C library passes a valid description.
    let program = unsafe { &*program };
    // SAFETY: it is what `release_unused` handed over, which waits for this call.
    let released = unsafe { &mut *released.cast::<io::Result<()>>() };
    if program.dlpi_phdr.is_null() {
        return STOP;
    }
    // SAFETY: the description says how many headers there are.
    let headers =
        unsafe { std::slice::from_raw_parts(program.dlpi_phdr, usize::from(program.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = program.dlpi_addr + header.p_vaddr;
        // SAFETY: a segment that is not writable is a private mapping of the program's file whose pages equal the file's:
        // relocations are applied to writable segments alone. Dropping such pages changes no contents.
        let dropped = unsafe { drop_pages(start, start + header.p_memsz) };
        if released.is_ok() {
            *released = dropped;
        }
    }
    STOP
}

fn release_stack() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let bottom = maps
        .lines()
        .find(|line| line.ends_with("[stack]"))
        .and_then(|line| line.split_once('-'))
        .and_then(|(start, _)| u64::from_str_radix(start, 16).ok());
    let here = 0u8;
    let used_from = (&raw const here) as u64;
    match bottom {
        // Another thread's stack lies elsewhere.
        Some(bottom) if bottom < used_from => {
            // SAFETY: below the frames in use a stack holds nothing; the reserve covers the calls made from here.
            unsafe {
                drop_pages(
                    bottom,
                    used_from - STACK_RESERVE_BYTES.min(used_from - bottom),
                )
            }
        }
        _ => Ok(()),
    }
}

/// Drops the whole pages between two addresses.
///
/// # Safety
/// Their contents must either be without meaning or come back by themselves.
unsafe fn drop_pages(from: u64, to: u64) -> io::Result<()> {
    let start = from.next_multiple_of(PAGE_BYTES);
    let end = to & !(PAGE_BYTES - 1);
    if start >= end {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    check(libc::c_long::from(unsafe {
        libc::madvise(
            start as *mut c_void,
            (end - start) as libc::size_t,
            libc::MADV_DONTNEED,
        )
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_with_what_is_released() {
        let kept: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..3 {
            release_unused().unwrap();
            assert!(kept.iter().zip((0..=255).cycle()).all(|(&a, b)| a == b));
        }
    }
}
