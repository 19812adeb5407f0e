//! `ctl start`: starts each container and prints its name as typed, going on
//! after a failed one; with `-a` or `-i` starts one and stays with it.

use proto::engine::v1::{StartContainerRequest, session_input};

use super::{detach_keys, each};
use crate::cli::container::StartArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::session::{self, Forward, Plan, Shown};

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &StartArgs) -> Result<u8, Failure> {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    if !args.attach && !args.interactive {
        return each::run(&args.containers, async |container| {
            let request = StartContainerRequest {
                container: container.to_owned(),
            };
            client.start_container(request).await?;
            Ok(Some(container.to_owned()))
        })
        .await;
    }
    let [container] = args.containers.as_slice() else {
        let message = "you cannot start and attach multiple containers at once";
        return Err(Failure::Client(message.to_owned()));
    };
    let plan = Plan {
        open: session_input::Message::Attach(session_input::Attach {
            container: container.clone(),
            start: true,
            stdin: args.interactive,
            window: session::window(),
            logs: false,
        }),
        stdin: args.interactive,
        tty: None,
        shown: Shown::ALL,
        keys,
        forward: Forward::ToWithoutTty(container.clone()),
        redraw: false,
    };
    Ok(session::hold(client, plan).await?.exit_code())
}
