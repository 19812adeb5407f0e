//! The first instructions of the runtime, before the C library is up: starting again from a protected copy.
//!
//! The program that a container's processes come from must not be reachable for writing (see [`crate::protect`]), so `create`,
//! `run` and `exec` go on in a read-only clone of its mount. A start of the C library asks the processor what it can do, which
//! in a virtual machine takes long, and touches a hundred pages. Done here, all of that happens once: the first start is a
//! handful of system calls.
//!
//! The program is linked with `runc_rs_entry` as its entry. Whatever does not succeed here is left to
//! [`crate::protect::run_protected`], which has the words for it.
//!
//! Nothing here may allocate, panic, or call the C library, not even by a comparison of slices that the compiler turns into
//! `memcmp`, nor by a structure handed on by value, which it turns into `memcpy`: the C library has not looked yet which of its
//! own it is to use. So bytes are read one by one, volatile, and arguments are numbers.

use std::arch::{asm, global_asm};
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

// At the entry of a process the stack holds argc, argv and the environment, and rdx what to call at exit; both must be handed on
// to the C library as they were (System V ABI, AMD64 supplement, "Process Initialization").
global_asm!(
    ".globl runc_rs_entry",
    ".type runc_rs_entry,@function",
    "runc_rs_entry:",
    "xor ebp, ebp",
    "mov rbx, rsp",
    "mov r12, rdx",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {first}",
    "mov rsp, rbx",
    "mov rdx, r12",
    "jmp _start",
    ".size runc_rs_entry, . - runc_rs_entry",
    first = sym first,
);

