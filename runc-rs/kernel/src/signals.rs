//! Signal masks, and resetting what a parent left behind.

use std::io;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};

use crate::raw::check;

/// Blocks every signal, so that none is lost between a fork and a wait. Returns the mask from before.
///
/// # Errors
/// What the kernel says.
pub fn block_all() -> io::Result<SigSet> {
    Ok(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?)
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
