//! Clones init into its namespaces and its cgroup, and maps its users.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use cgroup::Cgroup;
use kernel::clone::{Clone, Forked, clone3, ns};
use oci_spec::runtime::LinuxIdMapping;

use super::{Spawned, end, id_maps};
use crate::failure::{Context, Failure, Result};
use crate::init::{Init, Starter};
use crate::phrases;
use crate::sync::{Channel, FromInit};
use crate::validate::{NAMESPACES, ValidSpec};

/// Clones init. On return its users are mapped and it applies its plan.
pub(super) fn spawn(spec: &ValidSpec, cgroup: &Cgroup, mut init: Init<'_>) -> Result<Spawned> {
    let starting = || phrases::CANNOT_START.to_owned();
    let (channel, theirs) = Channel::pair().context(starting)?;
    let group = cgroup
        .unified_dir()
        .map(kernel::path::open_dir)
        .transpose()
        .context(|| "open cgroup".to_owned())?;
    // A cgroup namespace takes its root from where the process is, so init makes it after it has joined.
    let wanted = Clone {
        namespaces: spec.namespaces.new & !(ns::CGROUP | ns::TIME),
        cgroup: group.as_ref().map(AsFd::as_fd),
        sibling: false,
    };
    let users = init.namespaces.iter().any(|(kind, _)| *kind == ns::USER);
    let proc = init.proc.try_clone().context(starting)?;
    let own = enter_for_child(spec, &mut init, users)?;
    let forked = if users {
        clone_through(&init, wanted, theirs, &channel)
    } else {
        clone_directly(spec, init, wanted, theirs)
    };
    for (kind, handle) in &own {
        kernel::process::setns(handle.as_fd(), *kind)
            .context(|| "go back to own namespace".to_owned())?;
    }
    let (pid, pidfd) = forked?;
    let process = Spawned {
        pid,
        pidfd,
        channel,
    };
    let prepare = || -> Result<()> {
        if let Some(score) = spec.process.oom_score_adj {
            write_proc(&proc, pid, "oom_score_adj", &score.to_string())?;
        }
        if spec.namespaces.new & ns::USER != 0 {
            let linux = spec.linux();
            let maps = |get: fn(&oci_spec::runtime::Linux) -> &Option<Vec<LinuxIdMapping>>| {
                linux.and_then(|l| get(l).as_deref()).unwrap_or_default()
            };
            id_maps::write(
                &proc,
                pid,
                maps(|l| l.uid_mappings()),
                maps(|l| l.gid_mappings()),
            )?;
            process.channel.go_on().context(starting)?;
        }
        Ok(())
    };
    match prepare() {
        Ok(()) => Ok(process),
        Err(failure) => {
            end(&process);
            Err(failure)
        }
    }
}

/// Namespaces that init cannot enter itself, either because they take effect for children only, or because it will be in a user
/// namespace that has no say over them: the parent goes in, clones, and comes back by the handles returned.
fn enter_for_child(
    spec: &ValidSpec,
    init: &mut Init<'_>,
    users: bool,
) -> Result<Vec<(u64, OwnedFd)>> {
    let mut own = Vec::new();
    let own_handle = |name: &str| {
        let file = format!("/proc/self/ns/{name}");
        fs::File::open(&file)
            .map(OwnedFd::from)
            .context(|| format!("open {file}"))
    };
    if let (Some((_, pids)), false) = (
        init.namespaces.iter().find(|(kind, _)| *kind == ns::PID),
        users,
    ) {
        own.push((ns::PID, own_handle("pid")?));
        kernel::process::setns(pids.as_fd(), ns::PID)
            .context(|| "join pid namespace".to_owned())?;
    }
    if spec.namespaces.new & ns::USER != 0 {
        const EARLY: u64 = ns::NET | ns::IPC | ns::UTS | ns::CGROUP | ns::TIME;
        for (kind, handle) in std::mem::take(&mut init.namespaces) {
            let names = NAMESPACES.iter().find(|(k, ..)| *k == kind);
            let name = names.map_or("", |(_, name, _)| *name);
            let back = own_handle(name)?;
            // One that we may not join, init may: it can only be the new user namespace's.
            if kind & EARLY != 0 && kernel::process::setns(handle.as_fd(), kind).is_ok() {
                own.push((kind, back));
            } else {
                init.namespaces.push((kind, handle));
            }
        }
    }
    if spec.namespaces.new & ns::TIME != 0 {
        own.push((ns::TIME, own_handle("time")?));
        kernel::process::unshare(ns::TIME).context(|| "make time namespace".to_owned())?;
        for (clock, offset) in spec
            .linux()
            .and_then(|l| l.time_offsets().as_ref())
            .into_iter()
            .flatten()
        {
            let line = format!(
                "{clock} {} {}",
                offset.secs().unwrap_or(0),
                offset.nanosecs().unwrap_or(0)
            );
            let path = format!("{}/timens_offsets", std::process::id());
            kernel::path::write_proc(init.proc.as_fd(), path.as_ref(), &line)
                .context(|| format!("set time offset {line:?}"))?;
        }
    }
    Ok(own)
}

