//! `ctl run`: creates a container, starts it, and stays with it unless `-d`.
//!
//! The attached session is in place before the start, so that no output is
//! missed; it ends with the container's exit code.

use proto::engine::v1::{StartContainerRequest, session_input};

use super::{DONE, create, detach_keys};
use crate::cli::container::RunArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::session::{self, Forward, Plan};

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &RunArgs) -> Result<u8, Failure> {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let settings = &args.settings;
    if args.detach {
        let id = create::create(client, settings, false).await?;
        // Printed even if it cannot start: it is there, and has to be removed.
        out::line(&id)?;
        client
            .start_container(StartContainerRequest { container: id })
            .await?;
        return Ok(DONE);
    }
    session::check_tty(settings.interactive, settings.tty)?;
    let id = create::create(client, settings, true).await?;
    let plan = Plan {
        open: session_input::Message::Attach(session_input::Attach {
            container: id.clone(),
            start: true,
            stdin: settings.interactive,
            window: session::window().filter(|_| settings.tty),
            logs: false,
        }),
        stdin: settings.interactive,
        tty: Some(settings.tty),
        keys,
        forward: if args.sig_proxy.unwrap_or(true) {
            Forward::To(id)
        } else {
            Forward::Never
        },
        redraw: false,
    };
    Ok(session::hold(client, plan).await?.exit_code())
}
