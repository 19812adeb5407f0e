use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;
use crate::remote::{Size, Streams};
use crate::spdy::client_tests::Client;
use crate::status::Ended;

const ALL: Wanted = Wanted {
    stdin: true,
    stdout: true,
    stderr: true,
    terminal: false,
};
const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

async fn server() -> Server {
    Server::start(Config::default())
        .await
        .expect("a port is free")
}

/// A program that copies input to output, says `bye` on standard error at the
/// end of input, and ends with `code`.
fn cat(code: i32) -> Run {
    Box::new(move |streams: Streams| {
        async move {
            let mut stdin = streams.stdin.expect("it is wanted");
            let stdout = streams.stdout.expect("it is wanted");
            while let Some(bytes) = stdin.recv().await {
                stdout.send(bytes).await.expect("the client is there");
            }
            if let Some(stderr) = streams.stderr {
                stderr
                    .send("bye".into())
                    .await
                    .expect("the client is there");
            }
            Ended::Exited(code)
        }
        .boxed()
    })
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address())
        .await
        .expect("it listens")
}

/// Sends a request and returns the answer's head.
async fn request(io: &mut TcpStream, url: &str, headers: &[&str]) -> String {
    let (_, path) = url
        .trim_start_matches("http://")
        .split_once('/')
        .expect("a path");
    let mut text = format!("POST /{path} HTTP/1.1\r\nHost: x\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    io.write_all(text.as_bytes()).await.expect("it listens");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("it answers"));
    }
    String::from_utf8(head).expect("it is text").to_lowercase()
}

const UPGRADE_SPDY: [&str; 2] = ["Connection: Upgrade", "Upgrade: SPDY/3.1"];

async fn spdy(server: &Server, url: &str, version: &str) -> Client<TcpStream> {
    let mut io = connect(server).await;
    let version = format!("X-Stream-Protocol-Version: {version}");
    let head = request(&mut io, url, &[UPGRADE_SPDY[0], UPGRADE_SPDY[1], &version]).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains(&version.to_lowercase()), "{head}");
    Client::new(io)
}

async fn websocket(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let mut request = url
        .replace("http:", "ws:")
        .into_client_request()
        .expect("a URL");
    let protocol = HeaderValue::from_str(protocol).expect("a name");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let host = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .expect("a host");
    let io = TcpStream::connect(host).await.expect("it listens");
    let (socket, _) = tokio_tungstenite::client_async(request, io)
        .await
        .expect("it upgrades");
    socket
}

fn kind(kind: &str) -> Vec<(&str, &str)> {
    vec![("streamtype", kind)]
}

#[tokio::test]
async fn a_program_is_spoken_to_over_spdy() {
    let server = server().await;
    let url = server.exec(ALL, cat(7)).expect("room");
    assert!(
        url.starts_with(&format!("http://{}/exec/", server.address())),
        "{url}"
    );
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    let error = client.open(&kind("error")).await;
    let stdin = client.open(&kind("stdin")).await;
    let stdout = client.open(&kind("stdout")).await;
    let stderr = client.open(&kind("stderr")).await;
    client.ping(1).await;
    client.send(stdin, false, b"hello ").await;
    client.until(|client| client.text(stdout) == "hello ").await;
    // Standard input may be closed while output goes on.
    client.send(stdin, true, &b"x".repeat(200_000)).await;
    client.finish().await;
    assert_eq!(client.taken, [error, stdin, stdout, stderr]);
    assert_eq!(client.pongs, [1]);
    assert_eq!(client.text(stdout).len(), 200_006);
    assert_eq!(client.text(stderr), "bye");
    let status: serde_json::Value = serde_json::from_str(&client.text(error)).expect("it is JSON");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    for stream in [error, stdout, stderr] {
        assert!(client.ended.contains(&stream), "{:?}", client.ended);
    }
}

