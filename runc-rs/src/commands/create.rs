//! `create`: everything but the start. And `plan`, which prints what that would do.

use crate::cli::{CreateArgs, PlanArgs};
use crate::commands::{Globals, say};
use crate::create::{Console, Created, Request, prepare};
use crate::failure::Result;
use crate::plan::Choices;
use crate::state::ContainerId;

pub(super) fn choices<'a>(id: &'a ContainerId, args: &CreateArgs) -> Choices<'a> {
    Choices {
        id: id.as_str(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
    }
}

pub(super) fn run(globals: &Globals, args: &CreateArgs) -> Result<()> {
    let id = ContainerId::parse(&args.id)?;
    let prepared = prepare(
        &args.bundle,
        choices(&id, args),
        globals.systemd_cgroup,
        &globals.log,
    )?;
    let console = Console::choose(
        prepared.spec.process.terminal,
        true,
        args.console_socket.as_deref(),
    )?;
    let request = Request {
        root: &globals.root,
        id: &id,
        args,
        stay: false,
        log: &globals.log,
    };
    Created::make(request, &prepared, console)?;
    Ok(())
}

pub(super) fn plan(globals: &Globals, args: &PlanArgs) -> Result<()> {
    let choices = Choices {
        id: "ID",
        no_pivot: false,
        no_new_keyring: false,
    };
    let prepared = prepare(&args.bundle, choices, globals.systemd_cgroup, &globals.log)?;
    for step in &prepared.steps {
        say(&format!("{step}\n"))?;
    }
    Ok(())
}