fn clone_directly(
    spec: &ValidSpec,
    init: Init<'_>,
    wanted: Clone<'_>,
    theirs: Channel,
) -> Result<(i32, OwnedFd)> {
    let awaits_maps = spec.namespaces.new & ns::USER != 0;
    match clone3(wanted).context(|| phrases::CANNOT_START.to_owned())? {
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Forked::Child => {
            if awaits_maps && theirs.await_go_on().is_err() {
                kernel::process::exit_now(1);
            }
            init.run(theirs)
        }
    }
}

/// With a user namespace to join, the others must be made from inside it: a process in between joins and clones init as its own
/// sibling, so that init is our child all the same.
fn clone_through(
    init: &Init<'_>,
    wanted: Clone<'_>,
    theirs: Channel,
    channel: &Channel,
) -> Result<(i32, OwnedFd)> {
    let starting = || phrases::CANNOT_START.to_owned();
    let between = clone3(Clone::default()).context(starting)?;
    let Forked::Parent { pid, .. } = between else {
        let join = || -> std::io::Result<(Forked, u64)> {
            let joined = join_around_users(&init.namespaces)?;
            let forked = clone3(Clone {
                sibling: true,
                ..wanted
            })?;
            Ok((forked, joined))
        };
        match join() {
            Ok((Forked::Parent { pid, .. }, _)) => {
                let told = theirs.tell(&FromInit::Pid(pid));
                kernel::process::exit_now(i32::from(told.is_err()));
            }
            Ok((Forked::Child, joined)) => {
                // Nothing of ours may overtake the word of who we are.
                if theirs.await_go_on().is_err() {
                    kernel::process::exit_now(1);
                }
                take_over(init, theirs, joined)
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                let subject = "join user namespace".to_owned();
                let _gone = theirs.tell(&FromInit::Failed {
                    step: 0,
                    errno,
                    fault: None,
                    subject,
                });
                kernel::process::exit_now(1)
            }
        }
    };
    drop(theirs);
    let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    match channel.hear().context(starting)? {
        Some(FromInit::Pid(pid)) => {
            let pidfd = kernel::process::pidfd_open(pid).context(starting)?;
            channel.go_on().context(starting)?;
            Ok((pid, pidfd))
        }
        Some(FromInit::Failed { errno, subject, .. }) => Err(Failure::because(
            subject,
            std::io::Error::from_raw_os_error(errno),
        )),
        other => Err(Failure::new(format!(
            "{}: unexpected answer {other:?}",
            phrases::CANNOT_START
        ))),
    }
}

/// Joins the user namespace, but before it each other that the caller may: they may belong to an outer user namespace. What
/// belongs to the one joined can only be joined from inside. Returns which were joined.
fn join_around_users(namespaces: &[(u64, OwnedFd)]) -> std::io::Result<u64> {
    let mut joined = 0;
    for (kind, handle) in namespaces.iter().filter(|(kind, _)| *kind != ns::USER) {
        if kernel::process::setns(handle.as_fd(), *kind).is_ok() {
            joined |= kind;
        }
    }
    for (kind, handle) in namespaces {
        // The others init can join, but this one takes effect for children only.
        let needed = *kind == ns::USER || (*kind == ns::PID && joined & ns::PID == 0);
        if needed {
            kernel::process::setns(handle.as_fd(), *kind)?;
            joined |= kind;
        }
    }
    Ok(joined)
}

/// Init by reference, on its own copy of the memory: the descriptors are duplicated, the originals close on exec. `joined` are
/// namespaces it is in already.
fn take_over(init: &Init<'_>, channel: Channel, joined: u64) -> ! {
    let copy = || -> std::io::Result<Init<'_>> {
        let dup = |fd: &OwnedFd| fd.try_clone();
        let dup_option = |fd: &Option<OwnedFd>| fd.as_ref().map(dup).transpose();
        Ok(Init {
            steps: init.steps,
            args: init.args,
            env: init.env.clone(),
            cgroup: init
                .cgroup
                .iter()
                .map(fs::File::try_clone)
                .collect::<std::io::Result<_>>()?,
            namespaces: init
                .namespaces
                .iter()
                .filter(|(k, _)| k & joined == 0)
                .map(|(k, fd)| Ok((*k, dup(fd)?)))
                .collect::<std::io::Result<_>>()?,
            container: dup_option(&init.container)?,
            sources: init
                .sources
                .iter()
                .map(dup_option)
                .collect::<std::io::Result<_>>()?,
            starter: match &init.starter {
                Starter::Fifo(fifo) => Starter::Fifo(dup(fifo)?),
                Starter::Parent => Starter::Parent,
            },
            console: dup_option(&init.console)?,
            proc: dup(&init.proc)?,
            pagemap: None,
            seccomp: init.seccomp.clone(),
            times: init.times.clone(),
            first_closed: init.first_closed,
            state: init.state.clone(),
            in_user_namespace: init.in_user_namespace,
        })
    };
    match copy() {
        Ok(init) => init.run(channel),
        Err(_) => kernel::process::exit_now(1),
    }
}

fn write_proc(proc: &OwnedFd, pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("{pid}/{file}");
    kernel::path::write_proc(proc.as_fd(), path.as_ref(), text)
        .context(|| format!("write {:?} to /proc/{path}", text.trim_end()))
}
