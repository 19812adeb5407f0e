//! `delete`: cleans up after a shim that died, and says how its container
//! ended. Every step may find its work done already.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use prost::Message;
use proto::containerd::task::v2::DeleteResponse;
use tokio::task::LocalSet;

use crate::address;
use crate::args::Args;
use crate::bundle::{self, Exit};
use crate::failure::{Failure, Result, warn};
use crate::reaper::Reaper;
use crate::rootfs;
use crate::runtime::Runtime;
use crate::signals::Signals;

/// 128 and SIGKILL, for a container whose end nobody saw.
const KILLED: u32 = 137;

/// Cleans up.
pub(crate) fn delete(args: &Args) -> Result<()> {
    bundle::check_id(&args.id)?;
    let bundle = bundle_of(args).map_err(|err| Failure::because("find the bundle", &err))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Failure::because("start the event loop", &err))?;
    LocalSet::new().block_on(&runtime, remove_container(args, &bundle))?;
    if let Err(err) = rootfs::unmount_all(&bundle.join("rootfs")) {
        warn("unmount the root file system", &err);
    }
    if let Err(err) = remove_socket(&bundle) {
        warn("remove the shim's socket", &err);
    }
    if let Err(err) = remove_sessions(&bundle) {
        warn("remove the sockets of sessions", &err);
    }
    let exit = bundle::read_exit(&bundle::exit_path(&bundle, None)).unwrap_or_else(|| Exit {
        pid: bundle::read_pid(&bundle::pid_path(&bundle, None)).unwrap_or(0),
        status: KILLED,
        at: SystemTime::now(),
    });
    let response = DeleteResponse {
        pid: exit.pid,
        exit_status: exit.status,
        exited_at: Some(exit.at.into()),
    };
    io::stdout()
        .write_all(&response.encode_to_vec())
        .map_err(|err| Failure::because("print the exit", &err))
}

/// The bundle as given, or the sibling of the current directory called like
/// the container.
fn bundle_of(args: &Args) -> io::Result<PathBuf> {
    if args.bundle.is_absolute() {
        return Ok(args.bundle.clone());
    }
    let here = std::env::current_dir()?;
    Ok(here
        .parent()
        .map_or(here.clone(), |parent| parent.join(&args.id)))
}

async fn remove_container(args: &Args, bundle: &Path) -> Result<()> {
    let signals = Signals::listen().map_err(|err| Failure::because("listen for children", &err))?;
    let reaper = Rc::new(Reaper::default());
    let options = bundle::read_options(bundle).unwrap_or_else(|err| {
        warn("read the runtime's options", &err);
        bundle::Options::default()
    });
    let runtime = Runtime::new(&options, &args.namespace, bundle, Rc::clone(&reaper));
    let reaping = tokio::task::spawn_local(async move {
        while signals.next().await.is_ok() {
            reaper.reap();
        }
    });
    let deleted = runtime.run(["delete", "--force", &args.id]).await;
    reaping.abort();
    match deleted {
        Err(err) if !err.is_no_container() => warn(
            "delete the container",
            &err.during("OCI runtime delete failed"),
        ),
        _ => {}
    }
    Ok(())
}

/// Removes the sockets of sessions that the shim had.
fn remove_sessions(bundle: &Path) -> io::Result<()> {
    let sockets = match bundle::noted_sessions(bundle) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        sockets => sockets?,
    };
    for socket in sockets {
        address::remove(&socket)?;
    }
    Ok(())
}

/// Removes the shim's socket unless a shim answers there: a pod's other
/// containers may still need it.
fn remove_socket(bundle: &Path) -> io::Result<()> {
    let text = match std::fs::read_to_string(bundle.join("address")) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    match address::path_of(&text) {
        Some(path) if UnixStream::connect(&path).is_err() => address::remove(&path),
        _ => Ok(()),
    }
}