#[tokio::test]
async fn older_versions_get_text_and_no_success() {
    let server = server().await;
    let wanted = Wanted {
        stderr: false,
        ..ALL
    };
    for (code, expected) in [
        (0, ""),
        (3, "command terminated with non-zero exit code: 3"),
    ] {
        let url = server.attach(wanted, cat(code)).expect("room");
        let mut client = spdy(&server, &url, "v2.channel.k8s.io").await;
        let error = client.open(&kind("error")).await;
        let stdin = client.open(&kind("stdin")).await;
        client.open(&kind("stdout")).await;
        client.send(stdin, true, b"").await;
        client.finish().await;
        assert_eq!(client.text(error), expected);
    }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_no_standard_error() {
    let server = server().await;
    let (tell, told) = oneshot::channel();
    let run: Run = Box::new(|mut streams: Streams| {
        async move {
            assert!(streams.stderr.is_none());
            let sizes = streams.sizes.as_mut().expect("there is a terminal");
            let pair = (sizes.recv().await, sizes.recv().await);
            tell.send(pair).expect("the test waits");
            Ended::Exited(0)
        }
        .boxed()
    });
    let url = server
        .exec(
            Wanted {
                terminal: true,
                ..ALL
            },
            run,
        )
        .expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    let error = client.open(&kind("error")).await;
    client.open(&kind("stdin")).await;
    client.open(&kind("stdout")).await;
    let resize = client.open(&kind("resize")).await;
    client
        .send(resize, false, b"{\"Width\":80,\"Height\":24}\n{\"Width\":1")
        .await;
    client.send(resize, false, b"00,\"Height\":30}\n").await;
    client.finish().await;
    assert_eq!(client.text(error), SUCCESS);
    let sizes = told.await.expect("the program ran");
    assert_eq!(
        sizes.0,
        Some(Size {
            columns: 80,
            rows: 24
        })
    );
    assert_eq!(
        sizes.1,
        Some(Size {
            columns: 100,
            rows: 30
        })
    );
}

#[tokio::test]
async fn a_url_is_good_once_and_for_what_it_is_for() {
    let server = server().await;
    let url = server.exec(ALL, cat(0)).expect("room");
    let attach = url.replace("/exec/", "/attach/");
    let head = request(&mut connect(&server).await, &attach, &UPGRADE_SPDY).await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    let head = request(&mut connect(&server).await, &url, &UPGRADE_SPDY).await;
    assert!(
        head.starts_with("http/1.1 404"),
        "a try has used it up: {head}"
    );

    let url = server.exec(ALL, cat(0)).expect("room");
    let head = request(&mut connect(&server).await, &url, &[]).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");

    let url = server.exec(ALL, cat(0)).expect("room");
    let headers = [
        UPGRADE_SPDY[0],
        UPGRADE_SPDY[1],
        "X-Stream-Protocol-Version: v9",
    ];
    let head = request(&mut connect(&server).await, &url, &headers).await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert!(
        head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"),
        "{head}"
    );
}

#[tokio::test]
async fn a_client_that_opens_too_little_is_hung_up_on() {
    let creation = Duration::from_millis(200);
    let server = Server::start(Config {
        creation,
        ..Config::default()
    })
    .await
    .expect("free");
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let run: Run = Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ended::Detached }.boxed()
    });
    let url = server.exec(ALL, run).expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    client.open(&kind("error")).await;
    let strange = client.open(&kind("strange")).await;
    client.finish().await;
    assert_eq!(client.reset, [strange]);
    assert_eq!(ran.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_is_closed() {
    let idle = Duration::from_millis(300);
    let server = Server::start(Config {
        idle,
        ..Config::default()
    })
    .await
    .expect("free");
    let (tell, told) = oneshot::channel();
    let url = server.exec(ALL, until_left(tell)).expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    for stream in ["error", "stdin", "stdout", "stderr"] {
        client.open(&kind(stream)).await;
    }
    client.finish().await;
    told.await.expect("the program was told");
}

/// A program that runs until its client leaves.
fn until_left(tell: oneshot::Sender<()>) -> Run {
    Box::new(|mut streams: Streams| {
        async move {
            streams.left.wait().await;
            let _ = tell.send(());
            Ended::Detached
        }
        .boxed()
    })
}

#[tokio::test]
async fn a_program_is_told_when_its_client_leaves() {
    let server = server().await;
    let (tell, told) = oneshot::channel();
    let url = server.exec(ALL, until_left(tell)).expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    for stream in ["error", "stdin", "stdout", "stderr"] {
        client.open(&kind(stream)).await;
    }
    client.until(|client| client.taken.len() == 4).await;
    drop(client);
    told.await.expect("the program was told");

    let (tell, told) = oneshot::channel();
    let url = server.exec(ALL, until_left(tell)).expect("room");
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    socket
        .next()
        .await
        .expect("it says that it is there")
        .expect("fine");
    drop(socket);
    told.await.expect("the program was told");
}

#[tokio::test]
async fn frames_without_measure_end_the_connection() {
    let server = server().await;
    let (tell, told) = oneshot::channel();
    let url = server.exec(ALL, until_left(tell)).expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    for stream in ["error", "stdin", "stdout", "stderr"] {
        client.open(&kind(stream)).await;
    }
    client.until(|client| client.taken.len() == 4).await;
    client.raw(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).await;
    client.finish().await;
    told.await.expect("the program was told");
}

/// A program that writes without end, and counts.
fn yes(written: Arc<AtomicUsize>) -> Run {
    Box::new(move |streams: Streams| {
        async move {
            let stdout = streams.stdout.expect("it is wanted");
            while stdout.send(vec![b'y'; 32 << 10].into()).await.is_ok() {
                written.fetch_add(32 << 10, Ordering::Relaxed);
            }
            Ended::Exited(0)
        }
        .boxed()
    })
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_program() {
    let server = server().await;
    let written = Arc::new(AtomicUsize::new(0));
    let only = Wanted {
        stdout: true,
        ..Wanted::default()
    };
    let url = server.exec(only, yes(written.clone())).expect("room");
    let mut client = spdy(&server, &url, "v4.channel.k8s.io").await;
    client.open(&kind("error")).await;
    client.open(&kind("stdout")).await;
    let url = server.exec(only, yes(written.clone())).expect("room");
    let _socket = websocket(&url, "v5.channel.k8s.io").await;
    // It stops at some point: twice the same number, seconds apart.
    let mut before = usize::MAX;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = written.load(Ordering::Relaxed);
        if now == before && now > 0 {
            assert!(now < 64 << 20, "{now} bytes are not held anywhere");
            return;
        }
        before = now;
    }
    panic!("{before} bytes were written, and there is no end");
}

/// A port that answers with what it got, in reverse, once it has all of it.
async fn reversing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let port = listener.local_addr().expect("it has one").port();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                io.read_to_end(&mut all).await.expect("it can be read");
                all.reverse();
                io.write_all(&all).await.expect("it can be written");
            });
        }
    });
    port
}

