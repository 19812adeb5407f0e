//! `exec`: one more process in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cgroup::Cgroup;
use kernel::clone::{Clone, Forked, clone3, ns};
use oci_spec::runtime::{LinuxPersonalityDomain, Process};

use crate::bundle::parse;
use crate::cli::ExecArgs;
use crate::commands::Globals;
use crate::commands::kill::has;
use crate::commands::state::shape;
use crate::console::{Signals, receive_master, socket_pair, wait};
use crate::create::{
    Console, Spawned, Wish, converse, end, preserve, send_pidfd, start_and_hear, warn_of_missing,
    write_pid_file,
};
use crate::failure::{Context, Failure, Result};
use crate::host::{self, HostFacts};
use crate::init::{Init, Starter};
use crate::landlock::{self, Policy};
use crate::mount_options::Mounting;
use crate::phrases;
use crate::plan::{self, Step, Surroundings, plan_exec};
use crate::process::{CapabilitySets, ValidProcess, capability_number, validate};
use crate::rdt;
use crate::seccomp::agent::Agent;
use crate::seccomp::{self, Filter};
use crate::state::{Record, Status, process_start};
use crate::sync::Channel;
use crate::validate::{NAMESPACES, memory_policy};

pub(super) fn run(globals: &Globals, args: &ExecArgs) -> Result<u8> {
    let (place, record) = globals.container(&args.id)?;
    match place.status(&record)? {
        Status::Stopped => return Err(Failure::new(phrases::EXEC_STOPPED)),
        Status::Paused if !args.ignore_paused => return Err(Failure::new(phrases::EXEC_PAUSED)),
        Status::Created | Status::Running | Status::Paused => {}
    }
    let valid = process(globals, args, &record)?;
    let signals = if args.detach {
        None
    } else {
        Some(Signals::block()?)
    };
    let socket = args.console_socket.as_deref();
    let (ours, console) = if valid.terminal && !args.detach && socket.is_none() {
        let (ours, theirs) = socket_pair()?;
        (Some(ours), Console::Socket(theirs))
    } else {
        (None, Console::choose(valid.terminal, args.detach, socket)?)
    };
    if !args.detach {
        kernel::subreaper(true).context(|| "become subreaper".to_owned())?;
    }
    let (spawned, steps) = spawn(globals, args, &record, &valid, console)?;
    let begin = || -> Result<Option<OwnedFd>> {
        if let Some(score) = valid.oom_score_adj {
            let file = format!("{}/oom_score_adj", spawned.pid);
            kernel::path::open_proc()
                .and_then(|proc| {
                    kernel::path::write_proc(proc.as_fd(), file.as_ref(), &score.to_string())
                })
                .context(|| format!("write {score} to /proc/{file}"))?;
        }
        globals.log.debug(phrases::DEBUG_CHILD);
        converse(&spawned, &steps, &globals.log, |wish| match wish {
            Wish::HandOver(listener) => ask_agent(&record, spawned.pid, &listener),
            Wish::RunHooks | Wish::MoveDevices | Wish::ChangeOwners { .. } => Ok(()),
        })?;
        globals.log.debug(phrases::DEBUG_EXEC);
        let master = ours.as_ref().map(receive_master).transpose()?.flatten();
        if let Some(file) = &args.pid_file {
            write_pid_file(file, spawned.pid)?;
        }
        if let Some(socket) = &args.pidfd_socket {
            send_pidfd(socket, &spawned, "setns")?;
        }
        let start = || start_and_hear(&spawned.channel, &steps);
        globals.log.span("start and exec", start)?;
        Ok(master)
    };
    match begin() {
        Err(failure) => {
            end(&spawned);
            Err(failure)
        }
        Ok(master) => match signals {
            Some(signals) => wait(spawned.pid, &signals, master),
            None => Ok(0),
        },
    }
}

