//! `run`: create, start, and unless detached wait and delete.

use crate::cli::RunArgs;
use crate::commands::create::choices;
use crate::commands::{Globals, delete, start};
use crate::console::{Signals, receive_master, socket_pair, wait};
use crate::create::{Console, Created, Request, end, prepare, start_and_hear};
use crate::failure::{Context, Result};
use crate::state::ContainerId;

pub(super) fn run(globals: &Globals, args: &RunArgs) -> Result<u8> {
    let id = ContainerId::parse(&args.create.id)?;
    let prepared = prepare(
        &args.create.bundle,
        choices(&id, &args.create),
        globals.systemd_cgroup,
        &globals.log,
    )?;
    let terminal = prepared.spec.process.terminal;
    let socket = args.create.console_socket.as_deref();
    let signals = if args.detach {
        None
    } else {
        Some(Signals::block()?)
    };
    let (ours, console) = if terminal && !args.detach && socket.is_none() {
        let (ours, theirs) = socket_pair()?;
        (Some(ours), Console::Socket(theirs))
    } else {
        (None, Console::choose(terminal, args.detach, socket)?)
    };
    if !args.detach && !args.no_subreaper {
        kernel::subreaper(true).context(|| "become subreaper".to_owned())?;
    }
    let request = Request {
        root: &globals.root,
        id: &id,
        args: &args.create,
        stay: true,
        log: &globals.log,
    };
    let created = Created::make(request, &prepared, console)?;
    let begin = || -> Result<_> {
        let master = ours.as_ref().map(receive_master).transpose()?.flatten();
        let start = || start_and_hear(&created.process.channel, &prepared.steps);
        globals.log.span("start and exec", start)?;
        start::poststart(&created.record)?;
        Ok(master)
    };
    let master = match begin() {
        Ok(master) => master,
        Err(failure) => {
            end(&created.process);
            delete::remove(globals, &created.place, &created.record)?;
            return Err(failure);
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    let code = wait(created.process.pid, &signals, master)?;
    if !args.keep {
        let delete = || delete::remove(globals, &created.place, &created.record);
        globals.log.span("delete", delete)?;
    }
    Ok(code)
}
