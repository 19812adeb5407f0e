//! Creates a container and leaves its init process waiting; also the clone that an exec needs.
//!
//! 1. [`prepare`] reads the bundle, checks it, looks at the host and makes the plan; nothing has changed yet.
//! 2. [`Created::make`] claims the id on disk and makes the cgroup ([`group::make`]); from here failure undoes.
//! 3. [`spawn::spawn`] clones init into its namespaces and maps its users, as only the parent may.
//! 4. [`converse()`] runs the hooks that belong in our namespaces and waits until init has applied its plan. It owns the words for
//!    a step that failed.
//! 5. The state is written down.

mod converse;
pub(crate) mod group;
mod id_maps;
mod net_devices;
mod record;
mod sources;
mod spawn;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use id_maps::map_lines;

use group::Made;

pub(crate) use converse::{Wish, converse, start_and_hear};
pub(crate) use record::record;
pub(crate) use sources::open_namespaces;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cgroup::Cgroup;
use cgroup::systemd::Scope;
use kernel::clone::ns;
use nix::sys::stat::Mode;

use crate::bundle;
use crate::cli::CreateArgs;
use crate::failure::{Context, Failure, Result};
use crate::host::{self, HostFacts};
use crate::init::{Init, Starter};
use crate::log::Log;
use crate::phrases;
use crate::plan::{self, Choices, Step};
use crate::process::ValidProcess;
use crate::rdt::{self, Resctrl};
use crate::seccomp::{self, agent::Agent};
use crate::state::{ContainerId, Place, Record, StateDocument, annotations};
use crate::sync::Channel;
use crate::validate::{ValidSpec, validate};

/// Everything decided, nothing done.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) spec: ValidSpec,
    pub(crate) cgroup: Cgroup,
    /// The unit that systemd makes the cgroup for.
    pub(crate) scope: Option<Scope>,
    /// Where shares of cache and bandwidth are given, if the config wants any.
    pub(crate) resctrl: Option<Resctrl>,
    pub(crate) steps: Vec<Step>,
}

/// Reads and checks the bundle, and plans.
pub(crate) fn prepare(
    bundle: &Path,
    choices: Choices<'_>,
    systemd: bool,
    log: &Log,
) -> Result<Prepared> {
    let read = || validate(bundle::read(bundle, log)?);
    let spec = log.span("read and check config.json", read)?;
    let path = spec.linux().and_then(|l| l.cgroups_path().as_deref());
    let host = host::cgroups()?;
    let (cgroup, scope) = host::cgroup(&host, path, choices.id, systemd)?;
    let resctrl = resctrl(&spec)?;
    let facts = host::facts(&host, &cgroup)?;
    check_unified(&spec, &facts)?;
    warn_of_missing(&spec.process, &facts, log);
    warn_of_ignored(&spec, log);
    let steps = log.span("plan", || plan::plan(&spec, &facts, choices))?;
    Ok(Prepared {
        spec,
        cgroup,
        scope,
        resctrl,
        steps,
    })
}

/// The machine's filesystem for shares of cache and bandwidth, for a config that wants some.
fn resctrl(spec: &ValidSpec) -> Result<Option<Resctrl>> {
    let Some(wanted) = spec.linux().and_then(|l| l.intel_rdt().as_ref()) else {
        return Ok(None);
    };
    let machine = Resctrl::find();
    rdt::check(wanted, machine.as_ref())?;
    Ok(machine)
}

/// Files of version 2 mean nothing to version 1.
fn check_unified(spec: &ValidSpec, facts: &HostFacts) -> Result<()> {
    let resources = spec.linux().and_then(|l| l.resources().as_ref());
    let unified = resources.and_then(|r| r.unified().as_ref());
    if facts.cgroup_v2 || unified.is_none_or(|files| files.is_empty()) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}: config.json: /linux/resources/unified: this host has cgroup version 1",
        phrases::INVALID_CONFIG
    )))
}

/// Warns of capabilities that the process will not get, as runc does.
pub(crate) fn warn_of_missing(process: &ValidProcess, facts: &HostFacts, log: &Log) {
    let Some(sets) = process.identity.capabilities else {
        return;
    };
    let (sets, missing) = sets.restrict(facts.bounding);
    if !missing.is_empty() {
        log.warn(&format!(
            "ignoring capabilities that cannot be granted: {}",
            missing.join(", ")
        ));
    }
    for name in sets.not_raised() {
        log.warn(&format!(
            "can't raise ambient capability {name}: operation not permitted"
        ));
    }
}

/// What runc warns about and goes on.
fn warn_of_ignored(spec: &ValidSpec, log: &Log) {
    let personality = spec.linux().and_then(|l| l.personality().as_ref());
    let flags = personality
        .and_then(|p| p.flags().as_deref())
        .unwrap_or_default();
    if !flags.is_empty() {
        log.warn(&format!(
            "ignoring unsupported personality flags: {}",
            flags.join(", ")
        ));
    }
}

/// A container whose init has applied its plan and waits.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) place: Place,
    pub(crate) record: Record,
    pub(crate) process: Spawned,
}

