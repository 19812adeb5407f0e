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
use crate::parse::Attach;
use crate::session::{self, Forward, Plan, Shown};

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &RunArgs) -> Result<u8, Failure> {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let settings = &args.settings;
    if args.detach {
        if !args.attach.is_empty() {
            return Err(Failure::Typed(
                "conflicting options: cannot specify both --attach and --detach".to_owned(),
            ));
        }
        let id = create::create(client, settings, false).await?;
        // Printed even if it cannot start: it is there, and has to be removed.
        out::line(&id)?;
        client
            .start_container(StartContainerRequest { container: id })
            .await?;
        return Ok(DONE);
    }
    let streams = Streams::of(args);
    session::check_tty(streams.stdin, settings.tty)?;
    let id = create::create(client, settings, true).await?;
    if streams.shown == NOTHING {
        // Else nobody would know what was started.
        out::line(&id)?;
    }
    let plan = Plan {
        open: session_input::Message::Attach(session_input::Attach {
            container: id.clone(),
            start: true,
            stdin: streams.stdin,
            window: session::window().filter(|_| settings.tty),
            logs: false,
        }),
        stdin: streams.stdin,
        tty: Some(settings.tty),
        shown: streams.shown,
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

/// What of the process is attached.
#[derive(Debug, PartialEq, Eq)]
struct Streams {
    stdin: bool,
    shown: Shown,
}

const NOTHING: Shown = Shown {
    stdout: false,
    stderr: false,
};

impl Streams {
    /// All, unless `--attach` names some.
    fn of(args: &RunArgs) -> Self {
        let all = args.attach.is_empty();
        let named = |stream: Attach| all || args.attach.contains(&stream);
        Self {
            stdin: args.settings.interactive && named(Attach::Stdin),
            shown: Shown {
                stdout: named(Attach::Stdout),
                stderr: named(Attach::Stderr),
            },
        }
    }
}
