//! `start`: makes sure a shim serves the bundle in the current directory,
//! and prints where.
//!
//! 1. [`Invitation`] is what the daemon asks for.
//! 2. The bundle's group decides on the socket; if a shim answers there, its
//!    address is the answer.
//! 3. Otherwise the socket is made here and handed, listening, to a copy of
//!    this program that serves: the address works before it is printed.
//! 4. The copy's log is the bundle's fifo, its out-of-memory score one above
//!    the daemon's, its cgroup the one that the options name, if they do.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::libc::O_NONBLOCK;

use crate::address::{self, Listening};
use crate::args::Args;
use crate::bundle;
use crate::cgroups;
use crate::failure::{Failure, Result};
use crate::invitation::{Environment, Invitation};

/// Set to `node` in the daemon's environment, one shim keeps all containers
/// that belong to no pod: the least memory, and one program whose death takes
/// them all.
const ONE_FOR_ALL: &str = "CONTAINERD_SHIM_GROUP";

const MAX_OOM_SCORE: i32 = 1000;

/// Parameters are small; this is the limit containerd has for them.
const MAX_INPUT_BYTES: u64 = 10 << 20;

/// Starts or finds the shim.
pub(crate) fn start(args: &Args) -> Result<()> {
    bundle::check_id(&args.id)?;
    let input = read_input().map_err(|err| Failure::because("read parameters", &err))?;
    let invitation = Invitation::read(args, Environment::read(), &input)?;
    let bundle =
        std::env::current_dir().map_err(|err| Failure::because("find the bundle", &err))?;
    let node = std::env::var_os(ONE_FOR_ALL).is_some_and(|value| value == "node");
    let group = bundle::group(&bundle, &args.id, node)?;
    let socket = match &invitation.socket_dir {
        _ if !args.socket.as_os_str().is_empty() => args.socket.clone(),
        dir => address::socket_path(dir.as_deref(), &invitation.daemon, &args.namespace, &group),
    };
    let listening = address::listen(&socket)
        .map_err(|err| Failure::because(format!("listen on {}", socket.display()), &err))?;
    let address = format!("unix://{}", socket.display());
    let told = match listening {
        Listening::Taken => write_address(&bundle, &address),
        Listening::New(listener) => spawn(args, &invitation, &bundle, listener.into())
            .and_then(|()| write_address(&bundle, &address))
            .inspect_err(|_| {
                // Nobody serves it; the first error is the one to report.
                let _ = address::remove(&socket);
            }),
    };
    told.map_err(|err| Failure::because("start shim", &err))?;
    io::stdout()
        .write_all(&invitation.answer(&address))
        .map_err(|err| Failure::because("print the address", &err))
}

/// Standard input to its end; nothing of a person at a terminal.
fn read_input() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        stdin.take(MAX_INPUT_BYTES).read_to_end(&mut input)?;
    }
    Ok(input)
}

fn write_address(bundle: &Path, address: &str) -> io::Result<()> {
    bundle::replace(&bundle.join("address"), address.as_bytes())
}

fn spawn(args: &Args, invitation: &Invitation, bundle: &Path, listener: OwnedFd) -> io::Result<()> {
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        // The copy and all that it starts inherit the cookie, so that no two
        // containers share a core's hyperthreads.
        kernel::sched::new_core_cookie()?;
    }
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command.args([
        "-namespace",
        &args.namespace,
        "-id",
        &args.id,
        "-address",
        &invitation.daemon,
    ]);
    if invitation.debug {
        command.arg("-debug");
    }
    if let Some(events) = &invitation.events {
        command.env("TTRPC_ADDRESS", events);
    }
    command
        .current_dir(bundle)
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(log(bundle))
        .process_group(0);
    let mut child = command.spawn()?;
    settle(&child, invitation, bundle).inspect_err(|_| {
        // It has no container yet, and nobody will know of it.
        let _ = child.kill();
    })
}

/// Puts the new shim where it belongs.
fn settle(child: &Child, invitation: &Invitation, bundle: &Path) -> io::Result<()> {
    let pid = child.id();
    if !invitation.options.shim_cgroup.is_empty() {
        cgroups::join(&invitation.options.shim_cgroup, pid)?;
    }
    // A parent whose score cannot be read or passed on is not worth failing for.
    let _ = adjust_oom_score(pid);
    bundle::replace(&bundle.join("shim.pid"), pid.to_string().as_bytes())
}

/// The daemon's end of the log. Opened for both directions: it neither waits
/// for the daemon nor breaks when it goes.
fn log(bundle: &Path) -> Stdio {
    let path = bundle.join("log");
    let is_fifo = fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo());
    let opened = is_fifo.then(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(&path)
    });
    match opened {
        Some(Ok(fifo)) => fifo.into(),
        _ => Stdio::null(),
    }
}

fn adjust_oom_score(pid: u32) -> io::Result<()> {
    let parents = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent_id()))?;
    let score = parents.trim().parse::<i32>().map_err(io::Error::other)?;
    fs::write(
        format!("/proc/{pid}/oom_score_adj"),
        (score + 1).min(MAX_OOM_SCORE).to_string(),
    )
}
