//! Attach and exec: two streams and what goes over them.

use engine::Engine;
use engine::Window;
use engine::attach::Attach;
use engine::exec::Exec;
use engine::streams::{FromClient, Receiver, ToClient};
use futures_util::StreamExt;
use lite_core::{Error, Kind, Result};
use proto::engine::v1 as wire;
use proto::engine::v1::session_input::Message as Input;
use proto::engine::v1::session_output::{Exited, Message as Output, Started};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Messages;
use crate::api::status::to_status;

/// Messages of a client that wait for a process which does not read; then the
/// client waits.
const WAITING: usize = 16;

type Inputs = Streaming<wire::SessionInput>;

pub(super) async fn attach(
    engine: &Engine,
    mut inputs: Inputs,
) -> Result<Messages<wire::SessionOutput>> {
    let Some(Input::Attach(first)) = first(&mut inputs).await? else {
        return Err(wrong_first("attach"));
    };
    let request = Attach {
        container: first.container,
        start: first.start,
        stdin: first.stdin,
        window: first.window.map(window),
        logs: first.logs,
    };
    Ok(outputs(
        engine::attach::attach(engine, request, forward(inputs)).await?,
    ))
}

pub(super) async fn exec(
    engine: &Engine,
    mut inputs: Inputs,
) -> Result<Messages<wire::SessionOutput>> {
    let Some(Input::Exec(first)) = first(&mut inputs).await? else {
        return Err(wrong_first("exec"));
    };
    let request = Exec {
        container: first.container,
        args: first.args,
        env: first.env,
        workdir: first.workdir,
        user: first.user,
        tty: first.tty,
        stdin: first.stdin,
        detach: first.detach,
        privileged: first.privileged,
        window: first.window.map(window),
    };
    Ok(outputs(
        engine::exec::exec(engine, request, forward(inputs)).await?,
    ))
}

async fn first(inputs: &mut Inputs) -> Result<Option<Input>> {
    let message = inputs.message().await;
    let message =
        message.map_err(|status| Kind::Cancelled.error("read session input").because(status))?;
    Ok(message.and_then(|input| input.message))
}

fn wrong_first(wanted: &str) -> Error {
    Kind::InvalidArgument.error(format!(
        "session input: the first message must be `{wanted}`"
    ))
}

/// Hands the client's messages on until it sends no more, or nobody listens.
fn forward(mut inputs: Inputs) -> mpsc::Receiver<FromClient> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // A client that broke off is noticed by its outputs.
        while let Ok(Some(input)) = inputs.message().await {
            let message = match input.message {
                Some(Input::Stdin(bytes)) => FromClient::Stdin(bytes),
                Some(Input::CloseStdin(_)) => FromClient::CloseStdin,
                Some(Input::Resize(size)) => FromClient::Resize(window(size)),
                Some(Input::Signal(signal)) => FromClient::Signal(signal.signal),
                // A second beginning, or what a later client may send.
                Some(Input::Attach(_) | Input::Exec(_)) | None => continue,
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn window(size: wire::WindowSize) -> Window {
    Window {
        columns: size.columns,
        rows: size.rows,
    }
}

fn outputs(receiver: Receiver) -> Messages<wire::SessionOutput> {
    Box::pin(ReceiverStream::new(receiver).map(|message| message.map(output).map_err(to_status)))
}

fn output(message: ToClient) -> wire::SessionOutput {
    let message = match message {
        ToClient::Started { exec_id, tty } => Output::Started(Started { exec_id, tty }),
        ToClient::Stdout(bytes) => Output::Stdout(bytes),
        ToClient::Stderr(bytes) => Output::Stderr(bytes),
        ToClient::Exited(exit_code) => Output::Exited(Exited { exit_code }),
    };
    wire::SessionOutput {
        message: Some(message),
    }
}
