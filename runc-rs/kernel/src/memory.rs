//! Memory that a process will need at once, and memory that it does not need while it waits.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use crate::entry::call;
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

/// Reads a byte from `from`; `None` at its end. While it waits, this process holds no more of the program than the few pages that
/// the waiting itself runs in, and none of the heap and the stack that it does not need: see [`release_unused`].
///
/// The pages of the program are dropped last, by code that calls nothing on from there to the wait: each function that ran in
/// between would bring back sixteen pages or more around itself.
///
/// # Errors
/// What `read(2)` says. That memory could not be released is none.
pub fn read_byte_in_little_memory(
    from: BorrowedFd<'_>,
    unwritten: &Unwritten,
) -> io::Result<Option<u8>> {
    let segments = Segments::find();
    let _kept = release_unused();
    for (start, length) in &unwritten.0 {
        drop_segment(*start, *length);
    }
    let mut byte = 0;
    loop {
        let read = sleep_and_read(&segments, from.as_raw_fd() as usize, &mut byte);
        match i32::try_from(-read) {
            Ok(libc::EINTR) => {}
            Ok(errno @ 1..) => return Err(io::Error::from_raw_os_error(errno)),
            _ => return Ok((read > 0).then_some(byte)),
        }
    }
}

/// Parts of the program that nobody writes to: start and length.
#[derive(Default)]
struct Segments([(usize, usize); 4]);

impl Segments {
    fn find() -> Self {
        let mut segments = Self::default();
        // SAFETY: the callback has the type that is called for, and `segments` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(find_constant), (&raw mut segments).cast()) };
        segments
    }
}

/// Pages of the program's constants that have pointers in them, as far as nobody has written to them: a fixed program's are as
/// they are in its file, but for a few that the C library fills in when it starts.
#[derive(Debug, Default)]
pub struct Unwritten(Vec<(usize, usize)>);

impl Unwritten {
    /// Asks the kernel, by the file `pagemap` of the calling process in procfs (`proc_pid_pagemap(5)`). No such file, no such
    /// pages.
    #[must_use]
    pub fn find(pagemap: &fs::File) -> Self {
        let mut protected = (0_usize, 0_usize);
        // SAFETY: the callback has the type that is called for, and `protected` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(find_protected), (&raw mut protected).cast()) };
        let (start, end) = protected;
        let page = PAGE_BYTES as usize;
        let mut entries = vec![0; (end - start) / page * 8];
        let at = (start / page * 8) as u64;
        if pagemap.read_exact_at(&mut entries, at).is_err() {
            return Self::default();
        }
        let (entries, _) = entries.as_chunks::<8>();
        let places = (start..end).step_by(page).zip(entries);
        let unwritten = places.filter(|(_, entry)| is_of_the_file(u64::from_ne_bytes(**entry)));
        Self(unwritten.map(|(place, _)| (place, page)).collect())
    }
}

/// Whether the page is there and still the file's own.
fn is_of_the_file(entry: u64) -> bool {
    const PRESENT: u64 = 1 << 63;
    const FILE: u64 = 1 << 61;
    entry & PRESENT != 0 && entry & FILE != 0
}

