//! `start`: makes sure a shim serves the bundle in the current directory,
//! and prints where.
//!
//! 1. The bundle's group decides on the socket; if a shim answers there, its
//!    address is the answer.
//! 2. Otherwise the socket is made here and handed, listening, to a copy of
//!    this program that serves: the address works before it is printed.
//! 3. The copy's log is the bundle's fifo, its out-of-memory score one above
//!    the daemon's.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc::O_NONBLOCK;
use serde_json::json;

use crate::address::{self, Listening};
use crate::args::Args;
use crate::bundle;
use crate::failure::{Failure, Result};

const MAX_OOM_SCORE: i32 = 1000;

/// Starts or finds the shim.
pub(crate) fn start(args: &Args) -> Result<()> {
    bundle::check_id(&args.id)?;
    let bundle =
        std::env::current_dir().map_err(|err| Failure::because("find the bundle", &err))?;
    let group = bundle::group(&bundle, &args.id)?;
    let socket = if args.socket.as_os_str().is_empty() {
        address::socket_path(&args.address, &args.namespace, &group)
    } else {
        args.socket.clone()
    };
    let listening = address::listen(&socket)
        .map_err(|err| Failure::because(format!("listen on {}", socket.display()), &err))?;
    let address = format!("unix://{}", socket.display());
    let told = match listening {
        Listening::Taken => write_address(&bundle, &address),
        Listening::New(listener) => spawn(args, &bundle, listener.into())
            .and_then(|()| write_address(&bundle, &address))
            .inspect_err(|_| {
                // Nobody serves it; the first error is the one to report.
                let _ = address::remove(&socket);
            }),
    };
    told.map_err(|err| Failure::because("start shim", &err))?;
    let answer = answer(std::env::var("MAX_SHIM_VERSION").ok().as_deref(), &address);
    io::stdout()
        .write_all(answer.as_bytes())
        .map_err(|err| Failure::because("print the address", &err))
}

/// What is printed: the plain address, which every containerd understands, or
/// the form with versions for one that says it does.
fn answer(max_version: Option<&str>, address: &str) -> String {
    match max_version.and_then(|version| version.parse::<u32>().ok()) {
        Some(3..) => json!({ "version": 3, "address": address, "protocol": "ttrpc" }).to_string(),
        _ => address.to_owned(),
    }
}

fn write_address(bundle: &Path, address: &str) -> io::Result<()> {
    bundle::replace(&bundle.join("address"), address.as_bytes())
}

fn spawn(args: &Args, bundle: &Path, listener: OwnedFd) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command.args([
        "-namespace",
        &args.namespace,
        "-id",
        &args.id,
        "-address",
        &args.address,
    ]);
    if args.debug {
        command.arg("-debug");
    }
    command
        .current_dir(bundle)
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(log(bundle))
        .process_group(0);
    let child = command.spawn()?;
    let pid = child.id();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_version_3_gets_json() {
        let address = "unix:///run/s/a";
        assert_eq!(answer(None, address), address);
        assert_eq!(answer(Some("2"), address), address);
        assert_eq!(answer(Some("x"), address), address);
        let json: serde_json::Value = serde_json::from_str(&answer(Some("3"), address)).unwrap();
        assert_eq!(
            json,
            json!({ "version": 3, "address": address, "protocol": "ttrpc" })
        );
    }
}
