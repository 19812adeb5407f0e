//! Client and server against each other, and against peers that break the rules.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use proto::containerd::task::v2::{KillRequest, StateRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use ttrpc_wire::frame::{self, Frame, FrameKind};
use ttrpc_wire::{CallError, Client, Code, Request, Status, serve, serve_send};

const SERVICE: &str = "test.Echo";

/// Runs `test` with the path of a socket on which an echo service answers.
fn with_server<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    runtime.block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let not_send = Rc::new("pong");
        let server = serve(listener, move |request| {
            let not_send = Rc::clone(&not_send);
            async move { echo(request, &not_send).await }
        });
        tokio::select! {
            ended = server => panic!("server ended: {ended:?}"),
            ended = tokio::time::timeout(Duration::from_secs(30), test(path.clone())) => ended.unwrap(),
        }
    });
}

async fn echo(request: Request, word: &str) -> Result<Vec<u8>, Status> {
    if request.service != SERVICE {
        return Err(Status::no_service(&request.service));
    }
    match request.method.as_str() {
        "Echo" => Ok(request.payload),
        "Metadata" => {
            let text: Vec<_> = request
                .metadata
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            Ok(state(&format!("{word} {} {:?}", text.join(","), request.timeout)).encode_to_vec())
        }
        "Refuse" => Err(Status::new(Code::FailedPrecondition, "not now")),
        "Never" => std::future::pending().await,
        "Huge" => Ok(vec![0; frame::MAX_PAYLOAD_BYTES + 1]),
        "Garbage" => Ok(vec![0xff; 9]),
        other => Err(Status::no_method(other)),
    }
}

fn state(id: &str) -> StateRequest {
    StateRequest {
        id: id.to_owned(),
        exec_id: String::new(),
    }
}

async fn call(client: &Client, method: &str) -> Result<StateRequest, CallError> {
    client.call(SERVICE, method, &state("x"), None, &[]).await
}

#[track_caller]
fn status(result: Result<StateRequest, CallError>) -> (Code, String) {
    match result {
        Err(CallError::Status(status)) => (status.code, status.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_is_answered() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        assert_eq!(call(&client, "Echo").await.unwrap(), state("x"));
    });
}

#[test]
fn metadata_and_timeout_reach_the_handler() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        let limit = Some(Duration::from_secs(7));
        let meta = [("containerd-namespace-ttrpc", "default"), ("k", "v")];
        let answer: StateRequest = client
            .call(SERVICE, "Metadata", &state(""), limit, &meta)
            .await
            .unwrap();
        assert_eq!(
            answer.id,
            "pong containerd-namespace-ttrpc=default,k=v Some(7s)"
        );
    });
}

#[test]
fn errors_keep_their_code_and_words() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        assert_eq!(
            status(call(&client, "Refuse").await),
            (Code::FailedPrecondition, "not now".to_owned())
        );
        assert_eq!(
            status(call(&client, "Nope").await),
            (Code::Unimplemented, "method Nope".to_owned())
        );
        let other = client
            .call::<_, StateRequest>("a.B", "C", &state(""), None, &[])
            .await;
        assert_eq!(
            status(other),
            (Code::Unimplemented, "service a.B".to_owned())
        );
    });
}

#[test]
fn calls_overtake_one_that_never_ends() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        let waiting = client.clone();
        let never = tokio::spawn(async move { call(&waiting, "Never").await });
        for n in 0..200 {
            let id = format!("call-{n}");
            let answer: StateRequest = client
                .call(SERVICE, "Echo", &state(&id), None, &[])
                .await
                .unwrap();
            assert_eq!(answer.id, id);
        }
        assert!(!never.is_finished());
        never.abort();
    });
}

#[test]
fn many_calls_at_once_each_get_their_own_answer() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..300_u32 {
            let client = client.clone();
            calls.spawn(async move {
                let request = KillRequest {
                    id: "k".repeat(n as usize),
                    signal: n,
                    ..KillRequest::default()
                };
                let answer: KillRequest = client
                    .call(SERVICE, "Echo", &request, None, &[])
                    .await
                    .unwrap();
                assert_eq!(answer, request);
            });
        }
        assert_eq!(calls.join_all().await.len(), 300);
    });
}

#[test]
fn a_call_that_runs_out_of_time_leaves_the_connection_usable() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        let limit = Some(Duration::from_millis(20));
        let late = client
            .call::<_, StateRequest>(SERVICE, "Never", &state(""), limit, &[])
            .await;
        match late {
            Err(CallError::Timeout) => {}
            // The server keeps the same time and may be first.
            Err(CallError::Status(status)) => assert_eq!(status.code, Code::DeadlineExceeded),
            other => panic!("{other:?}"),
        }
        assert_eq!(call(&client, "Echo").await.unwrap(), state("x"));
    });
}

#[test]
fn messages_over_the_limit_are_refused_both_ways() {
    with_server(async |path: PathBuf| {
        let client = Client::connect(&path).await.unwrap();
        let big = state(&"x".repeat(frame::MAX_PAYLOAD_BYTES));
        let sent = client
            .call::<_, StateRequest>(SERVICE, "Echo", &big, None, &[])
            .await;
        assert!(matches!(sent, Err(CallError::Malformed(_))), "{sent:?}");
        assert_eq!(
            status(call(&client, "Huge").await).0,
            Code::ResourceExhausted
        );
        assert!(matches!(
            call(&client, "Garbage").await,
            Err(CallError::Malformed(_))
        ));
        let nearly = state(&"x".repeat(frame::MAX_PAYLOAD_BYTES - 100));
        let answer: StateRequest = client
            .call(SERVICE, "Echo", &nearly, None, &[])
            .await
            .unwrap();
        assert_eq!(answer.id.len(), nearly.id.len());
    });
}

