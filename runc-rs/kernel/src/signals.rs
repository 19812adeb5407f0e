//! Signal masks, signals as bytes in a pipe, and resetting what a parent left behind.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};

use crate::raw::{check, own_fd};

/// Where the handler writes; -1 while there is none.
static TELL: AtomicI32 = AtomicI32::new(-1);

/// Blocks every signal, so that none is lost between a fork and a wait. Returns the mask from before.
///
/// # Errors
/// What the kernel says.
pub fn block_all() -> io::Result<SigSet> {
    Ok(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?)
}

/// A pipe that a byte comes out of for each of `signals` that arrives: the signal's number. Reading does not block. One that is
/// not read for long forgets signals: each kind of byte stands for one or more of them. Programs that are executed get the
/// default actions back.
///
/// # Errors
/// `EEXIST` if the process has such a pipe, else what the kernel says.
pub fn pipe(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two descriptors into the array.
    check(libc::c_long::from(unsafe {
        libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK)
    }))?;
    let (reader, writer) = (own_fd(ends[0].into())?, own_fd(ends[1].into())?);
    if TELL
        .compare_exchange(-1, writer.as_raw_fd(), Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    // The handler has it until the process ends.
    std::mem::forget(writer);
    for &signal in signals {
        // SAFETY: all zeros is an empty mask, no flags and the default action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = tell as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the structure is whole, and the handler does only what a handler may.
        check(libc::c_long::from(unsafe {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        }))?;
    }
    Ok(reader)
}

extern "C" fn tell(signal: libc::c_int) {
    let byte = signal.to_le_bytes()[0];
    // SAFETY: takes nothing; the C library keeps one for each thread, for as long as the thread lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own, as just said.
    let errno = unsafe { *place };
    // SAFETY: write(2) may be called in a handler; the byte lives until it returns. A pipe that is full holds enough news.
    unsafe { libc::write(TELL.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    // SAFETY: as above; what was interrupted must not see it change.
    unsafe { *place = errno };
}

/// Unblocks every signal and gives every one its default action: how a container's process starts. (Ignored signals would
/// otherwise stay ignored over exec; Rust itself ignores `SIGPIPE`.)
///
/// # Errors
/// What the kernel says.
pub fn reset() -> io::Result<()> {
    for number in 1..=64 {
        if number == libc::SIGKILL || number == libc::SIGSTOP || number == 32 || number == 33 {
            continue;
        }
        // SAFETY: the default action runs no code of ours. 32 and 33, which glibc keeps, are left out above.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Has each of `signals` end the process at once with the exit code 128 and the signal's number. The kernel keeps signals
/// without a handler from the first process of a pid namespace; with one they end it as they end others. Lasts until exec.
///
/// # Errors
/// What the kernel says.
pub fn end_on(signals: &[Signal]) -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: takes one integer, does not return, and may be called in a signal handler.
        unsafe { libc::_exit(128 + signal) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: the handler touches no state of the program.
        unsafe { sigaction(*signal, &action) }?;
    }
    Ok(())
}

/// Sends `signal` to process `pid`. See `kill(2)`.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers and no pointers.
    check(libc::c_long::from(unsafe { libc::kill(pid, signal) }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn signals_come_out_of_the_pipe() {
        let mut reader = File::from(pipe(&[libc::SIGUSR2]).unwrap());
        assert!(pipe(&[]).is_err());
        let mut byte = [0];
        assert!(reader.read(&mut byte).is_err());
        // SAFETY: sends this thread a signal that it has a handler for; that has run when the call returns.
        unsafe { libc::raise(libc::SIGUSR2) };
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(i32::from(byte[0]), libc::SIGUSR2);
    }
}