/// Notes where the part lies that is read-only once the program has started (`PT_GNU_RELRO`), in whole pages.
unsafe extern "C" fn find_protected(
    program: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> libc::c_int {
    const STOP: libc::c_int = 1;
    // SAFETY: the C library passes a valid description.
    let program = unsafe { &*program };
    // SAFETY: it is what the caller of the iteration handed over, which waits for this call.
    let found = unsafe { &mut *found.cast::<(usize, usize)>() };
    // SAFETY: as the C library says.
    let headers = unsafe { headers(program) };
    if let Some(header) = headers.iter().find(|h| h.p_type == libc::PT_GNU_RELRO) {
        let start = (program.dlpi_addr + header.p_vaddr).next_multiple_of(PAGE_BYTES);
        let end = (program.dlpi_addr + header.p_vaddr + header.p_memsz) & !(PAGE_BYTES - 1);
        *found = (start as usize, end.max(start) as usize);
    }
    STOP
}

/// Drops pages of a private mapping that equal its file.
#[inline(always)]
fn drop_segment(start: usize, length: usize) {
    if length != 0 {
        let advice = libc::MADV_DONTNEED as usize;
        // SAFETY: such pages come back as they were.
        unsafe { call(libc::SYS_madvise, start, length, advice, 0, 0) };
    }
}

/// Nothing but system calls: see [`read_byte_in_little_memory`].
#[inline(never)]
fn sleep_and_read(segments: &Segments, from: usize, byte: &mut u8) -> isize {
    let mut at = 0;
    while at < segments.0.len() {
        let (start, length) = segments.0[at];
        drop_segment(start, length);
        at += 1;
    }
    let to = std::ptr::from_mut(byte) as usize;
    // SAFETY: there is room for one byte.
    unsafe { call(libc::SYS_read, from, to, 1, 0, 0) }
}

/// Notes the segments that [`release_program`] would release.
unsafe extern "C" fn find_constant(
    program: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> libc::c_int {
    const STOP: libc::c_int = 1;
    // SAFETY: the C library passes a valid description.
    let program = unsafe { &*program };
    // SAFETY: it is what the caller of the iteration handed over, which waits for this call.
    let found = unsafe { &mut *found.cast::<Segments>() };
    // SAFETY: as the C library says.
    let headers = unsafe { constant(program) };
    for (slot, (start, end)) in found.0.iter_mut().zip(headers) {
        *slot = (start as usize, (end - start) as usize);
    }
    STOP
}

/// The whole pages of the segments that are not writable. Relocations are applied to writable segments alone, so that these
/// equal the program's file.
///
/// # Safety
/// The description must be the C library's.
unsafe fn constant(program: &libc::dl_phdr_info) -> impl Iterator<Item = (u64, u64)> {
    let base = program.dlpi_addr;
    // SAFETY: as the caller says.
    let headers = unsafe { headers(program) };
    let unwritten =
        |h: &&libc::Elf64_Phdr| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0;
    headers.iter().filter(unwritten).map(move |header| {
        let start = (base + header.p_vaddr).next_multiple_of(PAGE_BYTES);
        let end = (base + header.p_vaddr + header.p_memsz) & !(PAGE_BYTES - 1);
        (start, end.max(start))
    })
}

/// The program's headers.
///
/// # Safety
/// The description must be the C library's.
unsafe fn headers(program: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
    if program.dlpi_phdr.is_null() {
        return &[];
    }
    // SAFETY: the description says how many there are.
    unsafe { std::slice::from_raw_parts(program.dlpi_phdr, usize::from(program.dlpi_phnum)) }
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
    // SAFETY: as the C library says.
    for (start, end) in unsafe { constant(program) } {
        // SAFETY: a private mapping of the program's file whose pages equal the file's: dropping them changes no contents.
        let dropped = unsafe { drop_pages(start, end) };
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
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_byte_is_read_and_the_end_is_told() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let pagemap = fs::File::open("/proc/self/pagemap").unwrap();
        let read = || {
            let unwritten = Unwritten::find(&pagemap);
            read_byte_in_little_memory(reader.as_fd(), &unwritten).unwrap()
        };
        assert_eq!(read(), Some(b'x'));
        drop(writer);
        assert_eq!(read(), None);
        let null = std::fs::File::create("/dev/null").unwrap();
        let error = read_byte_in_little_memory(null.as_fd(), &Unwritten::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn nothing_is_lost_with_what_is_released() {
        let kept: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..3 {
            release_unused().unwrap();
            assert!(kept.iter().zip((0..=255).cycle()).all(|(&a, b)| a == b));
        }
    }
}
