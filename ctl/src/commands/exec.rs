//! `ctl exec`: one more process in a running container.

use proto::engine::v1::{SessionInput, session_input, session_output};

use super::{DONE, detach_keys, variables};
use crate::cli::container::ExecArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::session::{self, End, Forward, Plan, Shown};

/// Runs the command. Typing the detach keys is a failure here, as in Docker.
pub(crate) async fn run(client: &mut Engine, args: &ExecArgs) -> Result<u8, Failure> {
    let keys = detach_keys(args.detach_keys.as_deref())?;
    let Some((container, command)) = args.container_and_command.split_first() else {
        return Err(Failure::Client("a container is needed".to_owned()));
    };
    let exec = session_input::Exec {
        container: container.clone(),
        args: command.to_vec(),
        env: variables(&args.env_file, &args.env)?,
        workdir: args.workdir.clone().unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        tty: args.tty,
        stdin: args.interactive && !args.detach,
        detach: args.detach,
        privileged: args.privileged,
        window: session::window().filter(|_| args.tty),
    };
    if args.detach {
        return start(client, exec).await;
    }
    session::check_tty(args.interactive, args.tty)?;
    let plan = Plan {
        open: session_input::Message::Exec(exec),
        stdin: args.interactive,
        tty: Some(args.tty),
        shown: Shown::ALL,
        keys,
        forward: Forward::Never,
        redraw: false,
    };
    match session::hold(client, plan).await? {
        End::Detached => Err(Failure::Detached),
        end => Ok(end.exit_code()),
    }
}

/// Starts the process and leaves it.
async fn start(client: &mut Engine, exec: session_input::Exec) -> Result<u8, Failure> {
    let open = SessionInput {
        message: Some(session_input::Message::Exec(exec)),
    };
    let mut answers = client.exec(tokio_stream::once(open)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Some(session_output::Message::Started(_)) = answer.message {
            return Ok(DONE);
        }
    }
    Err(Failure::Client(
        "the daemon ended the session before the process started".to_owned(),
    ))
}