/// Writes `bytes`, and returns the status of the answer if there is one.
async fn raw(path: &Path, bytes: &[u8]) -> Option<(u32, proto::google::rpc::Status)> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    match frame::read(&mut stream).await.unwrap()? {
        Frame::Whole {
            stream,
            kind: FrameKind::Response,
            payload,
        } => Some((
            stream,
            proto::ttrpc::Response::decode(&payload[..])
                .unwrap()
                .status
                .unwrap(),
        )),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_survives_hostile_frames() {
    with_server(async |path: PathBuf| {
        let mut long = (u32::try_from(frame::MAX_PAYLOAD_BYTES).unwrap() + 1)
            .to_be_bytes()
            .to_vec();
        long.extend_from_slice(&[0, 0, 0, 3, 1, 0]);
        long.resize(long.len() + frame::MAX_PAYLOAD_BYTES + 1, 0);
        let (stream, refused) = raw(&path, &long).await.unwrap();
        assert_eq!(
            (stream, Code::from(refused.code)),
            (3, Code::ResourceExhausted)
        );

        let garbled = frame::encode(1, FrameKind::Request, &[0xff; 20]).unwrap();
        let (_, refused) = raw(&path, &garbled).await.unwrap();
        assert_eq!(Code::from(refused.code), Code::InvalidArgument);

        let even = frame::encode(2, FrameKind::Request, &[]).unwrap();
        let (_, refused) = raw(&path, &even).await.unwrap();
        assert_eq!(Code::from(refused.code), Code::InvalidArgument);

        // Announced 4 GiB, three bytes, gone.
        assert_eq!(
            raw(&path, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0, 1, 2, 3]).await,
            None
        );
        assert_eq!(raw(&path, &[0, 0]).await, None);
        assert_eq!(raw(&path, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await, None);
        assert_eq!(
            raw(&path, &frame::encode(1, FrameKind::Data, b"x").unwrap()).await,
            None
        );
        assert_eq!(
            raw(
                &path,
                &frame::encode(1, FrameKind::Unknown(77), b"x").unwrap()
            )
            .await,
            None
        );

        let client = Client::connect(&path).await.unwrap();
        assert_eq!(call(&client, "Echo").await.unwrap(), state("x"));
    });
}

#[test]
fn a_stream_id_may_not_come_twice() {
    with_server(async |path: PathBuf| {
        let request = proto::ttrpc::Request {
            service: SERVICE.into(),
            method: "Never".into(),
            ..Default::default()
        };
        let mut twice = frame::encode(5, FrameKind::Request, &request.encode_to_vec()).unwrap();
        twice.extend_from_within(..);
        let (stream, refused) = raw(&path, &twice).await.unwrap();
        assert_eq!(
            (stream, Code::from(refused.code)),
            (5, Code::InvalidArgument)
        );
    });
}

/// A peer that reads one request and then does `act`.
fn against_peer<F: Future<Output = ()>>(
    act: impl FnOnce(UnixStream) -> F,
    check: impl AsyncFnOnce(Client),
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Client::over(ours);
        let peer = async {
            frame::read(&mut theirs).await.unwrap().unwrap();
            act(theirs).await;
        };
        tokio::join!(peer, check(client));
    });
}

#[test]
fn a_connection_that_goes_ends_its_calls() {
    against_peer(
        async |peer| drop(peer),
        async |client| {
            let first = call(&client, "Echo").await;
            assert!(matches!(first, Err(CallError::Closed)), "{first:?}");
            client.closed().await;
            let later = call(&client, "Echo").await;
            assert!(matches!(later, Err(CallError::Closed)), "{later:?}");
        },
    );
}

#[test]
fn the_client_survives_a_hostile_server() {
    against_peer(
        async |mut peer| {
            // Answers nobody asked for, of all kinds, then half a frame.
            let mut bytes = frame::encode(99, FrameKind::Response, b"\xff\xff").unwrap();
            bytes.extend(frame::encode(0, FrameKind::Unknown(9), b"abc").unwrap());
            bytes.extend_from_slice(&[0, 0, 0, 9, 0, 0]);
            peer.write_all(&bytes).await.unwrap();
        },
        async |client| {
            let result = call(&client, "Echo").await;
            assert!(matches!(result, Err(CallError::Malformed(_))), "{result:?}");
        },
    );
    against_peer(
        async |mut peer| {
            peer.write_all(&frame::encode(1, FrameKind::Response, b"\xff\xff").unwrap())
                .await
                .unwrap()
        },
        async |client| {
            let result = call(&client, "Echo").await;
            assert!(matches!(result, Err(CallError::Malformed(_))), "{result:?}");
        },
    );
}

#[test]
fn the_connection_closes_with_the_last_client() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Client::over(ours);
        let other = client.clone();
        drop(client);
        drop(other);
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn a_server_on_many_threads_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    runtime.block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(serve_send(listener, |request| async move {
            echo(request, "").await
        }));
        let client = Client::connect(&path).await.unwrap();
        assert_eq!(call(&client, "Echo").await.unwrap(), state("x"));
        server.abort();
    });
}