/// The process as the file or the flags have it; what they leave out is the container's.
fn process(globals: &Globals, args: &ExecArgs, record: &Record) -> Result<ValidProcess> {
    let own = record
        .spec
        .process()
        .as_ref()
        .ok_or_else(|| Failure::new("container has no process"))?;
    let mut wanted: Process = match &args.process {
        Some(file) => {
            let text = fs::read(file).context(|| format!("read {}", file.display()))?;
            parse(&text, "process", "/capabilities", &globals.log)?
        }
        None => from_flags(args, own)?,
    };
    if wanted.capabilities().is_none() {
        wanted.set_capabilities(own.capabilities().clone());
    }
    if wanted.oom_score_adj().is_none() {
        wanted.set_oom_score_adj(own.oom_score_adj());
    }
    if wanted.exec_cpu_affinity().is_none() {
        wanted.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    let mut valid = validate(&wanted)?;
    let mut extra = 0;
    for name in &args.cap {
        extra |= 1
            << capability_number(name)
                .ok_or_else(|| Failure::new(format!("unknown capability {name:?}")))?;
    }
    if extra != 0 {
        let mut sets: CapabilitySets = valid.identity.capabilities.unwrap_or_default();
        sets.bounding |= extra;
        sets.effective |= extra;
        sets.permitted |= extra;
        // Only a container that hands capabilities on over exec at all hands on these.
        if sets.inheritable != 0 {
            sets.ambient |= extra;
        }
        valid.identity.capabilities = Some(sets);
    }
    Ok(valid)
}

fn from_flags(args: &ExecArgs, own: &Process) -> Result<Process> {
    if args.command.is_empty() {
        return Err(Failure::new("process args cannot be empty"));
    }
    let mut wanted = own.clone();
    wanted.set_args(Some(args.command.clone()));
    wanted.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        wanted.set_cwd(cwd.clone());
    }
    let mut env = own.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    wanted.set_env(Some(env));
    if let Some(user) = &args.user {
        // Numbers only: names would have to be looked up in a file of the image.
        let number = |text: &str| {
            // Parsing alone would take a sign.
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let parsed = text.parse::<u32>().ok().filter(|_| digits);
            parsed.ok_or_else(|| {
                Failure::new(format!(
                    "expected --user as UID[:GID] in numbers, got {user:?}"
                ))
            })
        };
        let (uid, gid) = user
            .split_once(':')
            .map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let mut who = own.user().clone();
        who.set_uid(number(uid)?);
        if let Some(gid) = gid {
            who.set_gid(number(gid)?);
        }
        wanted.set_user(who);
    }
    if !args.additional_gids.is_empty() {
        let mut who = wanted.user().clone();
        let mut groups = who.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        who.set_additional_gids(Some(groups));
        wanted.set_user(who);
    }
    if args.no_new_privs {
        wanted.set_no_new_privileges(Some(true));
    }
    if args.apparmor.is_some() {
        wanted.set_apparmor_profile(args.apparmor.clone());
    }
    if args.process_label.is_some() {
        wanted.set_selinux_label(args.process_label.clone());
    }
    Ok(wanted)
}

/// The container's cgroup, or the group below it that `--cgroup` names: `[CONTROLLER[,CONTROLLER…]:]PATH`.
fn cgroup(record: &Record, wanted: &[String]) -> Result<Cgroup> {
    let mut dirs = record.cgroup_paths.clone();
    for entry in wanted {
        let (controllers, path) = match entry.split_once(':') {
            Some((controllers, path)) => (Some(controllers.split(',').collect::<Vec<_>>()), path),
            None => (None, entry.as_str()),
        };
        if Path::new(path)
            .components()
            .any(|c| c == std::path::Component::ParentDir)
        {
            return Err(Failure::new(format!("bad sub cgroup path: {entry}")));
        }
        if let Some(unknown) = controllers
            .iter()
            .flatten()
            .find(|c| !dirs.contains_key(**c))
        {
            return Err(Failure::new(format!(
                "--cgroup {entry}: unknown controller {unknown}"
            )));
        }
        for (name, dir) in &mut dirs {
            if controllers
                .as_ref()
                .is_none_or(|list| list.contains(&name.as_str()))
            {
                *dir = dir.join(path.trim_start_matches('/'));
            }
        }
    }
    Ok(Cgroup::recorded(dirs))
}

