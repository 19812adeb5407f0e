//! The tiny init of `--init`: the daemon's own program, mounted into a
//! container as `/sbin/docker-init`. Under the name `/pause` it is the first
//! process of a pod whose containers share their processes, and runs nothing.
//!
//! 1. All signals are blocked, so that none is lost.
//! 2. The command is started with the mask that the init was given.
//! 3. Each signal is taken in turn: the end of a child is reaped, everything
//!    else is passed on to the command.
//! 4. When the command has ended, so does the init, with its exit code.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The name under which the program is an init.
pub const NAME: &str = "docker-init";

/// The name under which it waits, without a command.
pub const PAUSE: &str = "pause";

/// Docker's exit codes for a program that is not there or cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Whether this process was started as a container's init.
#[must_use]
pub fn is_wanted(argv: &[OsString]) -> bool {
    is_named(argv, NAME) || is_named(argv, PAUSE)
}

fn is_named(argv: &[OsString], wanted: &str) -> bool {
    argv.first()
        .and_then(|program| Path::new(program).file_name())
        .is_some_and(|name| name == wanted)
}

/// Runs the command in `argv`, after the program's name and `--`, and returns
/// its exit code.
#[must_use]
pub fn run(argv: &[OsString]) -> u8 {
    if is_named(argv, PAUSE) {
        return match pause() {
            Ok(()) => 0,
            Err(err) => {
                eprintln!("{PAUSE}: {err}");
                NOT_RUNNABLE
            }
        };
    }
    let words: Vec<&OsString> = argv
        .iter()
        .skip(1)
        .skip_while(|word| *word == "--")
        .collect();
    let Some((program, args)) = words.split_first() else {
        eprintln!("{NAME}: a command is needed");
        return NOT_FOUND;
    };
    match supervise(Command::new(program).args(args)) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("{NAME}: exec {}: {err}", program.display());
            match err.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_RUNNABLE,
            }
        }
    }
}

/// Takes the ends of orphans until it is told to end.
fn pause() -> io::Result<()> {
    let all = SigSet::all();
    all.thread_block()?;
    loop {
        match all.wait()? {
            // There is no command whose end would be told.
            Signal::SIGCHLD => drop(reap(Pid::from_raw(0))?),
            Signal::SIGTERM | Signal::SIGINT => return Ok(()),
            _ => {}
        }
    }
}

fn supervise(command: &mut Command) -> io::Result<u8> {
    let all = SigSet::all();
    let given = all.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // In the init's own process group, where a terminal's keys reach it.
    // The command gets the mask that the init was given: a child has that of
    // the thread that makes it.
    let child = std::thread::scope(|scope| {
        let spawn = || {
            given.thread_set_mask()?;
            command.spawn()
        };
        let spawned = scope.spawn(spawn).join();
        spawned.unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread that starts the command panicked",
            ))
        })
    })?;
    let child = Pid::from_raw(child.id().cast_signed());
    // One that ended while the other thread was there told that one, which does not listen.
    if let Some(code) = reap(child)? {
        return Ok(code);
    }
    loop {
        match all.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(child)? {
                    return Ok(code);
                }
            }
            // Told to a process that reads from a terminal it does not own:
            // to the init itself, not to what it runs.
            Signal::SIGTTIN | Signal::SIGTTOU => {}
            signal => {
                // It may have ended just now.
                let _ = kill(child, signal);
            }
        }
    }
}

/// Takes all children that have ended; the exit code of the command, once it
/// is among them.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => {
                code = Some(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(128 + u8::try_from(signal as i32).unwrap_or(0));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(code),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn it_is_known_by_the_name_it_was_started_under() {
        assert!(is_wanted(&words("/sbin/docker-init -- sh")));
        assert!(is_wanted(&words("/pause")));
        assert!(!is_wanted(&words("/usr/bin/containerd-lite --help")));
        assert!(!is_wanted(&[]));
    }
}
