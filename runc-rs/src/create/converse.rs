//! The parent's side of the conversation with init, and the words for a step that failed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::Spawned;
use crate::failure::{Context, Failure, Result};
use crate::log::Log;
use crate::phrases;
use crate::plan::Step;
use crate::sync::{Channel, FromInit};

/// What init needs its parent for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Run prestart and createRuntime hooks.
    RunHooks,
    /// Move network devices in.
    MoveDevices,
    /// Hand the descriptor of a seccomp filter to the agent it asks.
    HandOver(OwnedFd),
    /// Change the owners in the detached mount of this number.
    ChangeOwners { at: u32, tree: OwnedFd },
}

/// Follows init through its plan, grants what it wishes, and where spans are wanted notes how long each step took.
pub(crate) fn converse(
    process: &Spawned,
    steps: &[Step],
    log: &Log,
    grant: impl Fn(Wish) -> Result<()>,
) -> Result<()> {
    let starting = || phrases::CANNOT_START.to_owned();
    let channel = &process.channel;
    loop {
        match channel.hear().context(starting)? {
            Some(FromInit::Listener(number)) => {
                let taken = channel.take(process.pidfd.as_fd(), number);
                let taken = taken.context(|| "take seccomp fd".to_owned())?;
                grant(Wish::HandOver(taken)).context(starting)?;
            }
            Some(FromInit::Mount { at, number }) => {
                let taken = kernel::process::pidfd_getfd(process.pidfd.as_fd(), number);
                let tree = taken.context(|| "take mount".to_owned())?;
                grant(Wish::ChangeOwners { at, tree }).context(starting)?;
                channel.go_on().context(starting)?;
            }
            Some(FromInit::RunHooks) => {
                grant(Wish::RunHooks).context(starting)?;
                channel.go_on().context(starting)?;
            }
            Some(FromInit::MoveDevices) => {
                grant(Wish::MoveDevices).context(starting)?;
                channel.go_on().context(starting)?;
            }
            Some(FromInit::Times(times)) => {
                for (step, us) in steps.iter().zip(times) {
                    log.took("init", &step.to_string(), Duration::from_micros(us.into()));
                }
            }
            Some(FromInit::Ready) => return Ok(()),
            Some(failed @ FromInit::Failed { .. }) => return Err(words(&failed, steps)),
            Some(FromInit::Pid(_) | FromInit::Mounted(_)) => {}
            None => {
                return Err(Failure::new(format!(
                    "{}: init died before it was ready",
                    phrases::CANNOT_START
                )));
            }
        }
    }
}

/// Lets the process start, and returns once exec has succeeded.
pub(crate) fn start_and_hear(channel: &Channel, steps: &[Step]) -> Result<()> {
    let starting = || phrases::CANNOT_START.to_owned();
    channel.go_on().context(starting)?;
    match channel.hear().context(starting)? {
        None => Ok(()),
        Some(message) => Err(words(&message, steps)),
    }
}

/// The sentence about a step that failed.
fn words(message: &FromInit, steps: &[Step]) -> Failure {
    let FromInit::Failed {
        step,
        errno,
        fault,
        subject,
    } = message
    else {
        return Failure::new(format!(
            "{}: unexpected answer {message:?}",
            phrases::CANNOT_START
        ));
    };
    let start = phrases::CANNOT_START;
    if let Some(fault) = fault {
        return Failure::new(format!("{start}: {}", fault.words(subject)));
    }
    let step = usize::try_from(*step).ok().and_then(|at| steps.get(at));
    let mut text = format!("{start}: error during container init");
    match step {
        // Hooks and exec have words of their own.
        Some(Step::CreateContainerHooks { .. } | Step::StartContainerHooks { .. }) => {}
        Some(Step::Exec) => text.push_str(": exec"),
        Some(Step::Mount { mount, .. } | Step::MountCgroups { mount, .. }) => {
            text.push_str(&format!(": error mounting {mount}"));
        }
        Some(Step::Scheduler { attr }) if attr.policy == 6 && *errno == Errno::EPERM as i32 => {
            text.push_str(": set scheduler: ");
            text.push_str(phrases::SCHEDULER_CPUS);
        }
        Some(step) => text.push_str(&format!(": {step}")),
        None => {}
    }
    if !subject.is_empty() {
        text.push_str(&format!(": {subject}"));
    }
    if *errno == 0 {
        Failure::new(text)
    } else {
        Failure::because(text, std::io::Error::from_raw_os_error(*errno))
    }
}