fn spawn(
    globals: &Globals,
    args: &ExecArgs,
    record: &Record,
    valid: &ValidProcess,
    console: Console,
) -> Result<(Spawned, Vec<Step>)> {
    let starting = || phrases::CANNOT_START.to_owned();
    let pid = record.init_process_pid;
    let container =
        kernel::process::pidfd_open(pid).context(|| phrases::EXEC_STOPPED.to_owned())?;
    if process_start(pid) != Some(record.init_process_start) {
        return Err(Failure::new(phrases::EXEC_STOPPED));
    }
    let users =
        has(record, ns::USER) && namespace("self", "user") != namespace(&pid.to_string(), "user");
    // Without privileges only the owner of the user namespace is anything in it, and only in there: it is joined first.
    let first = users && !kernel::identity::is_host_root();
    let kinds = NAMESPACES
        .iter()
        .map(|(kind, ..)| *kind)
        .filter(|kind| {
            has(record, *kind) && *kind != ns::PID && (*kind != ns::USER || users && !first)
        })
        .fold(0, |all, kind| all | kind);
    let group = cgroup(record, &args.cgroup)?;
    let facts = host::facts(&host::cgroups()?, &group)?;
    let linux = record.spec.linux().as_ref();
    let profile = linux.and_then(|l| l.seccomp().as_ref());
    let seccomp = profile
        .map(|p| seccomp::program(p, &globals.root))
        .transpose()?
        .flatten();
    let persona = linux
        .and_then(|l| l.personality().as_ref())
        .map(|p| match p.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        });
    let memory = memory_policy(linux)?;
    warn_of_missing(valid, &facts, &globals.log);
    if let Some(program) = &seccomp {
        globals
            .log
            .debug(&format!("seccomp filter flags: {}", program.flags));
    }
    let around = Surroundings {
        keyring: (!record.config.no_new_keyring).then(|| plan::keyring(&record.id)),
        seccomp: Filter::of(profile),
        landlock: landlock(record, &facts)?,
        start_hooks: Vec::new(),
    };
    let steps = plan_exec(valid, &facts, kinds, around, persona, memory)?;
    let (preserved, env) = preserve(args.preserve_fds, &valid.env)?;
    let (channel, theirs) = Channel::pair().context(starting)?;
    let init = Init {
        steps: &steps,
        args: &valid.args,
        env,
        cgroup: join_files(&group, record)?,
        namespaces: Vec::new(),
        container: Some(container.try_clone().context(starting)?),
        sources: Vec::new(),
        starter: Starter::Parent,
        console: console.into_fd(),
        proc: kernel::path::open_proc().context(|| "open /proc".to_owned())?,
        pagemap: None,
        seccomp,
        first_closed: 3 + preserved,
        state: Vec::new(),
        times: globals.log.spans().then(Vec::new),
        in_user_namespace: users,
    };
    if let Some(set) = &valid.first_affinity {
        globals
            .log
            .debug(&format!("nsexec: affinity: {}", set.hex()));
        kernel::sched::set_affinity(set.words())
            .context(|| "set initial affinity of exec".to_owned())?;
    }
    let around = if first { ns::USER } else { 0 } | if has(record, ns::PID) { ns::PID } else { 0 };
    if around != 0 {
        // Pids are joined for children only; this process needs its own namespaces no more.
        kernel::process::setns(container.as_fd(), around)
            .context(|| "join pid namespace".to_owned())?;
    }
    let dir = group
        .unified_dir()
        .map(kernel::path::open_dir)
        .transpose()
        .context(|| "open cgroup".to_owned())?;
    let wanted = Clone {
        namespaces: 0,
        cgroup: dir.as_ref().map(AsFd::as_fd),
        sibling: false,
    };
    globals.log.debug(phrases::DEBUG_CLONE);
    match into_group(wanted, record, args).context(starting)? {
        Forked::Child => init.run(theirs),
        Forked::Parent { pid, pidfd } => {
            drop(init);
            drop(theirs);
            Ok((
                Spawned {
                    pid,
                    pidfd,
                    channel,
                },
                steps,
            ))
        }
    }
}

/// What the process joins by writing 0 to it.
fn join_files(group: &Cgroup, record: &Record) -> Result<Vec<fs::File>> {
    let mut files = group
        .join_files()
        .context(|| "error adding pid to cgroups".to_owned())?;
    if let Some((path, monitor)) = record.rdt() {
        files.extend(rdt::join_files(path, monitor)?);
    }
    Ok(files)
}

/// The container's rules about files.
fn landlock(record: &Record, facts: &HostFacts) -> Result<Option<Policy>> {
    let mounts: Vec<Mounting> = record
        .spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| Mounting::parse(mount, Path::new(record.bundle()), &record.config.rootfs))
        .collect();
    let root = record.spec.root().as_ref();
    let readonly = root.and_then(|r| r.readonly()).unwrap_or(false);
    landlock::policy(&record.spec, &mounts, readonly, facts.landlock)
}

/// Hands the descriptor of a filter that asks to its agent, for process `pid` of the container.
fn ask_agent(record: &Record, pid: i32, listener: &OwnedFd) -> Result<()> {
    let profile = record
        .spec
        .linux()
        .as_ref()
        .and_then(|l| l.seccomp().as_ref());
    match profile.and_then(Agent::of) {
        Some(agent) => {
            agent.hand_over(listener.as_fd(), pid, &shape(record, Status::Running, None))
        }
        None => Ok(()),
    }
}

/// A container that has made groups below its own and turned controllers on for them has no room for processes in its own
/// (`EBUSY`); the new process then goes where the container's first process is.
fn into_group(wanted: Clone<'_>, record: &Record, args: &ExecArgs) -> std::io::Result<Forked> {
    let busy = |e: &std::io::Error| e.raw_os_error() == Some(nix::libc::EBUSY);
    match clone3(wanted) {
        Err(e) if busy(&e) && wanted.cgroup.is_some() && args.cgroup.is_empty() => {
            let beside = host::cgroups()
                .ok()
                .and_then(|host| Cgroup::of_process(&host, record.init_process_pid).ok());
            let Some(dir) = beside.as_ref().and_then(Cgroup::unified_dir) else {
                return Err(e);
            };
            let dir = kernel::path::open_dir(dir)?;
            clone3(Clone {
                cgroup: Some(dir.as_fd()),
                ..wanted
            })
        }
        other => other,
    }
}

fn namespace(pid: &str, name: &str) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()
}