/// A new process, and the way to talk to it.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
}

/// Where the terminal's master goes.
#[derive(Debug)]
pub(crate) enum Console {
    None,
    Socket(OwnedFd),
}

impl Console {
    /// What the command line says about terminals, against what the config wants.
    pub(crate) fn choose(terminal: bool, detach: bool, socket: Option<&Path>) -> Result<Self> {
        match (terminal, socket) {
            (true, Some(path)) => {
                let stream = UnixStream::connect(path)
                    .context(|| format!("connect console socket {}", path.display()))?;
                Ok(Console::Socket(stream.into()))
            }
            (true, None) if detach => Err(Failure::new(
                "cannot allocate tty if runc will detach without setting console socket",
            )),
            (false, Some(_)) => Err(Failure::new(
                "cannot use console socket if runc will not detach or allocate tty",
            )),
            (_, None) => Ok(Console::None),
        }
    }

    pub(crate) fn into_fd(self) -> Option<OwnedFd> {
        match self {
            Console::None => None,
            Console::Socket(fd) => Some(fd),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Where containers' state lies.
    pub(crate) root: &'a Path,
    pub(crate) id: &'a ContainerId,
    pub(crate) args: &'a CreateArgs,
    /// The caller goes on to start the container, and stays to hear whether exec succeeded.
    pub(crate) stay: bool,
    pub(crate) log: &'a Log,
}

impl Created {
    /// Makes the container.
    pub(crate) fn make(
        request: Request<'_>,
        prepared: &Prepared,
        console: Console,
    ) -> Result<Self> {
        let place = Place::new(request.root, request.id);
        place.reserve()?;
        let result = build(request, &place, prepared, console);
        if result.is_err() {
            // The first error is the one to report.
            let _second = place.remove();
        }
        result
    }
}

fn build(
    request: Request<'_>,
    place: &Place,
    prepared: &Prepared,
    console: Console,
) -> Result<Created> {
    let Prepared { spec, steps, .. } = prepared;
    let profile = spec.linux().and_then(|l| l.seccomp().as_ref());
    let log = request.log;
    let seccomp = profile
        .map(|p| log.span("seccomp filter", || seccomp::program(p, request.root)))
        .transpose()?
        .flatten();
    if let Some(program) = &seccomp {
        request
            .log
            .debug(&format!("seccomp filter flags: {}", program.flags));
    }
    let starter = if request.stay {
        Starter::Parent
    } else {
        Starter::Fifo(make_fifo(&place.fifo())?)
    };
    let make = || group::make(prepared, request.id.as_str());
    let made = log.span("make cgroup and set limits", make)?;
    let cgroup = &made.cgroup;
    let shown = if cgroup.dirs().is_empty() {
        Some(show_own_groups(steps)?)
    } else {
        None
    };
    let steps = shown.as_deref().unwrap_or(steps);
    let run = || -> Result<Created> {
        let namespaces = sources::open_namespaces(spec)?;
        let (preserved, env) = preserve(request.args.preserve_fds, &spec.process.env)?;
        let init = Init {
            steps,
            args: &spec.process.args,
            env,
            cgroup: made.join_files()?,
            sources: log.span("open mount sources", || sources::open(spec, &namespaces))?,
            namespaces,
            container: None,
            starter,
            console: console.into_fd(),
            proc: kernel::path::open_proc().context(|| "open /proc".to_owned())?,
            pagemap: None,
            seccomp,
            first_closed: 3 + preserved,
            state: hook_state(spec, request.id.as_str(), 0, "created"),
            times: request.log.spans().then(Vec::new),
            in_user_namespace: spec.namespaces.has(ns::USER),
        };
        request.log.debug(phrases::DEBUG_CLONE);
        let process = log.span("clone init", || spawn::spawn(spec, cgroup, init))?;
        request.log.debug(phrases::DEBUG_CHILD);
        made.settle().inspect_err(|_| end(&process))?;
        finish(request, place, prepared, &made, process)
    };
    run().inspect_err(|_| made.undo())
}

/// The plan of a container that goes without a group and stays in its caller's: that is what it is shown.
fn show_own_groups(steps: &[Step]) -> Result<Vec<Step>> {
    let host = host::cgroups()?;
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let own = Cgroup::of_process(&host, pid).context(|| "find own cgroup".to_owned())?;
    let facts = host::facts(&host, &own)?;
    let mut steps = steps.to_vec();
    for step in &mut steps {
        if let Step::MountCgroups { views, .. } = step {
            views.clone_from(&facts.cgroups);
        }
    }
    Ok(steps)
}

/// From here a failure has a process to kill.
fn finish(
    request: Request<'_>,
    place: &Place,
    prepared: &Prepared,
    made: &Made,
    process: Spawned,
) -> Result<Created> {
    let Prepared { spec, steps, .. } = prepared;
    let id = request.id.as_str();
    let run = || -> Result<Record> {
        // Written while init is busy; if init failed, that is the error to report.
        let choices = Choices {
            id,
            no_pivot: request.args.no_pivot,
            no_new_keyring: request.args.no_new_keyring,
        };
        let write = || {
            record(choices, prepared, made, process.pid)
                .and_then(|record| place.stage(&record).map(|()| record))
        };
        let staged = request.log.span("write state", write);
        converse(&process, steps, request.log, |wish| match wish {
            Wish::RunHooks => run_hooks(spec, id, process.pid),
            Wish::MoveDevices => net_devices::move_devices(&spec.net_devices, process.pid),
            Wish::HandOver(listener) => ask_agent(spec, id, process.pid, &listener),
            Wish::ChangeOwners { at, tree } => sources::change_owners(spec, at, &tree),
        })?;
        request.log.debug(&format!(
            "{}: {id} has applied {} steps",
            phrases::DEBUG_READY,
            steps.len()
        ));
        let record = staged?;
        place.publish()?;
        if let Some(file) = &request.args.pid_file {
            write_pid_file(file, process.pid)?;
        }
        if let Some(socket) = &request.args.pidfd_socket {
            send_pidfd(socket, &process, "standard")?;
        }
        Ok(record)
    };
    match run() {
        Ok(record) => Ok(Created {
            place: place.clone(),
            record,
            process,
        }),
        Err(failure) => {
            end(&process);
            Err(failure)
        }
    }
}

/// Kills and reaps a process that must not stay.
pub(crate) fn end(process: &Spawned) {
    // It may have ended by itself, which is as good.
    let _gone = kernel::process::pidfd_send_signal(process.pidfd.as_fd(), nix::libc::SIGKILL);
    let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(process.pid), None);
}

/// The descriptors to hand on besides stdio, and the environment that tells of them.
pub(crate) fn preserve(asked: u32, env: &[String]) -> Result<(u32, Vec<String>)> {
    let listening: u32 = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let count = asked + listening;
    for number in 3..3 + count {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        kernel::process::preserve_number(number)
            .context(|| format!("preserve file descriptor {number}"))?;
    }
    let mut env = env.to_vec();
    if listening > 0 {
        env.push(format!("LISTEN_FDS={listening}"));
        env.push("LISTEN_PID=1".to_owned());
    }
    Ok((count, env))
}

fn make_fifo(path: &Path) -> Result<OwnedFd> {
    let make = || -> std::io::Result<OwnedFd> {
        nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o622))?;
        Ok(fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_CLOEXEC)
            .open(path)?
            .into())
    };
    make().context(|| format!("make {}", path.display()))
}

