//! Keeps a container alive without the daemon: containerd shim v2.
//!
//! containerd calls this program `containerd-shim-runc-rs-v2` for a runtime
//! named `io.containerd.runc-rs.v2`, in the bundle's directory:
//!
//! - [`bootstrap`] (`start`) finds or spawns the shim that serves a bundle;
//! - [`serve`] is that shim: parent of the container's processes, owner of
//!   their stdio, teller of events;
//! - [`cleanup`] (`delete`) removes what a shim that died has left.
//!
//! Modules stand in the order of the data: command line, files, children,
//! runtime, stdio, tasks, service.

mod args;
mod failure;

mod address;
mod bundle;
mod cgroups;
mod events;
mod options;
mod readiness;
mod reaper;
mod rest;
mod rootfs;
mod signals;

mod program;
mod runtime;
mod stdio;
mod task;

mod sandbox;
mod service;

mod bootstrap;
mod cleanup;
mod info;
mod invitation;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use args::Action;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(err) => return fail(&err),
    };
    let done = match args.action {
        Action::Start => bootstrap::start(&args),
        Action::Delete => cleanup::delete(&args),
        Action::Serve => serve::serve(&args),
        Action::Version => info::version(),
        Action::Info => info::info(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(&err),
    }
}

fn fail(err: &dyn std::error::Error) -> ExitCode {
    // Whoever reads this may have gone.
    let _ = writeln!(std::io::stderr(), "{}: {}", info::NAME, failure::chain(err));
    ExitCode::FAILURE
}