/// Starts again from a read-only clone if the command is one that makes processes in a container. Comes back if it is not, if
/// this already is such a clone, or if something failed.
///
/// # Safety
/// `stack` is the stack pointer at the entry of the process.
unsafe extern "C" fn first(stack: *const usize) {
    // SAFETY: the kernel puts argc there.
    let argc = unsafe { stack.read() };
    // SAFETY: and above it as many pointers to C strings, a null pointer, and the environment.
    let argv = unsafe { stack.add(1) };
    let mut at = 1;
    let mut wanted = false;
    while at < argc {
        // SAFETY: one of the argc pointers.
        let word = unsafe { argv.add(at) };
        // SAFETY: the kernel put it there.
        let word = unsafe { word.read() };
        // SAFETY: it points to a C string.
        wanted |= unsafe { makes_processes(word as *const c_char) };
        at += 1;
    }
    if !wanted {
        return;
    }
    let proc = open_at(HERE, c"/proc", libc::O_PATH | libc::O_DIRECTORY);
    if proc < 0 {
        return;
    }
    let tree = clone_of_own(proc);
    close(proc);
    if tree < 0 {
        return;
    }
    // SAFETY: above the null pointer after the arguments.
    let env = unsafe { argv.add(argc + 1) };
    let (nothing, empty) = (c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
    let (argv, env) = (argv as usize, env as usize);
    // SAFETY: the vectors are those that the kernel itself made.
    unsafe { call(libc::SYS_execveat, tree as usize, nothing, argv, env, empty) };
    close(tree);
}

const HERE: isize = libc::AT_FDCWD as isize;
const NONE: isize = -1;

/// A descriptor of this program through a detached read-only mount; negative if there is none to be had, or none is needed as
/// nobody can write to the program as it is.
fn clone_of_own(proc: isize) -> isize {
    const OWN: &CStr = c"self/exe";
    // Anything else could show a program that never counts as protected, over and over.
    match filesystem(proc) {
        Some((kind, _)) if kind == crate::path::PROC_MAGIC as u64 => {}
        _ => return NONE,
    }
    let own = open_at(proc, OWN, libc::O_RDONLY);
    if own < 0 {
        return NONE;
    }
    let protected = is_protected(own);
    close(own);
    if protected {
        return NONE;
    }
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let (dir, path) = (proc as usize, OWN.as_ptr() as usize);
    // SAFETY: the path is a C string that lives for ever.
    let tree = unsafe { call(libc::SYS_open_tree, dir, path, flags as usize, 0, 0) };
    if tree < 0 || make_read_only(tree) {
        return tree;
    }
    close(tree);
    NONE
}

fn make_read_only(tree: isize) -> bool {
    // struct mount_attr: set, clear, propagation, userns.
    let attr = [crate::mount::RDONLY, 0, 0, 0];
    let (nothing, empty) = (c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
    let (tree, attr) = (tree as usize, attr.as_ptr() as usize);
    // SAFETY: the structure has the kernel's layout and the size said, and outlives the call.
    unsafe { call(libc::SYS_mount_setattr, tree, nothing, empty, attr, 32) == 0 }
}

fn open_at(dir: isize, path: &'static CStr, flags: libc::c_int) -> isize {
    let flags = (flags | libc::O_CLOEXEC) as usize;
    let (dir, path) = (dir as usize, path.as_ptr() as usize);
    // SAFETY: the path is a C string that lives for ever.
    unsafe { call(libc::SYS_openat, dir, path, flags, 0, 0) }
}

fn close(file: isize) {
    // SAFETY: takes an integer; only descriptors that were opened here are closed.
    unsafe { call(libc::SYS_close, file as usize, 0, 0, 0, 0) };
}

/// Whether nobody can write to the file behind the descriptor: on a read-only mount, or sealed in memory.
fn is_protected(file: isize) -> bool {
    if let Some((_, flags)) = filesystem(file)
        && flags & libc::ST_RDONLY != 0
    {
        return true;
    }
    let (file, get) = (file as usize, libc::F_GET_SEALS as usize);
    // SAFETY: takes integers and no pointers.
    let seals = unsafe { call(libc::SYS_fcntl, file, get, 0, 0, 0) };
    seals >= 0 && seals & libc::F_SEAL_WRITE as isize != 0
}

/// The magic number and the mount's flags of the filesystem behind the descriptor.
fn filesystem(file: isize) -> Option<(u64, u64)> {
    // struct statfs is fifteen words: the magic number comes first, the flags eleventh.
    let mut stat = MaybeUninit::<[u64; 15]>::uninit();
    let (file, to) = (file as usize, stat.as_mut_ptr() as usize);
    // SAFETY: the kernel writes the structure, which has room there.
    if unsafe { call(libc::SYS_fstatfs, file, to, 0, 0, 0) } != 0 {
        return None;
    }
    let words = stat.as_ptr().cast::<u64>();
    // SAFETY: the kernel has filled it in.
    let kind = unsafe { words.read_volatile() };
    // SAFETY: the eleventh of fifteen.
    let flags = unsafe { words.add(10) };
    // SAFETY: as above.
    Some((kind, unsafe { flags.read_volatile() }))
}

/// Whether `word` is `create`, `run` or `exec`.
///
/// # Safety
/// `word` points to a C string.
unsafe fn makes_processes(word: *const c_char) -> bool {
    // SAFETY: as the caller says, here and below.
    let create = unsafe { is(word, c"create") };
    // SAFETY: as above.
    let run = unsafe { is(word, c"run") };
    // SAFETY: as above.
    let exec = unsafe { is(word, c"exec") };
    create | run | exec
}

/// # Safety
/// `one` points to a C string.
unsafe fn is(mut one: *const c_char, other: &'static CStr) -> bool {
    let mut other = other.as_ptr();
    loop {
        // SAFETY: this string has not ended yet.
        let a = unsafe { one.read_volatile() };
        // SAFETY: nor has this one, as they were the same so far.
        let b = unsafe { other.read_volatile() };
        if a != b || a == 0 {
            return a == b;
        }
        // SAFETY: there is at least the terminating zero to come.
        one = unsafe { one.add(1) };
        // SAFETY: as above.
        other = unsafe { other.add(1) };
    }
}

/// A system call, by hand: the C library's way sets errno, which needs thread-local storage.
///
/// # Safety
/// As the system call has it.
#[inline(always)]
pub(crate) unsafe fn call(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention; it changes rax, rcx and r11 and what the arguments point to.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
