//! `kill`: a signal to a container's first process, or to all of them.

use std::os::fd::AsFd;

use kernel::clone::ns;
use nix::errno::Errno;
use nix::libc;

use crate::cli::KillArgs;
use crate::commands::Globals;
use crate::failure::{Context, Failure, Result};
use crate::phrases;
use crate::state::{Record, Status, process_start};
use crate::validate::NAMESPACES;

pub(super) fn run(globals: &Globals, args: &KillArgs) -> Result<()> {
    let signal = number(&args.signal)?;
    let (place, record) = globals.container(&args.id)?;
    let stopped = place.status(&record)? == Status::Stopped;
    let all = args.all || (signal == libc::SIGKILL && !has(&record, ns::PID));
    if all {
        return signal_all(&record, signal);
    }
    if stopped {
        return Err(Failure::new(phrases::NOT_RUNNING));
    }
    signal_init(&record, signal)
}

/// Whether the container has a namespace of this kind apart.
pub(super) fn has(record: &Record, kind: u64) -> bool {
    NAMESPACES
        .iter()
        .any(|(k, _, key)| *k == kind && record.namespace_paths.contains_key(*key))
}

/// By a handle that is checked to be the process recorded, so that a number used again is never hit.
pub(super) fn signal_init(record: &Record, signal: i32) -> Result<()> {
    let pid = record.init_process_pid;
    let gone = |e: &std::io::Error| e.raw_os_error() == Some(Errno::ESRCH as i32);
    let pidfd = match kernel::process::pidfd_open(pid) {
        Err(e) if gone(&e) => return Err(Failure::new(phrases::NOT_RUNNING)),
        other => other.context(|| format!("signal process {pid}"))?,
    };
    if process_start(pid) != Some(record.init_process_start) {
        return Err(Failure::new(phrases::NOT_RUNNING));
    }
    match kernel::process::pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(e) if gone(&e) => Err(Failure::new(phrases::NOT_RUNNING)),
        other => other.context(|| format!("signal process {pid}")),
    }
}

/// The group is frozen meanwhile where it can be, so that nothing forks away from the signal.
pub(super) fn signal_all(record: &Record, signal: i32) -> Result<()> {
    let cgroup = record.cgroup();
    if !cgroup.exists() {
        return Ok(());
    }
    if signal == libc::SIGKILL && cgroup.kill_all() {
        return Ok(());
    }
    let was_frozen = cgroup.is_frozen().unwrap_or(false);
    let frozen = was_frozen || cgroup.freeze(true).is_ok();
    let mut first = Ok(());
    for pid in cgroup.pids().context(|| "list processes".to_owned())? {
        match kernel::signals::kill(pid, signal) {
            Err(e) if e.raw_os_error() != Some(Errno::ESRCH as i32) && first.is_ok() => {
                first = Err(Failure::because(format!("signal process {pid}"), e));
            }
            _ => {}
        }
    }
    // A frozen process does not die; a paused container that is killed is no longer paused.
    if frozen && (!was_frozen || signal == libc::SIGKILL) {
        cgroup.freeze(false).context(|| "thaw".to_owned())?;
    }
    first
}

/// `9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3`.
pub(super) fn number(text: &str) -> Result<i32> {
    let unknown = || Failure::new(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        let above: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')
                .and_then(|n| n.parse().ok())
                .ok_or_else(unknown)?
        };
        return if (0..=30).contains(&above) {
            Ok(34 + above)
        } else {
            Err(unknown())
        };
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        let below: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('-')
                .and_then(|n| n.parse().ok())
                .ok_or_else(unknown)?
        };
        return if (0..=30).contains(&below) {
            Ok(64 - below)
        } else {
            Err(unknown())
        };
    }
    format!("SIG{bare}")
        .parse::<nix::sys::signal::Signal>()
        .map(|s| s as i32)
        .map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, wanted) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("usr1", 10),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("0", 0),
        ] {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "SIGNOPE", "65", "-1", "RTMIN+99"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
