//! What a client does all the time, in a few words.

use proto::engine::v1 as wire;
use proto::engine::v1::engine_client::EngineClient;
use proto::engine::v1::session_input::{Attach, CloseStdin, Exec, Message as Input};
use proto::engine::v1::session_output::Message as Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) type Client = EngineClient<Channel>;

/// A create request for `sh -c script`.
pub(crate) fn sh(name: &str, script: &str) -> wire::CreateContainerRequest {
    program(name, &["sh", "-c", script])
}

/// A create request for `command`.
pub(crate) fn program(name: &str, command: &[&str]) -> wire::CreateContainerRequest {
    wire::CreateContainerRequest {
        name: name.to_owned(),
        image: "busybox".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) async fn create(
    client: &mut Client,
    request: wire::CreateContainerRequest,
) -> Result<String, Status> {
    Ok(client.create_container(request).await?.into_inner().id)
}

pub(crate) async fn start(client: &mut Client, container: &str) -> Result<(), Status> {
    client
        .start_container(wire::StartContainerRequest {
            container: container.to_owned(),
        })
        .await
        .map(drop)
}

pub(crate) async fn stop(
    client: &mut Client,
    container: &str,
    timeout_s: Option<i32>,
) -> Result<(), Status> {
    let container = container.to_owned();
    client
        .stop_container(wire::StopContainerRequest {
            container,
            timeout_s,
            signal: String::new(),
        })
        .await
        .map(drop)
}

pub(crate) async fn kill(client: &mut Client, container: &str, signal: &str) -> Result<(), Status> {
    let (container, signal) = (container.to_owned(), signal.to_owned());
    client
        .kill_container(wire::KillContainerRequest { container, signal })
        .await
        .map(drop)
}

pub(crate) async fn remove(
    client: &mut Client,
    container: &str,
    force: bool,
) -> Result<(), Status> {
    let container = container.to_owned();
    client
        .remove_container(wire::RemoveContainerRequest {
            container,
            force,
            volumes: false,
        })
        .await
        .map(drop)
}

pub(crate) async fn wait(client: &mut Client, container: &str) -> Result<i32, Status> {
    let request = wire::WaitContainerRequest {
        container: container.to_owned(),
    };
    Ok(client.wait_container(request).await?.into_inner().exit_code)
}

pub(crate) async fn inspect(
    client: &mut Client,
    container: &str,
) -> Result<serde_json::Value, Status> {
    let request = wire::InspectContainerRequest {
        container: container.to_owned(),
        size: false,
    };
    let json = client.inspect_container(request).await?.into_inner().json;
    Ok(serde_json::from_str(&json).unwrap())
}

pub(crate) async fn list(client: &mut Client) -> Vec<wire::ContainerSummary> {
    client
        .list_containers(wire::ListContainersRequest {
            all: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .containers
}

/// The output in the log, streams mixed; `None` reads all of it.
pub(crate) async fn logs(
    client: &mut Client,
    container: &str,
    follow: bool,
    tail: Option<i64>,
) -> Result<String, Status> {
    let request = wire::ReadLogsRequest {
        container: container.to_owned(),
        follow,
        tail,
        ..Default::default()
    };
    let mut entries = client.read_logs(request).await?.into_inner();
    let mut text = Vec::new();
    while let Some(entry) = entries.message().await? {
        text.extend(entry.data);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// An attached session, or one of an exec.
pub(crate) struct Session {
    inputs: mpsc::Sender<wire::SessionInput>,
    outputs: Streaming<wire::SessionOutput>,
}

/// Everything a session said, to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Session {
    pub(crate) async fn attach(client: &mut Client, request: Attach) -> Result<Self, Status> {
        let (inputs, receiver) = mpsc::channel(16);
        inputs.send(input(Input::Attach(request))).await.unwrap();
        let outputs = client
            .attach(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Self::begun(inputs, outputs).await
    }

    pub(crate) async fn exec(client: &mut Client, request: Exec) -> Result<Self, Status> {
        let (inputs, receiver) = mpsc::channel(16);
        inputs.send(input(Input::Exec(request))).await.unwrap();
        let outputs = client
            .exec(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Self::begun(inputs, outputs).await
    }

    async fn begun(
        inputs: mpsc::Sender<wire::SessionInput>,
        mut outputs: Streaming<wire::SessionOutput>,
    ) -> Result<Self, Status> {
        let first = outputs.message().await?.and_then(|output| output.message);
        assert!(matches!(first, Some(Output::Started(_))), "{first:?}");
        Ok(Self { inputs, outputs })
    }

    pub(crate) async fn send(&self, message: Input) {
        self.inputs.send(input(message)).await.unwrap();
    }

    pub(crate) async fn type_in(&self, text: &str) {
        self.send(Input::Stdin(text.as_bytes().to_vec().into()))
            .await;
    }

    pub(crate) async fn close_stdin(&self) {
        self.send(Input::CloseStdin(CloseStdin {})).await;
    }

    /// Reads output until it contains `wanted`.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            match self
                .outputs
                .message()
                .await
                .unwrap()
                .and_then(|output| output.message)
            {
                Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => {
                    text.push_str(&String::from_utf8_lossy(&bytes))
                }
                other => panic!("{other:?} after {text:?}, before {wanted:?}"),
            }
        }
        text
    }

    pub(crate) async fn finish(mut self) -> Said {
        let mut said = Said::default();
        while let Some(output) = self.outputs.message().await.unwrap() {
            match output.message.unwrap() {
                Output::Started(_) => panic!("started twice"),
                Output::Stdout(bytes) => said.stdout.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Stderr(bytes) => said.stderr.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Exited(exited) => said.code = Some(exited.exit_code),
            }
        }
        said
    }
}

fn input(message: Input) -> wire::SessionInput {
    wire::SessionInput {
        message: Some(message),
    }
}

/// An attach that starts the container.
pub(crate) fn starting(container: &str) -> Attach {
    Attach {
        container: container.to_owned(),
        start: true,
        ..Default::default()
    }
}

/// Creates a container, starts it attached, and reads it to its end.
pub(crate) async fn run(
    client: &mut Client,
    request: wire::CreateContainerRequest,
) -> Result<Said, Status> {
    let id = create(client, request).await?;
    Ok(Session::attach(client, starting(&id)).await?.finish().await)
}

/// Runs `args` in a running container to its end.
pub(crate) async fn exec(
    client: &mut Client,
    container: &str,
    args: &[&str],
) -> Result<Said, Status> {
    let request = Exec {
        container: container.to_owned(),
        args: args.iter().map(|&word| word.to_owned()).collect(),
        ..Default::default()
    };
    Ok(Session::exec(client, request).await?.finish().await)
}

/// The exit code that a refusal carries for `docker run`.
pub(crate) fn exit_code(status: &Status) -> Option<&str> {
    status
        .metadata()
        .get("exit-code")
        .and_then(|value| value.to_str().ok())
}