fn dial() -> Dial {
    Arc::new(|port| TcpStream::connect(("127.0.0.1", port)).boxed())
}

/// A port on which nobody listens.
async fn closed() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    listener.local_addr().expect("it has one").port()
}

async fn forwards<T>(mut client: Client<T>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (open, closed) = (reversing().await.to_string(), closed().await.to_string());
    let pair = async |client: &mut Client<T>, port: &str, request: &str| {
        let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
        let error = client.open(&headers("error")).await;
        (error, client.open(&headers("data")).await)
    };
    let (error_0, data_0) = pair(&mut client, &open, "0").await;
    let (error_1, data_1) = pair(&mut client, &open, "1").await;
    let (error_2, data_2) = pair(&mut client, &closed, "2").await;
    let (error_3, _) = pair(&mut client, "0", "3").await;
    client.send(data_1, false, b"olleh").await;
    client.send(data_0, true, &b"ab".repeat(100_000)).await;
    client.send(data_1, true, b"").await;
    let errors = [error_0, error_1, error_2, error_3];
    client
        .until(|client| errors.iter().all(|error| client.ended.contains(error)))
        .await;
    assert_eq!(client.text(data_1), "hello");
    assert_eq!(client.text(data_0), "ba".repeat(100_000));
    assert_eq!(client.text(error_0) + &client.text(error_1), "");
    let refused = client.text(error_2);
    assert!(
        refused.starts_with(&format!("forward port {closed}: ")),
        "{refused}"
    );
    assert!(client.ended.contains(&data_2));
    assert!(
        client.text(error_3).contains("no port"),
        "{}",
        client.text(error_3)
    );
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy() {
    let server = server().await;
    let url = server.port_forward(Vec::new(), dial()).expect("room");
    forwards(spdy(&server, &url, "portforward.k8s.io").await).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_in_a_websocket() {
    let server = server().await;
    let url = server.port_forward(Vec::new(), dial()).expect("room");
    let mut socket = websocket(&url, "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut piece = vec![0; 1 << 16];
        loop {
            tokio::select! {
                length = from.read(&mut piece) => {
                    let bytes = Bytes::copy_from_slice(&piece[..length.expect("it can be read")]);
                    socket.send(Message::Binary(bytes)).await.expect("the server is there");
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => to.write_all(&bytes).await.expect("fine"),
                    _ => return,
                },
            }
        }
    });
    forwards(Client::new(near)).await;
}

#[tokio::test]
async fn a_program_is_spoken_to_over_a_websocket() {
    let server = server().await;
    for (protocol, base64) in [
        ("v5.channel.k8s.io", false),
        ("v4.base64.channel.k8s.io", true),
    ] {
        let url = server.exec(ALL, cat(7)).expect("room");
        let mut socket = websocket(&url, protocol).await;
        let mut came = vec![Vec::new(); 4];
        let first = socket.next().await.expect("it is there").expect("fine");
        assert_eq!(
            crate::channel::parse(base64, first),
            Some((1, Bytes::new()))
        );
        socket
            .send(crate::channel::message(base64, 0, b"hello"))
            .await
            .expect("fine");
        if base64 {
            // No way to end input alone: what came back is all there is to see.
            let message = socket.next().await.expect("it is there").expect("fine");
            let echoed = crate::channel::parse(base64, message);
            assert_eq!(echoed, Some((1, Bytes::from_static(b"hello"))));
            continue;
        }
        socket
            .send(Message::Binary(Bytes::from_static(&[255, 0])))
            .await
            .expect("fine");
        while let Some(Ok(message)) = socket.next().await {
            if let Some((channel, bytes)) = crate::channel::parse(base64, message) {
                came[usize::from(channel)].extend_from_slice(&bytes);
            }
        }
        assert_eq!(came[1], b"hello");
        assert_eq!(came[2], b"bye");
        assert_eq!(
            String::from_utf8_lossy(&came[3]),
            Ended::Exited(7).to_json()
        );
    }
}

#[tokio::test]
async fn ports_are_forwarded_in_channels() {
    let server = server().await;
    let (open, closed) = (reversing().await, closed().await);
    let url = server
        .port_forward(vec![closed, open], dial())
        .expect("room");
    let mut socket = websocket(&url, "v4.channel.k8s.io").await;
    let mut came = vec![Vec::new(); 4];
    while came.iter().any(|bytes| bytes.len() < 2) || came[1].len() < 4 {
        let message = socket.next().await.expect("it is there").expect("fine");
        let (channel, bytes) = crate::channel::parse(false, message).expect("one of ours");
        came[usize::from(channel)].extend_from_slice(&bytes);
    }
    assert_eq!(came[0], closed.to_le_bytes());
    assert_eq!(came[2], open.to_le_bytes());
    let refused = String::from_utf8_lossy(&came[1][2..]).into_owned();
    assert!(
        refused.starts_with(&format!("forward port {closed}: ")),
        "{refused}"
    );
    assert_eq!(came[3].len(), 2, "no word of a port that is open");
}

#[tokio::test]
async fn a_message_without_measure_ends_the_connection() {
    let server = server().await;
    let (tell, told) = oneshot::channel();
    let url = server.exec(ALL, until_left(tell)).expect("room");
    let mut socket = websocket(&url, "v5.channel.k8s.io").await;
    let _ = socket.send(Message::Binary(vec![0; 2 << 20].into())).await;
    told.await.expect("the program was told");
}
