//! An OCI runtime with runc's command line.
//!
//! One bundle goes through these modules, in the order they stand here:
//!
//! 1. `cli` parses the command line, `commands` holds one file for each command.
//! 2. `bundle` reads `config.json` and names the place of a mistake in it.
//! 3. `validate` checks it and gives a `ValidSpec`; no I/O.
//! 4. `host` gathers the facts about this machine that decisions need.
//! 5. `plan` lists what the container's first process must do; no I/O, and it prints as text.
//! 6. `create` clones that process, maps users, runs hooks and keeps the words for what fails.
//! 7. `init` is that process: it applies the plan and reports a failure as data over `sync`.
//! 8. `state` is what is left on disk for the commands that come after.
//!
//! There is one thread throughout, so the process can be cloned into new namespaces without starting the program again.

mod failure;
mod log;
mod phrases;

mod cli;
mod mount_options;
mod number_set;
mod process;

mod rdt;

mod bundle;
mod validate;

mod host;
mod state;

mod seccomp;

mod landlock;

mod plan;

mod hooks;
mod sync;

mod init;

mod console;
mod create;

mod criu;

mod commands;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

/// Runs the program; the value is its exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    commands::main()
}