pub(crate) fn run_hooks(spec: &ValidSpec, id: &str, pid: i32) -> Result<()> {
    let Some(hooks) = spec.spec.hooks() else {
        return Ok(());
    };
    let state = hook_state(spec, id, pid, "created");
    crate::hooks::run(
        "prestart",
        hooks.prestart().as_deref().unwrap_or_default(),
        &state,
    )?;
    crate::hooks::run(
        "createRuntime",
        hooks.create_runtime().as_deref().unwrap_or_default(),
        &state,
    )
}

/// The state that hooks get. Those of a creation see a created container, as crun has it: the spec's lifecycle puts them after
/// the step that creating is over with.
fn hook_state(spec: &ValidSpec, id: &str, pid: i32, status: &str) -> Vec<u8> {
    let bundle = spec.bundle.to_string_lossy();
    // Strings and numbers only: printing cannot fail.
    serde_json::to_vec(&state_document(spec, &bundle, id, pid, status)).unwrap_or_default()
}

/// The state of a container that is not on disk yet.
fn state_document<'a>(
    spec: &'a ValidSpec,
    bundle: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
) -> StateDocument<'a> {
    StateDocument {
        oci_version: spec.spec.version(),
        id,
        pid,
        status,
        bundle,
        rootfs: None,
        created: None,
        annotations: annotations(&spec.spec),
        owner: None,
    }
}

/// Hands the descriptor of a filter that asks to its agent.
fn ask_agent(spec: &ValidSpec, id: &str, pid: i32, listener: &OwnedFd) -> Result<()> {
    let profile = spec.linux().and_then(|l| l.seccomp().as_ref());
    let bundle = spec.bundle.to_string_lossy();
    let state = state_document(spec, &bundle, id, pid, "creating");
    match profile.and_then(Agent::of) {
        Some(agent) => agent.hand_over(listener.as_fd(), pid, &state),
        None => Ok(()),
    }
}

/// Sends `process`'s pidfd over the unix socket at `path`; the word with it says which process it is, as runc has it.
pub(crate) fn send_pidfd(path: &Path, process: &Spawned, which: &str) -> Result<()> {
    UnixStream::connect(path)
        .and_then(|socket| {
            kernel::scm::send(socket.as_fd(), which.as_bytes(), &[process.pidfd.as_fd()])
        })
        .map(drop)
        .context(|| format!("send pidfd to {}", path.display()))
}

/// Written under another name and renamed: a reader sees all of it or nothing.
pub(crate) fn write_pid_file(file: &Path, pid: i32) -> Result<()> {
    let name = file
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = file.with_file_name(format!(".{name}"));
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, file))
        .context(|| format!("write pid file {}", file.display()))
}
