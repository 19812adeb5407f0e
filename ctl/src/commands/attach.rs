//! `ctl attach`: joins a running container until it ends or is left.

use proto::engine::v1::session_input;

use super::detach_keys;
use crate::cli::container::AttachArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::session::{self, End, Forward, Plan, Shown};

/// Runs the command. Typing the detach keys is a failure here, as in Docker.
pub(crate) async fn run(client: &mut Engine, args: &AttachArgs) -> Result<u8, Failure> {
    let container = &args.container;
    let proxy = args.sig_proxy.unwrap_or(true);
    let plan = Plan {
        open: session_input::Message::Attach(session_input::Attach {
            container: container.clone(),
            start: false,
            stdin: !args.no_stdin,
            window: session::window(),
            logs: false,
        }),
        stdin: !args.no_stdin,
        tty: None,
        shown: Shown::ALL,
        keys: detach_keys(args.detach_keys.as_deref())?,
        forward: if proxy {
            Forward::ToWithoutTty(container.clone())
        } else {
            Forward::Never
        },
        redraw: true,
    };
    match session::hold(client, plan).await? {
        End::Detached => Err(Failure::Detached),
        end => Ok(end.exit_code()),
    }
}
