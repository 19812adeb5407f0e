//! One file for each command, and the frame around them: globals, log, exit code.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod help;
mod kill;
mod list;
mod mounts;
mod ps;
mod restore;
mod run;
pub(crate) mod spec;
mod start;
mod state;
mod suspend;
mod update;

/// Parsers that [`crate::fuzzing`] feeds.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod parsers {
    pub(crate) use super::state::document;

    /// What a word of the command line may be taken for.
    pub(crate) fn words(text: &str) {
        drop(super::update::bytes(text));
        drop(super::kill::number(text));
        drop(super::events::duration(text));
    }
}

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, MountsCommand};
use crate::failure::{Context, Result};
use crate::log::Log;
use crate::phrases;
use crate::state::{ContainerId, Place, Record};

/// The version of runtime-spec that this implements.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Globals {
    pub(crate) root: PathBuf,
    /// Whether the command line named it.
    pub(crate) root_named: bool,
    pub(crate) systemd_cgroup: bool,
    pub(crate) criu: Option<PathBuf>,
    pub(crate) log: Log,
}

impl Globals {
    /// The container of this id, which must exist.
    pub(crate) fn container(&self, id: &str) -> Result<(Place, Record)> {
        let place = Place::new(&self.root, &ContainerId::parse(id)?);
        let record = place.load()?;
        Ok((place, record))
    }
}

pub(crate) fn main() -> ExitCode {
    protect_early();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if stdout and stderr are gone.
            let _gone = help::tell(&error);
            return ExitCode::from(if error.use_stderr() {
                phrases::EXIT_FAILURE
            } else {
                0
            });
        }
    };
    let Some(command) = cli.command else {
        let text = if cli.version {
            version()
        } else {
            help::command().render_help().to_string()
        };
        let printed = say(&format!("{text}\n"));
        return ExitCode::from(u8::from(printed.is_err()));
    };
    let log = match Log::open(cli.log.as_deref(), cli.log_format, cli.debug) {
        Ok(log) => log,
        Err(failure) => {
            // Nobody is left to tell if stderr is gone.
            let _gone = writeln!(std::io::stderr(), "{}", failure.chain());
            return ExitCode::from(phrases::EXIT_FAILURE);
        }
    };
    let own_code = if matches!(command, Command::Exec(_)) {
        phrases::EXIT_EXEC_FAILURE
    } else {
        phrases::EXIT_FAILURE
    };
    let root = cli.root.filter(|r| !r.as_os_str().is_empty());
    let globals = Globals {
        root_named: root.is_some(),
        root: root.unwrap_or_else(default_root),
        systemd_cgroup: cli.systemd_cgroup,
        criu: cli.criu,
        log,
    };
    match dispatch(command, &globals) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            globals.log.fatal(&failure.chain());
            ExitCode::from(own_code)
        }
    }
}

/// Starts again from a protected copy before anything else is done, as all of that would be done twice; mostly [`kernel::entry`]
/// has done it already. A word that only looks like one of these commands costs a start; what goes wrong is told by [`dispatch`],
/// when there is a log.
fn protect_early() {
    let in_container = |word: OsString| ["create", "run", "exec"].iter().any(|c| word == *c);
    if std::env::args_os().skip(1).any(in_container) {
        let _told_later = kernel::protect::run_protected();
        kernel::memory::expect_heap(HEAP);
    }
}

/// What a start with a config of Docker's size takes of the heap.
const HEAP: usize = 320 << 10;

fn dispatch(command: Command, globals: &Globals) -> Result<u8> {
    if matches!(
        command,
        Command::Create(_) | Command::Run(_) | Command::Exec(_)
    ) {
        kernel::protect::run_protected()
            .context(|| "protect the runtime's own program".to_owned())?;
    }
    let done = |result: Result<()>| result.map(|()| 0);
    match command {
        Command::Create(args) => {
            done(create::run(globals, &args).context(|| "runc create failed".to_owned()))
        }
        Command::Run(args) => run::run(globals, &args).context(|| "runc run failed".to_owned()),
        Command::Start(args) => done(start::run(globals, &args.id)),
        Command::State(args) => done(state::run(globals, &args.id)),
        Command::Kill(args) => done(kill::run(globals, &args)),
        Command::Delete(args) => done(delete::run(globals, &args)),
        Command::List(args) => done(list::run(globals, &args)),
        Command::Exec(args) => exec::run(globals, &args).context(|| "exec failed".to_owned()),
        Command::Ps(args) => done(ps::run(globals, &args)),
        Command::Pause(args) => done(suspend::pause(globals, &args.id)),
        Command::Resume(args) => done(suspend::resume(globals, &args.id)),
        Command::Update(args) => done(update::run(globals, &args)),
        Command::Events(args) => done(events::run(globals, &args)),
        Command::Spec(args) => done(spec::run(&args)),
        Command::Features => done(features::run()),
        Command::Plan(args) => done(create::plan(globals, &args)),
        Command::Completion(args) => {
            clap_complete::generate(
                args.shell,
                &mut Cli::command(),
                "runc-rs",
                &mut std::io::stdout(),
            );
            Ok(0)
        }
        Command::Checkpoint(args) => done(checkpoint::run(globals, &args)),
        Command::Restore(args) => restore::run(globals, &args),
        Command::Mounts(MountsCommand::Add(args)) => done(mounts::add(globals, &args)),
        Command::Mounts(MountsCommand::Remove(args)) => done(mounts::remove(globals, &args)),
    }
}

/// Prints to standard output; a reader that has gone away is an error like any other, not a panic.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context(|| "write to standard output".to_owned())
}

fn version() -> String {
    let seccomp = libseccomp::ScmpVersion::current()
        .map(|v| v.to_string())
        .unwrap_or_default();
    let number = env!("CARGO_PKG_VERSION");
    format!(
        "{} version {number}\ncommit: {}\nspec: {SPEC_VERSION}\nlibseccomp: {seccomp}",
        help::own_name(),
        option_env!("RUNC_RS_COMMIT").unwrap_or(concat!("v", env!("CARGO_PKG_VERSION")))
    )
}

/// runc's own place is left to runc.
fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|_| kernel::identity::effective_user() != 0) {
        Some(dir) => PathBuf::from(dir).join("runc-rs"),
        None => PathBuf::from("/run/runc-rs"),
    }
}
